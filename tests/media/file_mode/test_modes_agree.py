"""Odd files have the same frames, the same sound and the same verdict in file mode as in stream mode."""

from __future__ import annotations

import av
import numpy as np
import pytest

from avpipe.errors import ClipFailure
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video, read_audio
from avpipe.media.file_mode.convert import convert_to_rate
from avpipe.media.file_mode.trim import trim_clip

pytestmark = pytest.mark.slow

RATE = 25
SEGMENTS = [(None, None), (0.5, 1.5), (2.2, 3.3)]
ODD = {
    "avinull_m4.avi", "drift30.mp4", "nokey10.mkv", "og2_cut.ts", "ps_cat.mpg", "silent_first.mkv", "theora.ogv",
    "vp9_resize.webm", "zl_mid_h264.mp4",
}  # fmt: skip
TONE = "sine=duration=3:sample_rate=44100"


def pictures(size="64x48", seconds=3):
    return f"testsrc2=size={size}:rate={RATE}:duration={seconds}"


def outcome(path, segment):
    """Frames upright and samples of a clip, or the reason why it has none; a file may have no sound."""
    start, end = segment
    try:
        frames = list(decode_video(path, rate_hz=RATE, start_seconds=start, end_seconds=end, orientation="upright"))
        try:
            return frames, read_audio(path, start_seconds=start, end_seconds=end)[0]
        except ClipFailure as failure:
            if failure.reason != "no_audio":
                raise
            return frames, None
    except ClipFailure as failure:
        return failure.reason


def in_files(path, segment, folder, *, trimmed):
    """The same after conversion, of the file or of the segment that was cut out of it."""
    converted, source = folder / "c.mkv", Clip("clip", path, *segment)
    try:
        if trimmed:
            trim_clip(source, folder / "t.mov", timeout_seconds=60)
            source = Clip("clip", folder / "t.mov")
        convert_to_rate(source, converted, rate_hz=RATE, crf=0, timeout_seconds=60)
    except ClipFailure as failure:
        return failure.reason
    return outcome(converted, (None, None))


def assert_modes_agree(path, folder, *, is_scaled=False):
    for segment in SEGMENTS:
        stream = outcome(path, segment)
        for trimmed in (False, True):
            files = in_files(path, segment, folder, trimmed=trimmed)
            if isinstance(stream, str) or isinstance(files, str):
                assert files == stream, (segment, trimmed)
                continue
            assert len(files[0]) == len(stream[0])
            # File mode scales a picture of another size before its colour, which is coarser, becomes RGB.
            most = max(np.abs(a.astype(int) - b).mean() for a, b in zip(files[0], stream[0], strict=True))
            assert most < 8 if is_scaled else most == 0
            assert (files[1] is None) == (stream[1] is None or not len(stream[1]))
            assert files[1] is None or np.array_equal(files[1], stream[1])


@pytest.mark.parametrize("name", sorted(ODD))
def test_files_of_public_reports(real, tmp_path, name):
    assert_modes_agree(real(f"odd/{name}"), tmp_path, is_scaled=name == "vp9_resize.webm")


def copy_packets(source, target, is_kept):
    """Copy the packets of the pictures for which `is_kept(number, packet)` holds, and all of the sound."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        streams = {stream.index: write.add_stream_from_template(stream) for stream in read.streams}
        number = 0
        for packet in read.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                number += 1
                if not is_kept(number, packet):
                    continue
            packet.stream = streams[packet.stream.index]
            write.mux(packet)
    return target


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "mpeg2video"), ("ts", "libx264"), ("mpg", "mpeg2video")])
def test_picture_sizes_that_change(make, tmp_path, suffix, codec):
    parts = [
        make(f"{size}.{suffix}", video=pictures(size), audio=TONE, vcodec=codec, acodec="mp2", bf=0, g=12)
        for size in ("64x48", "96x80")
    ]
    path = tmp_path / f"both.{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert_modes_agree(path, tmp_path, is_scaled=True)


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "mpeg2video"), ("mkv", "libx264"), ("mp4", "libx264")])
def test_open_groups_of_pictures(make, tmp_path, suffix, codec):
    options = {"x264-params": "open-gop=1:keyint=12:bframes=2"} if codec == "libx264" else {"bf": 2, "g": 12}
    source = make(f"open.{suffix}", video=pictures(), audio=TONE, vcodec=codec, **options)
    # The pictures after the second key frame that are shown before it rest on what is gone.
    path = copy_packets(source, tmp_path / f"cut.{suffix}", lambda number, packet: number > 12)
    assert_modes_agree(path, tmp_path)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "mpeg4"), ("ts", "libx264"), ("mp4", "libx264"), ("avi", "mpeg4")]
)
def test_no_key_frame_at_the_start(make, tmp_path, suffix, codec):
    source = make(f"keys.{suffix}", video=pictures(), audio=TONE, vcodec=codec, bf=0, g=50)
    path = copy_packets(source, tmp_path / f"late.{suffix}", lambda number, packet: number > 1)
    assert_modes_agree(path, tmp_path)


@pytest.mark.parametrize(("suffix", "codec"), [("mpg", "mpeg2video"), ("ts", "libx264"), ("flv", "flv1")])
def test_time_stamps_that_jump_back(make, tmp_path, suffix, codec):
    options = {} if codec == "libx264" else {"bf": 0}
    audio = {"acodec": "libmp3lame"} if suffix == "flv" else {}
    source = make(f"part.{suffix}", video=pictures(), audio=TONE, vcodec=codec, **options, **audio)
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(source.read_bytes() * 2)
    assert_modes_agree(path, tmp_path)


@pytest.mark.parametrize("drop", [range(20, 30), range(40, 75)])
def test_pictures_that_are_missing(make, tmp_path, drop):
    source = make("whole.mkv", video=pictures(), audio=TONE, vcodec="libx264", bf=2, g=25)
    path = copy_packets(source, tmp_path / "gaps.mkv", lambda number, packet: number not in drop)
    assert_modes_agree(path, tmp_path)


def test_sound_that_begins_after_the_segment(make_vfr, tmp_path):
    path = make_vfr("late.mp4", range(0, 360000, 3600), 90000, tone_from_seconds=1.8)
    assert_modes_agree(path, tmp_path)
