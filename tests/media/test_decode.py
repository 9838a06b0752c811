from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
from test_framerate import select_frames

from avpipe.errors import ClipFailure, Reason
from avpipe.media import source
from avpipe.media.decode import decode_video
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.frames import Tally
from avpipe.media.timeline import read_timeline

DESCRIPTORS = Path("/proc/self/fd")
TWO_SECONDS = "testsrc2=size=64x48:rate=25:duration=2"


def reason_of(path, **options):
    with pytest.raises(ClipFailure) as caught:
        for _ in decode_video(path, rate_hz=25, **options):
            pass
    assert str(path) in caught.value.detail
    return caught.value.reason


def assert_like_the_program(path, program_frames, rates=("25", "1", "30000/1001")):
    for rate in rates:
        numerator, _, denominator = rate.partition("/")
        ours = list(decode_video(path, rate_hz=int(numerator) / int(denominator or 1)))
        theirs = program_frames(path, rate, ours[0])
        assert len(ours) == len(theirs)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_real_files_frames_and_pixels_are_the_programs(real_file, program_frames):
    assert_like_the_program(real_file, program_frames, ["25"])
    every = list(decode_video(real_file, rate_hz=None))
    theirs = program_frames(real_file, None, every[0])
    assert len(every) == len(theirs)
    assert np.array_equal(every[-1], theirs[-1])


# 10-bit, 4:2:2 and 4:1:0 are where PyAV's own conversion differs from the program; the rest guards colour matrices.
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("deep.mkv", {"pix_fmt": "yuv420p10le"}),
        ("deep422.mkv", {"pix_fmt": "yuv422p10le"}),
        ("410.mkv", {"pix_fmt": "yuv410p", "vcodec": "ffv1"}),
        ("full.mp4", {"pix_fmt": "yuvj420p"}),
        ("bt709.mp4", {"vf": "setparams=colorspace=bt709:range=tv:color_primaries=bt709:color_trc=bt709"}),
        ("rgb.mkv", {"pix_fmt": "bgr0", "vcodec": "ffv1"}),
        ("grey.mkv", {"pix_fmt": "gray", "vcodec": "ffv1"}),
        ("palette.gif", {}),
        ("odd.mkv", {"pix_fmt": "yuv420p", "vcodec": "ffv1", "vf": "scale=63:47"}),
        ("interlaced.mpg", {"vcodec": "mpeg2video", "flags": "+ilme+ildct", "top": 1}),
        ("motion.avi", {"vcodec": "mjpeg"}),
        ("web.webm", {"vcodec": "libvpx", "deadline": "realtime", "auto-alt-ref": 1, "lag-in-frames": 16}),
    ],
)
def test_pixels_are_the_programs(make, program_frames, name, options):
    options.pop("top", None)
    assert_like_the_program(make(name, video=TWO_SECONDS, **options), program_frames, ["25", "24"])


@pytest.mark.parametrize("b_frames", [0, 1, 2])
@pytest.mark.parametrize("codec", ["libxvid", "mpeg4"])
def test_avi_with_frames_out_of_order(make, program_frames, codec, b_frames):
    # XviD packs two frames into one packet there, and the time stamps of neighbours come out exchanged.
    path = make(f"{codec}{b_frames}.avi", video=TWO_SECONDS, vcodec=codec, bf=b_frames)
    assert_like_the_program(path, program_frames, ["25", "7", "60"])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_variable_rates(make_vfr, program_frames, container, seed):
    rng = np.random.default_rng(seed)
    clock = 90000 if container == "mp4" else 1000
    gaps = np.maximum(clock // 120, rng.exponential(clock / 20, 40)).astype(int)
    ticks = (int(rng.integers(0, clock)) + np.cumsum(gaps)).tolist()
    path = make_vfr(f"vfr{seed}.{container}", ticks, clock, tone_from_seconds=0.0)
    assert_like_the_program(path, program_frames, ["25", "1", "60"])


def test_late_video_starts_with_copies_of_its_first_frame(make_vfr, program_frames):
    path = make_vfr("late.mkv", range(1200, 2200, 40), 1000, tone_from_seconds=0.0)
    frames = list(decode_video(path, rate_hz=25))
    assert len(frames) > 50
    assert all(frame is frames[0] for frame in frames[:30])
    assert_like_the_program(path, program_frames, ["25"])


def test_repeats_are_the_same_array(make):
    path = make("slow.mp4", video="testsrc2=size=64x48:rate=5:duration=2")
    frames = list(decode_video(path, rate_hz=25))
    assert len(frames) == 50
    assert len({id(frame) for frame in frames}) == 10
    assert frames[0].dtype == np.uint8
    assert frames[0].shape == (48, 64, 3)


def test_frames_do_not_depend_on_threads(real):
    path = real("no_audio_28fps.mp4")
    pairs = zip(decode_video(path, rate_hz=5), decode_video(path, rate_hz=5, threads=3), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("segment", [(0, 0.7), (0.3, None), (1.237, 4.019), (3.96, 4.0), (7.777, 30)])
def test_a_segment_is_what_the_whole_file_shows_then(real, segment):
    # Independent of the code under test: all frames, their time stamps, and the rule applied to both by hand.
    path = real("no_audio_30fps.mp4")
    start, end = segment[0], min(segment[1] or 10.0, 10.0)
    every = list(decode_video(path, rate_hz=None))
    times = np.arange(300) / 30
    first = int(np.searchsorted(times, start, side="right")) - 1
    last = int(np.searchsorted(times, end - 1e-9))
    shifted = np.maximum(times[first:last] - start, 0)
    chosen = first + select_frames(shifted, end - start - shifted[-1], 25)
    frames = list(decode_video(path, rate_hz=25, start_seconds=segment[0], end_seconds=segment[1]))
    assert len(frames) == len(chosen) > 0
    assert all(np.array_equal(frame, every[index]) for frame, index in zip(frames, chosen, strict=True))
    plain = list(decode_video(path, rate_hz=None, start_seconds=segment[0], end_seconds=segment[1]))
    assert len(plain) == last - first
    assert np.array_equal(plain[0], every[first])


def test_a_segment_is_reached_by_seeking(make, monkeypatch):
    path = make("keys.mp4", video="testsrc2=size=64x48:rate=25:duration=20", g=25)
    decoded = []
    count = Tally.add_packet
    monkeypatch.setattr(Tally, "add_packet", lambda self, packet: (decoded.append(packet), count(self, packet)))
    frames = list(decode_video(path, rate_hz=25, start_seconds=15.5, end_seconds=16))
    assert len(frames) == 13
    assert len(decoded) < 60


def test_a_segment_after_the_end_is_too_short(make):
    path = make("plain.mp4", video=TWO_SECONDS)
    assert reason_of(path, start_seconds=2.0) is Reason.TOO_SHORT
    assert len(list(decode_video(path, rate_hz=25, start_seconds=1.96))) == 1


@pytest.mark.parametrize("segment", [(-1, None), (2, 2), (3, 1), (1, 1.0001)])
def test_a_segment_must_make_sense(make, segment):
    with pytest.raises(ValueError, match="expected 0 <= start < end"):
        decode_video(make("plain.mp4", video=TWO_SECONDS), rate_hz=25, start_seconds=segment[0], end_seconds=segment[1])


def test_a_rate_must_make_sense(make):
    with pytest.raises(ValueError, match="frame rate"):
        decode_video(make("plain.mp4", video=TWO_SECONDS), rate_hz=0)


def tag(path, target, degrees, *mirrors):
    """Copy a file with a rotation tag, `degrees` counted against the clock; mirrors are hflip and vflip."""
    source = ffmpeg.input(str(path), display_rotation=degrees, **{f"display_{name}": None for name in mirrors})
    run_ffmpeg(ffmpeg.output(source, str(target), c="copy"), target, timeout_seconds=60)
    return target


def filtered_by_the_program(path, folder, rate, shape, **scale):
    """The frames of the ffmpeg program, which follows rotation tags before its filters: [n, *shape]."""
    video = ffmpeg.input(f"file:{path}").video.filter("fps", fps=rate)
    video = video.filter("scale", *scale["size"]) if scale else video
    raw = folder / "filtered.rgb"
    run_ffmpeg(ffmpeg.output(video, f"file:{raw}", f="rawvideo", pix_fmt="rgb24", fps_mode="cfr"), path,
               timeout_seconds=60)  # fmt: skip
    return np.fromfile(raw, dtype=np.uint8).reshape(-1, *shape)


def test_by_default_rotation_is_not_applied(make, tmp_path, program_frames):
    turned = tag(make("plain.mp4", video=TWO_SECONDS), tmp_path / "turned.mp4", 90)
    assert next(decode_video(turned, rate_hz=25)).shape == (48, 64, 3)
    assert_like_the_program(turned, program_frames, ["25"])


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("odd.mkv", {"pix_fmt": "yuv420p", "vcodec": "ffv1", "vf": "scale=63:47"}),
        ("422.mkv", {"pix_fmt": "yuv422p", "vcodec": "ffv1"}),
        ("deep422.mkv", {"pix_fmt": "yuv422p10le", "vcodec": "ffv1"}),
    ],
)
def test_upright_frames_are_the_programs(make, tmp_path, degrees, name, options):
    turned = tag(make(name, video=TWO_SECONDS, **options), tmp_path / name, degrees)
    frames = list(decode_video(turned, rate_hz=7, orientation="upright"))
    assert (frames[0].shape[0] > frames[0].shape[1]) == (degrees != 180)
    # With 4:2:2 the program needs a `scale` to convert after turning, as here; without, it turns RGB (2 levels apart).
    scale = {"size": frames[0].shape[1::-1]} if "422" in name else {}
    assert np.array_equal(frames, filtered_by_the_program(turned, tmp_path, 7, frames[0].shape, **scale))
    assert not np.array_equal(frames, np.reshape(list(decode_video(turned, rate_hz=7)), np.shape(frames)))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrors", [["hflip"], ["vflip"], ["hflip", "vflip"]])
def test_mirrored_frames_are_the_programs(make, tmp_path, degrees, mirrors):
    turned = tag(make("plain.mp4", video=TWO_SECONDS), tmp_path / "turned.mp4", degrees, *mirrors)
    frames = list(decode_video(turned, rate_hz=7, orientation="upright"))
    assert np.array_equal(frames, filtered_by_the_program(turned, tmp_path, 7, frames[0].shape))


def half_and_a_bit(width, height):
    return width // 2 + 5, height // 2


@pytest.fixture(scope="module")
def three_seconds(real, tmp_path_factory):
    """The beginning of a real film, its packets as they are."""
    path, target = real("no_audio_30fps.mp4"), tmp_path_factory.mktemp("short") / "film.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(path)), str(target), c="copy", t=3), path, timeout_seconds=60)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("orientation", ["upright", "squeezed"])
@pytest.mark.parametrize("rate", ["1", "24", "30000/1001"])
def test_resized_frames_are_the_programs(three_seconds, tmp_path, rate, orientation, degrees):
    path = tag(three_seconds, tmp_path / "turned.mp4", degrees)
    height, width = next(decode_video(path, rate_hz=25)).shape[:2]
    sideways = degrees in (90, 270) and orientation == "upright"
    size = half_and_a_bit(*(height, width) if sideways else (width, height))
    numerator, _, denominator = rate.partition("/")
    options = {"size": half_and_a_bit, "orientation": orientation}
    frames = list(decode_video(path, rate_hz=int(numerator) / int(denominator or 1), **options))
    assert np.array_equal(frames, filtered_by_the_program(path, tmp_path, rate, (size[1], size[0], 3), size=size))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p", "bgr0", "gray"])
@pytest.mark.parametrize("size", [(31, 23), (101, 149), (1, 1)])
def test_resized_formats_are_the_programs(make, tmp_path, pixel_format, size):
    path = make("a.mkv", video=TWO_SECONDS, pix_fmt=pixel_format, vcodec="ffv1")
    frames = list(decode_video(path, rate_hz=3, size=lambda width, height: size))
    assert np.array_equal(frames, filtered_by_the_program(path, tmp_path, 3, (size[1], size[0], 3), size=size))


def test_all_frames_have_the_size_chosen_for_the_first(make, tmp_path):
    first, second = (
        make(f"{size}.h264", video=f"testsrc2=size={size}:rate=25:duration=1") for size in ("64x48", "96x64")
    )
    path = tmp_path / "both.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    asked = []
    frames = list(decode_video(path, rate_hz=25, size=lambda *size: asked.append(size) or (40, 30)))
    assert asked == [(64, 48)]
    assert {frame.shape for frame in frames} == {(30, 40, 3)}
    assert len(frames) >= 49


def test_one_frame(make):
    path = make("one.mp4", video=TWO_SECONDS, **{"frames:v": 1})
    assert len(list(decode_video(path, rate_hz=25))) == 1
    assert len(list(decode_video(path, rate_hz=1))) == 0
    assert len(list(decode_video(path, rate_hz=None))) == 1


def test_failures(make, tmp_path):
    assert reason_of(tmp_path / "none.mp4") is Reason.MISSING
    (tmp_path / "empty.mp4").touch()
    assert reason_of(tmp_path / "empty.mp4") is Reason.DECODE_ERROR
    assert reason_of(make("sound.m4a", audio="sine=duration=1")) is Reason.NO_VIDEO


@pytest.mark.parametrize("name", ["cut.avi", "cut.mp4", "cut.mkv"])
def test_truncated(make, tmp_path, name):
    options = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    whole = make(name, video="testsrc2=size=64x48:rate=25:duration=10", audio="sine=duration=10", **options)
    assert len(list(decode_video(whole, rate_hz=25))) >= 250
    content = whole.read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    assert reason_of(tmp_path / name) is Reason.DECODE_ERROR


def test_a_hole_in_the_middle(real, tmp_path):
    content = bytearray(real("no_audio_28fps.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\x55" * 200
    path = tmp_path / "hole.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipFailure, match=r"5\.0\d+ s") as caught:
        list(decode_video(path, rate_hz=25))
    assert caught.value.reason is Reason.DECODE_ERROR
    # What is before the hole can still be used.
    assert len(list(decode_video(path, rate_hz=25, end_seconds=4))) == 100


def open_files():
    return len(list(DESCRIPTORS.iterdir()))


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc to count open files")
def test_the_file_is_closed_when_the_consumer_stops_early(make):
    path = make("plain.mp4", video=TWO_SECONDS)
    before = open_files()
    frames = decode_video(path, rate_hz=25)
    assert len(list(itertools.islice(frames, 3))) == 3
    assert open_files() == before + 1
    frames.close()
    assert open_files() == before


def test_memory_does_not_grow_with_length(make):
    # 10 minutes at 2 frames a second, 25 out: 15,000 frames of 300 kB, 4.6 GB in all.
    path = make("long.mp4", video="color=size=320x320:rate=2:duration=600", preset="ultrafast")
    program = (
        "import resource, sys\n"
        "from avpipe.media.decode import decode_video\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "frames = decode_video(sys.argv[1], rate_hz=25)\n"
        "for _ in range(500): next(frames)\n"
        "early = peak()\n"
        "print(500 + sum(1 for _ in frames), peak() - early)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    count, growth_kilobytes = map(int, run.stdout.split())
    assert count == 15000
    assert growth_kilobytes < 10_000


@pytest.mark.parametrize("segment", [(float("nan"), None), (0, float("inf")), (float("-inf"), 1)])
def test_a_segment_must_be_finite(make, segment):
    with pytest.raises(ValueError, match="finite"):
        decode_video(make("plain.mp4", video=TWO_SECONDS), rate_hz=25, start_seconds=segment[0], end_seconds=segment[1])


@pytest.mark.parametrize("ticks", [(0, 40, 8000), (8000, 8040)])
def test_a_damaged_time_stamp_does_not_become_hours_of_one_frame(make_vfr, monkeypatch, ticks):
    monkeypatch.setattr(source, "LONGEST_GAP_SECONDS", 5)
    path = make_vfr(f"jump{ticks[0]}.mkv", ticks, 1000, tone_from_seconds=0.0 if ticks[0] else None)
    with pytest.raises(ClipFailure, match=r"decode_error.*the video jumps from .* to 8\.0") as caught:
        list(itertools.islice(decode_video(path, rate_hz=25), 200))
    assert caught.value.reason is Reason.DECODE_ERROR
    with pytest.raises(ClipFailure, match="the video jumps"):
        read_timeline(path)


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"]
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8"])
def test_a_list_of_other_files_is_no_media_file(make, text, name):
    other = make("plain.ts", video=TWO_SECONDS)
    path = other.with_name(name)
    path.write_text(text.format(other.name))
    assert reason_of(path) is Reason.DECODE_ERROR
