"""Files joined by `cat`: everything on one clock, or a failure that says so."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.decode import decode_video, read_audio
from avpipe.media.joined import CommonClock
from avpipe.media.probe import probe_media
from avpipe.media.timeline import read_timeline

RATE = 48_000
# The picture is white from 1 s to 1.4 s, when a tone is heard.
PICTURE = "color=size=64x48:rate=25:duration=3,drawbox=color=white:t=fill:enable='between(t,1,1.39)'"
TONE = f"aevalsrc='sin(2000*t)*between(t,1,1.4)':sample_rate={RATE}:duration=3"
H264 = {"vcodec": "libx264", "preset": "ultrafast", "bf": 2, "g": 25, "acodec": "aac"}
VP8 = {"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8, "acodec": "libopus"}
READABLE = {
    "a.mpg": {"vcodec": "mpeg2video", "acodec": "mp2", "bf": 2},
    "a.vob": {"vcodec": "mpeg2video", "acodec": "ac3", "bf": 2, "f": "vob"},
    "a.ts": H264,
    "a.m2ts": H264 | {"acodec": "ac3"},
    "a.mkv": H264,
    "a.webm": VP8,
    "live.webm": VP8 | {"live": 1},
    "a.ogv": {"vcodec": "libtheora", "acodec": "libvorbis"},
}
REFUSED = {
    "a.flv": H264,
    "a.asf": {"vcodec": "wmv2", "acodec": "wmav2"},
    "a.mp4": H264,
    "a.avi": {"vcodec": "mpeg4", "acodec": "libmp3lame"},
}


@pytest.fixture
def joined(make, tmp_path):
    def build(name, times=2, video=PICTURE, audio=TONE):
        part = make(name, video=video, audio=audio, **(READABLE | REFUSED)[name])
        path = tmp_path / name
        path.write_bytes(part.read_bytes() * times)
        return part, path

    return build


def first_of(mask):
    """Indices at which something begins."""
    return np.flatnonzero(np.diff(mask.astype(int), prepend=0) == 1)


@pytest.mark.parametrize("name", READABLE)
def test_all_parts_are_there_and_aligned(joined, name):
    # Of Matroska FFmpeg reads two segments, unless they were written live.
    times = 2 if name in ("a.mkv", "a.webm") else 3
    part, path = joined(name, times)
    length = probe_media(part).video.duration_seconds
    assert probe_media(path).video.packets == times * probe_media(part).video.packets
    frames = np.stack(list(decode_video(path, rate_hz=25)))
    assert len(frames) == pytest.approx(75 * times, abs=5)  # sound that begins first, or lasts longer
    flashes = first_of(frames.mean(axis=(1, 2, 3)) > 128) / 25
    assert len(flashes) == times
    assert np.diff(flashes) == pytest.approx([length] * (times - 1), abs=0.1)
    sound, rate = read_audio(path)
    loud = np.abs(sound[: len(sound) // 480 * 480, 0].astype(int)).reshape(-1, 480).max(axis=1) > 5000
    beeps = [time for time in first_of(loud) / 100 if loud[int(time * 100) + 5]]
    beeps = [time for i, time in enumerate(beeps) if not i or time - beeps[i - 1] > 1]
    assert rate == RATE
    assert beeps == pytest.approx(list(flashes), abs=0.07)
    assert len(read_timeline(path).times) == times * len(read_timeline(part).times)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.mkv", "a.webm", "live.webm"])
def test_a_segment_is_what_the_joined_file_shows_then(joined, name):
    _, path = joined(name)
    whole = list(decode_video(path, rate_hz=25))
    for start, end in ((2.0, 3.5), (3.6, 4.6), (4.4, 5.2)):
        segment = list(decode_video(path, rate_hz=25, start_seconds=start, end_seconds=end))
        expected = whole[round(start * 25) : round(end * 25)]
        assert len(segment) == len(expected)
        assert all(np.array_equal(a, b) for a, b in zip(segment, expected, strict=True))


@pytest.mark.parametrize(("name", "times"), [*((name, 2) for name in REFUSED), ("a.mkv", 3), ("a.webm", 4)])
def test_where_ffmpeg_does_not_read_all(joined, name, times):
    part, path = joined(name, times)
    probe_media(part)
    for read in (probe_media, read_audio, lambda path: list(decode_video(path, rate_hz=25))):
        with pytest.raises(ClipFailure, match="another one begins at byte") as caught:
            read(path)
        assert caught.value.reason is Reason.DECODE_ERROR
        begin = part.stat().st_size * (1 if name in REFUSED else 2)
        assert f"at byte {begin:,}" in caught.value.detail or name.endswith(("mkv", "webm"))


def test_a_long_avi_of_several_lists_is_one(make, tmp_path):
    content = make("a.avi", video=PICTURE, vcodec="mpeg4").read_bytes()
    path = tmp_path / "long.avi"
    path.write_bytes(content + b"RIFF" + (4).to_bytes(4, "little") + b"AVIX")
    probe_media(path)


def packet(stream, ticks, *, key=True, duration=1, rate=10):
    kind = SimpleNamespace(index=stream, type=("video", "audio")[stream], average_rate=rate)
    return SimpleNamespace(
        stream=kind, pts=ticks, dts=ticks, duration=duration, is_keyframe=key, time_base=Fraction(1, 10)
    )


def test_one_stream_that_jumps_alone_is_damage():
    clock = CommonClock(SimpleNamespace(name="file:a.ts"))
    for ticks in range(50):
        clock.place(packet(0, ticks))
        clock.place(packet(1, ticks))
    with pytest.raises(ClipFailure, match=r"a\.ts: time stamps jump back, those of the audio do not"):
        for ticks in range(20):
            clock.place(packet(0, ticks))
            clock.place(packet(1, 50 + ticks))


@pytest.mark.parametrize(("ticks_each", "rate"), [(1, 10), (10, 1), (50, Fraction(1, 5)), (1, None)])
def test_pictures_out_of_order_are_no_jump(ticks_each, rate):
    """Of any rate: slides of one picture in five seconds are decoded in another order, too."""
    clock = CommonClock(SimpleNamespace(name="file:a.ts"))
    shown = [ticks_each * number for number in (0, 8, 4, 2, 6, 16, 12, 10, 14)]
    placed = [packet(0, ticks, key=ticks == 0, duration=ticks_each, rate=rate) for ticks in shown]
    for each in placed:
        clock.place(each)
    assert [each.pts for each in placed] == shown


@pytest.mark.parametrize(
    ("name", "rate"), [("slides.mkv", "1"), ("slides.ts", "1"), ("slides.ts", "1/4"), ("slides.mp4", "1/4")]
)
def test_slides_with_pictures_out_of_order_are_whole(make, name, rate):
    """A picture a second or less with B-frames: as lectures and screens are recorded."""
    path = make(name, video=f"testsrc2=size=64x48:rate={rate},trim=end_frame=20", vcodec="libx264")
    assert probe_media(path).video.packets == 20 and len(list(decode_video(path, rate_hz=None))) == 20
