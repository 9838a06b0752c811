"""What each extractor makes of small films, step by step, so that a mismatch says where it starts.

A step whose name ends in brackets is of another setting than the extractor's own (corrected) ones.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
import torch

from avpipe.demo.encode import encode
from avpipe.demo.render import picture, sound
from avpipe.demo.zero_shot import ClipSpec, Oddity, plan_demo, render_clip
from avpipe.features import c3d, resnet152, resnext101
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.frame_size import resized_frames, size_rule
from avpipe.features.resample import resample
from avpipe.features.selavi_frontend import crop_picture
from avpipe.features.spectrogram_frontend import mono_blocks
from avpipe.features.types import Extractor, Features, Rows, Window
from avpipe.features.vggish_frontend import to_mono
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks, decode_video, read_audio
from avpipe.media.frames import RgbFrame
from avpipe.registry import EXTRACTORS
from avpipe.settings import Fidelity
from avpipe.weights import load_weights

Step = list[float]
Steps = dict[str, Step]
Films = dict[str, Path]
Key = bytes
PUBLISHED: Fidelity = "published"
ABSENT = -1
"""In the place of a frame's number, where a window is filled up."""


@dataclass(frozen=True)
class Tolerance:
    """How far a step's numbers may be from the recorded ones.

    Attributes:
        absolute: added to `of_largest`.
        of_largest: as a fraction of the step's largest number.
        reason: why so much.
    """

    absolute: float
    of_largest: float
    reason: str


# Measured with PyAV 18's FFmpeg held to fewer instructions: with those up to AVX everything is as with AVX2; with SSE2
# alone the conversion to RGB at a film's own size moves pixels by up to 2, and without any of them samples of MP3 by 1.
_BYTES = Tolerance(0, 0, "exact: whole numbers, the same on every x86-64 processor with AVX")
_CHOICE = Tolerance(0, 0, "exact: numbers of frames and samples, and quotients of them")
_SUMS = Tolerance(0, 1e-3, "float32 sums in other orders on other CPUs: 2e-6, and MP3's rounding where there is sound")
TOLERANCES = {
    "decoded pictures": _BYTES,
    "decoded sound": Tolerance(2, 0, "MP3 is decoded in float32: other CPUs may round a sample to its neighbour"),
    "frames chosen": _CHOICE,
    "samples chosen": _CHOICE,
    "pixels": _BYTES,
    "resampled sound": Tolerance(
        1e-4, 0, "decoded samples may differ by 1/32768, and weights of the filter add up to 1"
    ),
    "network input": Tolerance(0, 1e-6, "a few units in the last place of float32"),
    "network input of sound": Tolerance(2e-3, 0, "logarithms of energies: what decoding may differ by, in quiet bands"),
    "decibels": Tolerance(0.02, 0, "what decoding may differ by, in quiet bands"),
    "network output": _SUMS,
    "rows": _SUMS,
    "bytes": Tolerance(1, 0, "truncated: a difference of 1e-6 may cross a boundary"),
    "pooled": _SUMS,
    "pooled bytes": Tolerance(1, 0, "the mean of such bytes"),
}


def tolerance_of(step: str) -> Tolerance:
    """Tolerance of a step, whatever its setting in brackets."""
    return TOLERANCES[step.split(" (")[0]]


def first_difference(recorded: Steps, now: Steps) -> str | None:
    """Name the first step whose numbers differ, with the largest difference; None where all agree."""
    if list(recorded) != list(now):
        return f"has the steps {list(now)}, recorded are {list(recorded)}"
    for step, expected in recorded.items():
        allowed = tolerance_of(step)
        if len(now[step]) != len(expected):
            return f"starts to differ at {step!r}: {len(now[step])} numbers, recorded are {len(expected)}"
        theirs, ours = np.array(expected, np.float64), np.array(now[step], np.float64)
        off = np.abs(ours - theirs)
        limit = allowed.absolute + allowed.of_largest * np.abs(theirs).max()
        if not (off <= limit).all():
            worst = int(np.argmax(np.where(np.isnan(off), np.inf, off - limit)))
            return (
                f"starts to differ at {step!r}: {np.sum(~(off <= limit))} of {len(expected)} numbers, most of all "
                f"number {worst}, {ours[worst]:.9g} in place of {theirs[worst]:.9g}; "
                f"allowed is {limit:.3g} ({allowed.reason})"
            )
    return None


def make_films(folder: Path) -> Films:
    """Films whose frames all differ: of the demo dataset at 25 and 30 Hz, one of 3.2 s, and that one turned."""
    plain, fast = (next(spec for spec in plan_demo() if spec.oddity is oddity) for oddity in (None, Oddity.RATE_30))
    films = {name: folder / name for name in ("demo.avi", "demo30.avi", "long.avi", "turned.mp4")}
    render_clip(plain, films["demo.avi"])
    render_clip(fast, films["demo30.avi"])
    _render_long(plain, films["long.avi"])
    source, target = str(films["long.avi"]), str(films["turned.mp4"])
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90"]
    subprocess.run([*program, "-i", source, "-an", "-c", "copy", target], check=True, timeout=60)
    return films


def _render_long(spec: ClipSpec, target: Path) -> None:
    ticks, variation = list(range(80)), spec.variation
    pictures = (picture(spec.demo, variation, tick / 25) for tick in ticks)
    encode(target, pictures, ticks, Fraction(1, 25), sound(spec.demo, variation, 3.2))


def extractor_steps(name: str, films: Films) -> Steps:
    """All steps of one extractor, in order."""
    if name not in _STEPS:
        raise KeyError(f"{name} has no steps yet: add a function to {Path(__file__).name}, under @steps_of({name!r})")
    return {step: [_plain(value) for value in values] for step, values in _STEPS[name](films)}


def _plain(value: float | np.number) -> float:
    return int(value) if isinstance(value, (int, np.integer)) else float(value)


Named = Iterator[tuple[str, Sequence[float]]]
Maker = Callable[[Films], Named]
_STEPS: dict[str, Maker] = {}


def steps_of(extractor: str) -> Callable[[Maker], Maker]:
    """Say of which extractor a function gives the steps."""

    def register(maker: Maker) -> Maker:
        _STEPS[extractor] = maker
        return maker

    return register


@steps_of("resnet152")
def _resnet152(films: Films) -> Named:
    return single_frames("resnet152", films, resnet152.SHORT_SIDE, resnet152.frame_tensor)


def single_frames(name: str, films: Films, short_side: int, to_tensor: Callable[[RgbFrame], torch.Tensor]) -> Named:
    """Steps of an extractor whose network sees one frame at a time.

    Args:
        name: of the extractor; its settings are `FrameSettings`.
        films: of `make_films`.
        short_side: of the frames, in pixels.
        to_tensor: from a frame [H, W, 3] to the network's input.
    """
    yield "decoded pictures", pictures_of(films["turned.mp4"])
    for label, extractor in _both(name):
        clip = Clip("a", films["turned.mp4"])
        windows = list(extractor.windows(clip))
        rule, rotation = size_rule(clip.path, short_side), extractor.settings.rotation
        every = decode_video(clip.path, rate_hz=None, size=rule, orientation=rotation)
        frames = [key_of(to_tensor(frame)) for frame in every]
        yield f"frames chosen{label}", frames_of(windows, frames, lambda tensor: [tensor])
        yield f"pixels{label}", pixels(list(resized_frames(clip, extractor.settings, short_side)))
        yield f"network input{label}", numbers([window.tensor for window in windows])
    yield from _network(build_extractor(name, {"batch_size": 3}), films["long.avi"])


@steps_of("resnext101")
def _resnext101(films: Films) -> Named:
    yield "decoded pictures", pictures_of(films["turned.mp4"])
    for label, extractor in _both("resnext101"):
        clip = Clip("a", films["turned.mp4"])
        windows = list(extractor.windows(clip))
        rule, rotation = size_rule(clip.path, resnext101.SHORT_SIDE), extractor.settings.rotation
        every = decode_video(clip.path, rate_hz=None, size=rule, orientation=rotation)
        frames = [key_of(resnext101.window_tensor([resnext101.crop_frame(frame)])[:, 0]) for frame in every]
        yield f"frames chosen{label}", frames_of(windows, frames)
        shown = resized_frames(clip, extractor.settings, resnext101.SHORT_SIDE)
        yield f"pixels{label}", pixels([resnext101.crop_frame(frame) for frame in shown])
        yield f"network input{label}", numbers([window.tensor for window in windows])
    yield from _network(build_extractor("resnext101", {"batch_size": 2}), films["demo.avi"])


@steps_of("c3d")
def _c3d(films: Films) -> Named:
    path = films["demo30.avi"]
    yield "decoded pictures", pictures_of(path)
    for label, extractor in _both("c3d"):
        invert = extractor.settings.invert_colours
        windows = list(extractor.windows(Clip("a", path)))
        crops = [c3d.crop_frame(frame, invert_colours=invert) for frame in decode_video(path, rate_hz=None)]
        frames = [key_of(c3d.window_tensor([crop])[:, 0]) for crop in crops]
        yield f"frames chosen{label}", frames_of(windows, frames)
        yield f"pixels{label}", pixels(crops)
        yield f"network input{label}", numbers([window.tensor for window in windows])
    yield from _network(build_extractor("c3d", {"batch_size": 2}), path)


@steps_of("vggish")
def _vggish(films: Films) -> Named:
    path = films["long.avi"]
    samples, rate_hz = read_audio(path)
    yield "decoded sound", sound_numbers(samples)
    for resampler, label in (("resampy-0.2.2", ""), ("resampy-0.4", " (resampy 0.4)")):
        extractor = build_extractor("vggish", {"postprocess": False, "resampler": resampler})
        windows = list(extractor.windows(Clip("a", path)))
        if not label:
            yield "samples chosen", [rate_hz, *samples.shape, *times_of(windows)]
        yield f"resampled sound{label}", numbers([_vggish_resampled(samples, rate_hz, resampler)])
        yield f"network input of sound{label}", numbers([window.tensor for window in windows])
    pca = path.with_name("pca.npz")
    rng = np.random.default_rng(0)
    np.savez(pca, pca_eigen_vectors=0.03 * rng.standard_normal((128, 128)), pca_means=rng.standard_normal((128, 1)))
    raw, done = run_network(build_extractor("vggish", {"batch_size": 3}, pca), path)
    yield "network output", numbers([raw["audio"]])
    yield "bytes", numbers([done["audio"].values])
    yield "pooled bytes", numbers([done["audio"].pooled])


def _vggish_resampled(samples: npt.NDArray[np.int16], rate_hz: int, resampler: Any) -> npt.NDArray[np.float64]:
    return resample(to_mono(samples), rate_hz, 16_000, resampler)


@steps_of("selavi")
def _selavi(films: Films) -> Named:
    path = films["long.avi"]
    yield "decoded pictures", pictures_of(path)
    mono = np.concatenate(list(audio_blocks(path, rate_hz=44_100, mono=True)))
    yield "decoded sound", sound_numbers(mono)
    # Pictures are normalised before they are resized: there are no pixels in between.
    frames = [key_of(torch.from_numpy(crop_picture(f)).permute(2, 0, 1)) for f in decode_video(path, rate_hz=None)]
    for label, extractor in _both("selavi"):
        windows = list(extractor.windows(Clip("a", path)))
        video, audio = ([w for w in windows if w.stream == stream] for stream in ("video", "audio"))
        yield f"frames chosen{label}", frames_of(video, frames)
        yield f"samples chosen{label}", [len(mono), *times_of(audio)]
        yield f"network input{label}", numbers([window.tensor for window in video])
        yield f"network input of sound{label}", numbers([window.tensor for window in audio])
    # 30 pictures a window would take 2 s each.
    yield from _network(build_extractor("selavi", {"batch_size": 4, "window_frames": 2}), path)


@steps_of("spectrogram")
def _spectrogram(films: Films) -> Named:
    path = films["long.avi"]
    samples, rate_hz = read_audio(path)
    yield "decoded sound", sound_numbers(samples)
    for label, extractor in _both("spectrogram"):
        rows = list(extractor.windows(Clip("a", path)))
        times = np.concatenate([part.times for part in rows])
        if not label:
            yield "samples chosen", [rate_hz, *samples.shape, len(times), *times[[0, 1, 2, -2, -1]].ravel()]
        quantise = extractor.settings.quantise
        yield f"resampled sound{label}", numbers(list(mono_blocks([samples], rate_hz, quantise=quantise)))
        yield f"decibels{label}", numbers([part.values for part in rows])
    _, done = run_network(build_extractor("spectrogram"), path)
    yield "decibels (below the loudest cell)", numbers([done["audio"].values])
    yield "decibels (pooled)", numbers([done["audio"].pooled])


def _both(name: str) -> Iterator[tuple[str, Any]]:
    """An extractor as corrected and, with its label, as published."""
    for fidelity, label in (("corrected", ""), (PUBLISHED, " (published)")):
        yield label, build_extractor(name, {}, fidelity=fidelity)


def _network(extractor: Extractor, path: Path) -> Named:
    raw, done = run_network(extractor, path)
    yield "network output", [value for rows in raw.values() for value in numbers([rows])]
    yield "rows", [value for features in done.values() for value in numbers([features.values])]
    yield "pooled", [value for features in done.values() for value in numbers([features.pooled])]


def run_network(extractor: Extractor, path: Path) -> tuple[dict[str, npt.NDArray], dict[str, Features]]:
    """What the network gives for a film with random weights, by stream, and what the engine makes of it."""
    network = extractor.build_network()
    if EXTRACTORS[extractor.name].has_weights:
        load_weights(network, "random:0")
    given: dict[str, list[npt.NDArray]] = {}
    forward = extractor.forward

    def recording(network: torch.nn.Module, stream: str, batch: torch.Tensor) -> torch.Tensor:
        rows = forward(network, stream, batch)
        given.setdefault(stream, []).append(rows.numpy())
        return rows

    extractor.forward = recording  # type: ignore[method-assign]
    ((_, outcome),) = extract_clips(extractor, prepare_network(network, "cpu"), [Clip("a", path)])
    if not isinstance(outcome, dict):
        raise outcome
    raw = {stream: np.concatenate(rows)[: len(outcome[stream].values)] for stream, rows in given.items()}
    return {stream: raw[stream] for stream in outcome if stream in raw}, outcome


def pictures_of(path: Path) -> Step:
    """`pixels` of every frame of a film, as coded."""
    return pixels(list(decode_video(path, rate_hz=None)))


def pixels(frames: list[npt.NDArray[np.uint8]]) -> Step:
    """Number and size of some frames; of the first, middle and last their sums, sums of squares and some pixels."""
    found: Step = [len(frames), *frames[0].shape]
    for frame in (frames[0], frames[len(frames) // 2], frames[-1]):
        values = frame.astype(np.int64)
        probes = values[:: frame.shape[0] // 3, :: frame.shape[1] // 3]
        found += [values.sum(), (values**2).sum(), *probes.ravel()]
    return found


def sound_numbers(samples: npt.NDArray[np.int16]) -> Step:
    """Root mean square of some samples, and some of them."""
    values = samples.astype(np.float64).ravel()
    return [np.sqrt((values**2).mean()), *values[:: len(values) // 24]]


def numbers(parts: Sequence[torch.Tensor | npt.NDArray]) -> Step:
    """Mean, deviation and 24 values, spread evenly over all of them."""
    values = np.concatenate([np.asarray(part, np.float64).ravel() for part in parts])
    probes = np.linspace(0, values.size - 1, 24).astype(int)
    return [values.mean(), values.std(), *values[probes]]


def key_of(picture: torch.Tensor) -> Key:
    """A frame's pixels, as a key."""
    return picture.contiguous().numpy().tobytes()


def times_of(windows: Sequence[Window | Rows]) -> Step:
    """Start and end of each window."""
    return [value for w in windows if isinstance(w, Window) for value in (w.start_seconds, w.end_seconds)]


def frames_of(
    windows: Sequence[Window],
    frames: Sequence[Key],
    slots: Callable[[torch.Tensor], Sequence[torch.Tensor]] = lambda tensor: tensor.unbind(1),
) -> Step:
    """Start and end of each window and the numbers of the film's frames that it shows, ABSENT where it is filled up.

    Args:
        windows: as the extractor cut them.
        frames: `key_of` each frame of the film, alone prepared as the extractor prepares it: which frame a slot shows
            is found by its pixels, whatever those are.
        slots: from a window's tensor to the pictures in it.
    """
    number = {key: index for index, key in enumerate(frames)}
    assert len(number) == len(frames), "the film shows a frame twice"
    found: Step = []
    for window in windows:
        shown = [number.get(key_of(slot), ABSENT) for slot in slots(window.tensor)]
        found += [window.start_seconds, window.end_seconds, *shown]
    return found
