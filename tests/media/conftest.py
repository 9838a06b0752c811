"""Media for the tests of this folder: real files beside the repository, and others made on the fly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np
import numpy.typing as npt
import pytest

from avpipe.media.ffmpeg import run_ffmpeg

REAL_MEDIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "media"
REAL_FILES = ("no_audio_28fps.mp4", "no_audio_30fps.mp4", "ucf_like_with_audio.avi", "vfr_19.62fps_aac.mp4")


@pytest.fixture(scope="session", params=REAL_FILES)
def real_file(request: pytest.FixtureRequest) -> Path:
    return _real(request.param)


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    return _real


def _real(name: str) -> Path:
    path = REAL_MEDIA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a file with the ffmpeg program: `make(name, video="testsrc2=...", audio="sine=...", **output options)`."""
    folder = tmp_path_factory.mktemp("made")

    def build(name: str, *, video: str | None = None, audio: str | None = None, **options: Any) -> Path:
        recipe = repr((name, video, audio, sorted(options.items())))
        target = folder / hashlib.sha256(recipe.encode()).hexdigest()[:8] / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            inputs = [ffmpeg.input(source, f="lavfi") for source in (video, audio) if source is not None]
            output = ffmpeg.output(*inputs, f"file:{target}", **options)
            run_ffmpeg(output, target, timeout_seconds=60)
        return target

    return build


def picture(number: int, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """A smooth picture that differs clearly from that of any other number: uint8 [H, W, 3]."""
    coarse = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    large = np.kron(coarse, np.ones((height // 3 + 1, width // 4 + 1, 1), dtype=np.uint8))
    return np.ascontiguousarray(large[:height, :width])


@pytest.fixture(scope="session")
def make_vfr(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write frames `picture(0)`, `picture(1)`, ... at given ticks: `make_vfr("a.mp4", ticks, 90000)`."""
    folder = tmp_path_factory.mktemp("vfr")

    def build(
        name: str, ticks: Sequence[int], clock: int, *, codec: str = "libx264", tone_from_seconds: float | None = None,
        keyframe_every: int = 12, **options: str,
    ) -> Path:  # fmt: skip
        target = folder / name
        with av.open(f"file:{target}", "w") as container:
            video = container.add_stream(codec, rate=25, options={"crf": "12", "g": str(keyframe_every), **options})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.time_base = Fraction(1, clock)
            sound = None
            if tone_from_seconds is not None:
                sound = container.add_stream("aac", rate=16000, layout="mono")
            for number, tick in enumerate(ticks):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, clock)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if sound is not None:
                _write_tone(container, sound, tone_from_seconds or 0.0, ticks[-1] / clock)
        return target

    return build


def _write_tone(container: Any, stream: Any, start: float, end: float) -> None:
    for begin in range(round(start * 16000), round(end * 16000), 1024):
        wave = np.sin(2 * np.pi * 440 * np.arange(begin, begin + 1024) / 16000) * 0.5
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture
def program_frames(tmp_path: Path) -> Callable[..., npt.NDArray[np.uint8]]:
    """What the ffmpeg program gives: `program_frames(path, rate, like)`, [n, H, W, 3] with H, W of `like`."""

    def decode(path: Path, rate: str | None, like: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        raw = tmp_path / "frames.rgb"
        video = ffmpeg.input(f"file:{path}", noautorotate=None).video
        mode = {"fps_mode": "passthrough"} if rate is None else {"fps_mode": "cfr"}
        if rate is not None:
            video = video.filter("fps", fps=rate)
        run_ffmpeg(ffmpeg.output(video, f"file:{raw}", f="rawvideo", pix_fmt="rgb24", **mode), path, timeout_seconds=60)
        return np.fromfile(raw, dtype=np.uint8).reshape(-1, *like.shape)

    return decode


@pytest.fixture
def program_samples(tmp_path: Path) -> Callable[[Path, int], npt.NDArray[np.int16]]:
    """The samples that the ffmpeg program gives as signed 16 bit: [n, channels]."""

    def decode(path: Path, channels: int) -> npt.NDArray[np.int16]:
        raw = tmp_path / "samples.s16"
        output = ffmpeg.output(ffmpeg.input(f"file:{path}").audio, f"file:{raw}", f="s16le", acodec="pcm_s16le")
        run_ffmpeg(output, path, timeout_seconds=60)
        return np.fromfile(raw, dtype=np.int16).reshape(-1, channels)

    return decode
