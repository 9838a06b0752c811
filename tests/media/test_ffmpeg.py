from __future__ import annotations

import av
import ffmpeg
import pytest

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.media.ffmpeg import ffmpeg_version, judge_run, parse_version, run_ffmpeg


def test_version():
    assert ffmpeg_version()[0] in "n0123456789"
    assert parse_version("ffmpeg version n9.0.2-17 Copyright (c) 2000") == "n9.0.2-17"
    with pytest.raises(AvpipeError, match="install imageio-ffmpeg"):
        parse_version("command not found")


def test_success_and_what_the_program_says(tmp_path):
    assert judge_run(0, "", tmp_path) is None
    failure = judge_run(0, "[h264 @ 0x55a] error while decoding MB 3 4\n", tmp_path)
    assert isinstance(failure, ClipFailure)
    assert failure.reason is Reason.DECODE_ERROR
    assert "[h264] error while decoding MB 3 4" in failure.detail


@pytest.mark.parametrize(
    ("status", "stderr", "reason"),
    [(183, "Invalid data", Reason.DECODE_ERROR), (1, "", Reason.DECODE_ERROR), (-9, "", Reason.OUT_OF_MEMORY)],
)
def test_reasons(tmp_path, status, stderr, reason):
    assert judge_run(status, stderr, tmp_path).reason is reason


@pytest.mark.parametrize(
    ("status", "stderr", "match"),
    [(228, "", "disk is full"), (1, "a.mkv: No space left on device", "disk is full"), (-15, "", "told to stop")],
)
def test_what_is_not_the_clips_fault(tmp_path, status, stderr, match):
    error = judge_run(status, stderr, tmp_path)
    assert isinstance(error, AvpipeError)
    assert match in str(error)


def test_the_disk_is_full(tmp_path):
    full = "/dev/full"
    output = ffmpeg.output(ffmpeg.input("testsrc2=duration=1", f="lavfi"), f"file:{full}", f="rawvideo")
    with pytest.raises(AvpipeError, match="disk is full"):
        run_ffmpeg(output, tmp_path, timeout_seconds=60)


def test_a_run_that_takes_too_long_is_killed(tmp_path):
    output = ffmpeg.output(ffmpeg.input("testsrc2=duration=100000", f="lavfi"), str(tmp_path / "a.null"), f="null")
    with pytest.raises(ClipFailure) as caught:
        run_ffmpeg(output, tmp_path, timeout_seconds=0.3)
    assert caught.value.reason is Reason.TIMEOUT
    assert "0.3 s" in caught.value.detail


def test_no_shell_sees_a_name(tmp_path):
    name = "a; touch owned; $(touch owned) `touch owned` '\".mp4"
    target = tmp_path / name
    output = ffmpeg.output(ffmpeg.input("testsrc2=duration=0.2", f="lavfi"), f"file:{target}")
    run_ffmpeg(output, tmp_path, timeout_seconds=60)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def piped(target, **options):
    """A run that reads raw pictures from its standard input."""
    source = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="rgb24", s="64x48", r=25)
    return ffmpeg.output(source, f"file:{target}", **options)


def endless(pipe):
    while True:
        pipe.write(bytes(64 * 48 * 3))


def test_what_it_is_fed(tmp_path):
    run_ffmpeg(
        piped(tmp_path / "a.avi", vcodec="ffv1"),
        tmp_path,
        timeout_seconds=60,
        feed=lambda pipe: pipe.write(bytes(3 * 64 * 48 * 3)),
    )
    with av.open(str(tmp_path / "a.avi")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_what_goes_wrong_while_it_is_fed(tmp_path):
    def fails(pipe):
        pipe.write(bytes(64 * 48 * 3))
        raise ClipFailure(Reason.NO_VIDEO, "nothing more")

    with pytest.raises(ClipFailure, match="nothing more"):
        run_ffmpeg(piped(tmp_path / "a.avi"), tmp_path, timeout_seconds=60, feed=fails)
    with pytest.raises(AvpipeError, match="disk is full"):
        run_ffmpeg(piped("/dev/full", f="rawvideo"), tmp_path, timeout_seconds=60, feed=endless)
    with pytest.raises(ClipFailure, match=r"timeout.*0\.5 s"):
        run_ffmpeg(piped(tmp_path / "b.null", f="null"), tmp_path, timeout_seconds=0.5, feed=endless)
    with pytest.raises(ClipFailure, match="decode_error"):
        run_ffmpeg(piped(tmp_path / "c.avi", vcodec="none such"), tmp_path, timeout_seconds=60, feed=endless)
