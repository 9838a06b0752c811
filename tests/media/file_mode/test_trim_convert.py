"""Trimming and converting give the frames and samples that streaming the same segment gives."""

from __future__ import annotations

import itertools
from fractions import Fraction

import av
import ffmpeg
import numpy as np
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.clip import Clip
from avpipe.media.cut import Cut, exact_clock, make_cut
from avpipe.media.decode import decode_video, read_audio
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.file_mode.convert import convert_to_rate, h264_format
from avpipe.media.file_mode.encode import keeps_in_h264, write_clip
from avpipe.media.file_mode.trim import trim_clip
from avpipe.media.probe import probe_media, read_media_info

pytestmark = pytest.mark.slow

SEGMENTS = [(None, 1.2), (2.237, 3.019), (0.5, 0.55)]
TWO_SECONDS = "testsrc2=size=64x48:rate=25:duration=2"


def stream(path, segment, rate, orientation="upright"):
    start, end = segment
    return list(decode_video(path, rate_hz=rate, start_seconds=start, end_seconds=end, orientation=orientation))


def trim(path, target, segment):
    return trim_clip(Clip("clip", path, *segment), target, timeout_seconds=60)


def convert(path, target, segment=(None, None), rate=25, crf=10):
    return convert_to_rate(Clip("clip", path, *segment), target, rate_hz=rate, crf=crf, timeout_seconds=60)


def assert_identical(ours, theirs):
    assert len(ours) == len(theirs) > 0
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def assert_same_choice(lossy, exact):
    """Every frame of a near-lossless copy must be close to its own original, and closest to it of its neighbours."""
    assert len(lossy) == len(exact) > 0
    small = [frame[::2, ::2].astype(np.float32) for frame in exact]
    for k, frame in enumerate(lossy):
        near = range(max(0, k - 3), min(len(exact), k + 4))
        distance = {i: np.abs(frame[::2, ::2] - small[i]).mean() for i in near}
        assert distance[k] < 4
        others = [d for i, d in distance.items() if not np.array_equal(exact[i], exact[k])]
        assert not others or distance[k] < min(others)


@pytest.mark.slow
@pytest.mark.parametrize("segment", SEGMENTS)
def test_real_files_three_ways(real_file, tmp_path, segment):
    exact = stream(real_file, segment, 25)
    trimmed, direct, both = tmp_path / "t.mov", tmp_path / "d.mkv", tmp_path / "b.mkv"
    trim(real_file, trimmed, segment)
    assert_identical(stream(trimmed, (None, None), 25), exact)
    # Neighbours are too alike in real films to tell lossy copies apart; at crf 0 there is no loss.
    n_frames = convert(real_file, direct, segment, crf=0)
    assert n_frames == len(exact)
    assert_identical(stream(direct, (None, None), 25), exact)
    convert(trimmed, both, crf=0)
    assert_identical(stream(both, (None, None), 25), exact)
    if probe_media(real_file).audio is not None:
        samples, rate = read_audio(real_file, start_seconds=segment[0], end_seconds=segment[1])
        for path in (trimmed, direct, both):
            assert read_audio(path)[1] == rate
            assert np.array_equal(read_audio(path)[0], samples)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])  # with and without sound
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_variable_rates_late_starts(make_vfr, tmp_path, container, seed):
    rng = np.random.default_rng(100 + seed)
    clock = 90000 if container == "mp4" else 1000
    ticks = int(rng.integers(0, clock)) + np.cumsum(
        np.maximum(clock // 120, rng.exponential(clock / 20, 60)).astype(int)
    )
    sound = 0.0 if seed % 2 else None
    path = make_vfr(f"cut{seed}.{container}", ticks.tolist(), clock, tone_from_seconds=sound)
    for number, segment in enumerate([(None, None), (0.9, 2.1), (1.003, 1.004)]):
        trimmed, converted = tmp_path / f"{number}.mov", tmp_path / f"{number}.mkv"
        trim(path, trimmed, segment)
        for rate in (25, 24, 3):
            assert_identical(stream(trimmed, (None, None), None), stream(path, segment, None))
            exact = stream(path, segment, rate)
            if exact:
                assert_identical(stream(trimmed, (None, None), rate), exact)
                convert(path, converted, segment, rate)
                assert_same_choice(stream(converted, (None, None), rate), exact)


def test_avi_whose_frames_are_out_of_order(make, tmp_path):
    path = make("packed.avi", video=TWO_SECONDS, vcodec="libxvid", bf=2)
    for number, segment in enumerate([(None, None), (0.31, 1.5)]):
        trimmed = tmp_path / f"{number}.mov"
        trim(path, trimmed, segment)
        assert_identical(stream(trimmed, (None, None), 25), stream(path, segment, 25))
        convert(path, tmp_path / f"{number}.mkv", segment)


def tag(path, target, degrees, *mirrors):
    source = ffmpeg.input(str(path), display_rotation=degrees, **{f"display_{name}": None for name in mirrors})
    run_ffmpeg(ffmpeg.output(source, str(target), c="copy"), target, timeout_seconds=60)
    return target


def assert_written_upright(turned, folder, segment):
    """Trim, convert, and convert what was trimmed; the picture must be upright for whoever looks at it."""
    exact = stream(turned, segment, 25)
    trimmed, direct, both = folder / "t.mov", folder / "d.mkv", folder / "b.mkv"
    trim(turned, trimmed, segment)
    convert(turned, direct, segment, crf=0)
    convert(trimmed, both, crf=0)
    for path in (trimmed, direct, both):
        assert probe_media(path).video.rotation_degrees == 0
        assert_identical(stream(path, (None, None), 25), exact)
        assert_identical(stream(path, (None, None), 25, "coded"), exact)
    return exact


@pytest.mark.slow
@pytest.mark.parametrize("segment", [(None, None), (0.5, 1), (1.013, None)])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_pictures_are_written_upright(make, tmp_path, degrees, segment):
    turned = tag(make("plain.mp4", video=TWO_SECONDS, audio="sine=duration=2", g=10), tmp_path / "turned.mp4", degrees)
    exact = assert_written_upright(turned, tmp_path, segment)
    assert exact[0].shape == ((48, 64, 3) if degrees == 180 else (64, 48, 3))
    assert not np.array_equal(exact[0], stream(turned, segment, 25, "coded")[0].reshape(exact[0].shape))


@pytest.mark.parametrize(("degrees", "mirrors"), [(0, ["hflip"]), (0, ["vflip"]), (90, ["hflip"]), (270, ["hflip"])])
def test_mirrored_pictures_are_written_upright(make, tmp_path, degrees, mirrors):
    turned = tag(make("plain.mp4", video=TWO_SECONDS, g=10), tmp_path / "turned.mp4", degrees, *mirrors)
    assert_written_upright(turned, tmp_path, (0.5, 1))


# A picture whose colour is coarser in one direction has another format once it is turned, an odd size another limit.
@pytest.mark.parametrize(
    ("pixel_format", "size", "lossless_as"),
    [
        ("yuv420p", "63:47", "yuv420p"),
        ("yuv420p", "64:47", "yuv420p"),
        ("yuv420p10le", "64:48", "yuv420p10le"),
        ("yuv422p", "64:47", "yuv444p"),
        ("yuvj422p", "64:48", "yuvj444p"),
        ("yuv422p10le", "64:48", "yuv444p10le"),
        ("yuv411p", "64:48", "yuv444p"),
        ("yuyv422", "64:48", "yuv444p"),
        ("bgr0", "63:47", "bgr0"),
    ],
)
def test_sideways_pixel_formats(make, tmp_path, pixel_format, size, lossless_as):
    codec = {"yuvj422p": "mjpeg", "yuyv422": "rawvideo"}.get(pixel_format, "ffv1")
    name = "a.mov" if codec == "rawvideo" else "a.mkv"
    smooth = "gradients=size=64x48:rate=25:duration=0.4:speed=0.2:seed=1"
    path = make(name, video=smooth, vf=f"scale={size}", pix_fmt=pixel_format, vcodec=codec)
    turned = tag(path, tmp_path / name, 90)
    trim(turned, tmp_path / "t.mov", (None, None))
    assert probe_media(tmp_path / "t.mov").video.pixel_format == lossless_as
    exact = stream(turned, (None, None), 25)
    assert_identical(stream(tmp_path / "t.mov", (None, None), 25), exact)
    convert(turned, tmp_path / "c.mkv")
    info = probe_media(tmp_path / "c.mkv").video
    assert f"{info.height}:{info.width}" == size
    lossy = stream(tmp_path / "c.mkv", (None, None), 25)
    assert max(np.abs(a - b.astype(int)).mean() for a, b in zip(lossy, exact, strict=True)) < 3


def test_odd_angles_are_ignored(make, tmp_path):
    turned = tag(make("plain.mp4", video=TWO_SECONDS), tmp_path / "turned.mp4", 45)
    trim(turned, tmp_path / "t.mov", (0.5, 1))
    convert(turned, tmp_path / "c.mkv", (0.5, 1), crf=0)
    exact = stream(turned, (0.5, 1), 25, "coded")
    for path in (turned, tmp_path / "t.mov", tmp_path / "c.mkv"):
        assert_identical(stream(path, (0.5, 1) if path == turned else (None, None), 25), exact)


def test_a_trimmed_file_keeps_the_distances_of_its_frames(make_vfr, tmp_path):
    ticks = [0, 4001, 7500, 12345, 20000, 20800, 33333]
    path = make_vfr("ticks.mp4", ticks, 90000)
    n_frames = trim(path, tmp_path / "t.mov", (0.1, 0.3))
    # 0.1 s is tick 9000: the frame of tick 7500 is on the screen.
    assert n_frames == 4
    assert read_media_info(tmp_path / "t.mov").video.duration_seconds == pytest.approx(0.2)
    with av.open(str(tmp_path / "t.mov")) as container:
        times = sorted(packet.pts * packet.time_base for packet in container.demux() if packet.size)
    assert times == [0, *(Fraction(tick - 9000, 90000) for tick in (12345, 20000, 20800))]


def test_late_sound_stays_in_step(make_vfr, tmp_path):
    path = make_vfr("late_sound.mp4", range(0, 180000, 3600), 90000, tone_from_seconds=0.8)
    for number, segment in enumerate([(None, None), (0.5, 1.5), (1.0, None)]):
        samples, _ = read_audio(path, start_seconds=segment[0], end_seconds=segment[1])
        trim(path, tmp_path / f"{number}.mov", segment)
        convert(path, tmp_path / f"{number}.mkv", segment)
        assert np.array_equal(read_audio(tmp_path / f"{number}.mov")[0], samples)
        assert np.array_equal(read_audio(tmp_path / f"{number}.mkv")[0], samples)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_channels(make, tmp_path, layout):
    audio = f"anoisesrc=duration=2:sample_rate=22050:seed=3,aformat=channel_layouts={layout}"
    path = make(f"{layout}.mp4", video=TWO_SECONDS, audio=audio)
    samples, _ = read_audio(path, start_seconds=0.3, end_seconds=1.1)
    trim(path, tmp_path / "t.mov", (0.3, 1.1))
    convert(tmp_path / "t.mov", tmp_path / "c.mkv")
    assert samples.shape == (17640, {"mono": 1, "stereo": 2, "5.1": 6}[layout])
    assert np.array_equal(read_audio(tmp_path / "t.mov")[0], samples)
    assert np.array_equal(read_audio(tmp_path / "c.mkv")[0], samples)


@pytest.mark.parametrize(
    ("pixel_format", "size", "lossless_as", "converted_as"),
    [
        ("yuv420p", "63:47", "yuv420p", "yuv444p"),
        ("yuv420p", "64:48", "yuv420p", "yuv420p"),
        ("yuv420p10le", "64:48", "yuv420p10le", "yuv420p10le"),
        ("yuv420p10le", "63:48", "yuv420p10le", "yuv444p10le"),
        ("yuvj422p", "64:47", "yuvj422p", "yuvj422p"),
        ("bgr0", "64:48", "bgr0", "yuv444p"),
        ("gray", "64:48", "gray", "yuv444p"),
        ("monob", "64:48", "gray", "yuv444p"),
    ],
)
def test_sizes_and_pixel_formats(make, tmp_path, pixel_format, size, lossless_as, converted_as):
    codec = {"yuvj422p": "mjpeg", "monob": "png"}.get(pixel_format, "ffv1")
    smooth = "gradients=size=64x48:rate=25:duration=0.4:speed=0.2"
    path = make("a.mkv", video=smooth, vf=f"scale={size}", pix_fmt=pixel_format, vcodec=codec)
    exact = stream(path, (None, None), 25)
    trim(path, tmp_path / "t.mov", (None, None))
    assert probe_media(tmp_path / "t.mov").video.pixel_format == lossless_as
    assert_identical(stream(tmp_path / "t.mov", (None, None), 25), exact)
    convert(path, tmp_path / "c.mkv")
    info = probe_media(tmp_path / "c.mkv").video
    assert (info.pixel_format, f"{info.width}:{info.height}") == (converted_as, size)
    lossy = stream(tmp_path / "c.mkv", (None, None), 25)
    assert max(np.abs(a - b.astype(int)).mean() for a, b in zip(lossy, exact, strict=True)) < 3


def test_which_pixel_formats_h264_keeps():
    assert keeps_in_h264("yuv422p", 64, 47)
    assert not keeps_in_h264("yuv422p", 63, 48)
    assert not keeps_in_h264("gray", 64, 48)
    assert h264_format("yuvj420p", 63, 48) == "yuvj444p"


@pytest.mark.parametrize("name", ["a b'\".mp4", "line\nbreak.mp4", "naïve_日本語.mp4", "12:30.mp4", "100%03d.mp4"])
def test_any_file_name(make, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(make("plain.mp4", video=TWO_SECONDS).read_bytes())
    trim(path, path.with_suffix(".mov"), (0.5, 1))
    assert convert(path, path.with_suffix(".mkv"), (0.5, 1)) == 13
    assert {p.suffix for p in tmp_path.iterdir()} == {".mp4", ".mov", ".mkv"}


@pytest.mark.parametrize(("job", "suffix"), [(trim, ".mov"), (convert, ".mkv")])
def test_failures_leave_no_file(make, tmp_path, job, suffix):
    plain = make("plain.mp4", video=TWO_SECONDS)
    whole = make("cut.avi", video="testsrc2=size=64x48:rate=25:duration=10").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    cases = [
        (tmp_path / "none.mp4", (None, None), Reason.MISSING),
        (make("sound.m4a", audio="sine=duration=1"), (None, None), Reason.NO_VIDEO),
        (plain, (2, None), Reason.TOO_SHORT),
        (cut, (None, None), Reason.DECODE_ERROR),
    ]
    for path, segment, reason in cases:
        with pytest.raises(ClipFailure) as caught:
            job(path, tmp_path / f"out{suffix}", segment)
        assert caught.value.reason is reason
        assert str(path) in caught.value.detail
    assert [path.name for path in tmp_path.iterdir()] == ["cut.avi"]
    with pytest.raises(ValueError, match="expected a target that ends in"):
        job(plain, tmp_path / "out.xyz", (None, None))


def test_less_than_one_output_frame_is_too_short(make, tmp_path):
    with pytest.raises(ClipFailure) as caught:
        convert(make("plain.mp4", video=TWO_SECONDS), tmp_path / "c.mkv", (0, 0.4), rate=1)
    assert caught.value.reason is Reason.TOO_SHORT


def test_a_file_that_yields_other_frames_than_promised_is_refused(make, tmp_path, monkeypatch):
    path = make("plain.mp4", video=TWO_SECONDS)
    monkeypatch.setattr("avpipe.media.file_mode.convert.write_clip", lambda *args, **kw: write_clip(*args, **kw) + 1)
    with pytest.raises(ClipFailure, match=r"wrote 50 frames.*51"):
        convert(path, tmp_path / "c.mkv")
    assert not any(tmp_path.iterdir())


def test_too_slow(make, tmp_path):
    path = make("long.mp4", video="testsrc2=size=320x240:rate=25:duration=20", preset="ultrafast")
    with pytest.raises(ClipFailure) as caught:
        convert_to_rate(Clip("clip", path), tmp_path / "c.mkv", rate_hz=25, crf=10, timeout_seconds=0.05)
    assert caught.value.reason is Reason.TIMEOUT


def test_the_same_input_gives_the_same_bytes(make, tmp_path):
    path = make("sound.mp4", video=TWO_SECONDS, audio="sine=duration=2")
    for name in ("a", "b"):
        convert(path, tmp_path / f"{name}.mkv")
        trim(path, tmp_path / f"{name}.mov", (0.2, 1))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert (tmp_path / "a.mov").read_bytes() == (tmp_path / "b.mov").read_bytes()


def test_cuts_are_to_the_millisecond():
    assert make_cut(1.00049, 2.0006) == Cut(Fraction(1), Fraction(2001, 1000))
    assert make_cut(None, None).is_whole
    assert make_cut(0.1, 0.3).length == Fraction(1, 5)


@pytest.mark.parametrize("denominator", [25, 981, 1000, 12800, 30000, 90000, 1000000])
def test_the_clock_of_a_trimmed_file_is_exact(denominator):
    clock = exact_clock(Fraction(1, denominator))
    assert clock % denominator == clock % 1000 == 0
    assert clock < 2**31


def test_a_frame_lasts_to_the_end_of_the_segment(make, tmp_path):
    # One frame a second, cut inside the second frame: 0.7 s of frame 0, 0.3 s of frame 1.
    path = make("slow.mp4", video="testsrc2=size=64x48:rate=1:duration=5")
    trim(path, tmp_path / "t.mov", (0.3, 1.3))
    lengths = [len(list(group)) for _, group in itertools.groupby(stream(tmp_path / "t.mov", (None, None), 10), key=id)]
    assert lengths == [7, 3]
