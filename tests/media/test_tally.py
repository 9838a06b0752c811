"""Packets against pictures, FFmpeg's complaints and a key frame at the start, in every container."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decode import decode_video
from avpipe.media.ffmpeg_log import harmful
from avpipe.media.probe import probe_media
from avpipe.media.tally import find_late_key
from avpipe.media.timeline import read_timeline

PICTURE = "testsrc2=size=64x48:rate=25:duration=4"
X264 = {"vcodec": "libx264", "preset": "medium", "g": 25}
OPEN = {"g": 25, "bf": 3}
X264_OPEN = OPEN | {"vcodec": "libx264", "x264-params": "open-gop=1:scenecut=0"}
X265_OPEN = OPEN | {"vcodec": "libx265", "x265-params": "open-gop=1:scenecut=0:keyint=25:log-level=none"}


def remuxed(source: Path, target: Path, keep: Callable[[int, av.Packet], bool]) -> Path:
    """Some packets of a file's video, in the container that the target's name asks for."""
    with av.open(str(source)) as given, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        number = 0
        for packet in given.demux(given.streams.video[0]):
            if packet.size:
                if keep(number, packet):
                    packet.stream = stream
                    written.mux(packet)
                number += 1
    return target


def reason_and_detail(path: Path, **segment: float) -> tuple[Reason, str]:
    with pytest.raises(ClipFailure) as caught:
        list(decode_video(path, rate_hz=25, **segment))
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.mpg"])
def test_a_video_without_a_key_frame_at_its_start(make, tmp_path, name):
    codec = {"vcodec": "mpeg2video", "g": 25} if name == "a.mpg" else X264
    source = make(f"source.{'mpg' if name == 'a.mpg' else 'mp4'}", video=PICTURE, **codec)
    # The key frames of three seconds are left out.
    broken = remuxed(source, tmp_path / name, lambda i, packet: i >= 75 or not packet.is_keyframe)
    expected = "the video does not begin with a key frame: 72 of 97 pictures come before the first one"
    for segment in ({}, {"end_seconds": 2.0}, {"start_seconds": 1.0, "end_seconds": 2.0}, {"start_seconds": 3.5}):
        reason, detail = reason_and_detail(broken, **segment)
        assert reason is Reason.DECODE_ERROR, segment
        # An early segment is judged by what was read for it.
        assert "the video does not begin with a key frame" in detail, (segment, detail)
    with pytest.raises(ClipFailure, match=expected):
        probe_media(broken)


@pytest.mark.parametrize("container", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_picture_that_others_rest_on_is_missing(make, tmp_path, container, codec):
    options = X264 if codec == "libx264" else {"vcodec": codec, "g": 25, "x265-params": "log-level=none"}
    whole = make("whole.mkv", video=PICTURE, **options)
    sizes = [packet.size for packet in av.open(str(whole)).demux() if packet.size]
    missing = max(range(51, 70), key=sizes.__getitem__)
    broken = remuxed(whole, tmp_path / f"broken.{container}", lambda i, _: i != missing)
    reason, detail = reason_and_detail(broken)
    assert reason is Reason.DECODE_ERROR
    assert "damaged picture at 2." in detail and "FFmpeg says: " in detail
    assert reason_and_detail(broken, start_seconds=1.5, end_seconds=3.5)[0] is Reason.DECODE_ERROR
    # A segment that rests on nothing of it is whole.
    assert len(list(decode_video(broken, rate_hz=25, end_seconds=1.6))) == 40


@pytest.mark.parametrize("options", [X264_OPEN, X265_OPEN, OPEN | {"vcodec": "mpeg2video"}])
def test_open_groups_of_pictures_may_be_cut(make, tmp_path, options):
    path = make("open.mkv", video=PICTURE, **options)
    keys = [i for i, packet in enumerate(av.open(str(path)).demux(video=0)) if packet.is_keyframe]
    cut = remuxed(path, tmp_path / "cut.mkv", lambda i, _: i >= keys[1])
    probe_media(cut)
    frames = len(list(decode_video(cut, rate_hz=None)))
    assert 72 <= frames <= 75 + 3
    for start in (1.1, 1.5, 2.02):
        # A seek leads to such a cut as well.
        assert len(list(decode_video(path, rate_hz=25, start_seconds=start, end_seconds=start + 1))) == 25


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alt_ref.webm", {"vcodec": "libvpx", "auto-alt-ref": 1, "lag-in-frames": 16, "deadline": "good", "b:v": "1M"}),
        ("vp9.webm", {"vcodec": "libvpx-vp9", "auto-alt-ref": 1, "lag-in-frames": 16, "cpu-used": 8}),
        ("b_frames.avi", {"vcodec": "mpeg4", "bf": 2}),
        ("interlaced.ts", {"vcodec": "mpeg2video", "flags": "+ildct+ilme"}),
        ("b_frames.flv", X264 | {"bf": 3}),
        ("windows.asf", {"vcodec": "wmv2"}),
        ("animation.gif", {}),
    ],
)
def test_whole_files_stay_whole(make, name, options):
    path = make(name, video=PICTURE, **options)
    probe_media(path)
    assert len(list(decode_video(path, rate_hz=None))) == 100


def test_empty_packets_keep_the_picture_before(make):
    path = make("still.ogv", video="color=size=64x48:rate=25:duration=4", vcodec="libtheora")
    assert sum(packet.size == 0 for packet in av.open(str(path)).demux(video=0)) > 80
    assert probe_media(path).video.duration_seconds == 4
    frames = list(decode_video(path, rate_hz=25))
    assert len(frames) == 100
    assert np.array_equal(frames[-1], frames[0])
    assert read_timeline(path).end == 4


@pytest.mark.parametrize("dropped", [range(70, 100), range(50, 60), [*range(10, 40), *range(90, 100)]])
def test_an_avi_that_drops_pictures(make, tmp_path, dropped):
    content = make("film.avi", video=PICTURE, vcodec="mjpeg").read_bytes()
    path = tmp_path / "dropped.avi"
    path.write_bytes(with_empty_chunks(content, set(dropped)))
    probe_media(path)
    frames = list(decode_video(path, rate_hz=25))
    assert len(frames) == 100
    assert read_timeline(path).end == read_timeline(path, decode=True).end == 4
    if 99 in dropped:
        assert frames[-1] is frames[-10]


def test_an_avi_that_lost_its_end_did_not_drop_it(make, tmp_path):
    content = make("film.avi", video=PICTURE, vcodec="mjpeg").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(content[: len(content) * 7 // 10])
    reason, detail = reason_and_detail(path)
    assert reason is Reason.DECODE_ERROR and ("truncated" in detail or "cut off" in detail)


def with_empty_chunks(content: bytes, numbers: set[int]) -> bytes:
    """An AVI of one stream whose chunks of these numbers hold nothing, in its data and in its index."""
    begin, end = content.index(b"movi") + 4, content.rindex(b"idx1")
    data, index, at, number = b"", b"", begin, 0
    while at < end:
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        body = b"" if number in numbers else content[at + 8 : at + 8 + size]
        index += content[at : at + 4] + struct.pack("<III", 16, 4 + len(data), len(body))
        data += content[at : at + 4] + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
        at, number = at + 8 + size + size % 2, number + 1
    assert number == 100
    head = bytearray(content[:begin])
    head[begin - 8 : begin - 4] = struct.pack("<I", 4 + len(data))
    return bytes(head) + data + b"idx1" + struct.pack("<I", len(index)) + index


def test_side_information_is_no_picture():
    assert not harmful(["SEI type 5 size 800 truncated at 100", "no frame!"])
    assert harmful(["SEI type 5 truncated", "error while decoding MB 3 2"]) == ["error while decoding MB 3 2"]


def test_where_no_packet_is_marked_as_a_key_frame_decoding_tells():
    assert find_late_key(100, 100) is None
    assert find_late_key(4, 100) is None
    assert find_late_key(5, 100) is not None
