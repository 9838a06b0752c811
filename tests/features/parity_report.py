"""How close the extractors come to reference numbers, to the ffmpeg program and to independent computations.

    python tests/features/parity_report.py

prints the table of docs/fidelity.md. Reference numbers lie in ../shared/parity/extractors; the independent computations
are those of the tests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import librosa
import numpy as np
import numpy.typing as npt
import scipy.signal
import soxr
import test_c3d
import test_resample
import test_resnet152
import test_resnext101
import test_selavi
import test_spectrogram
import torch
from made_video import make_video, program_frames, run, turn
from parity import (
    FOLDER,
    formula_state_dict,
    own_entries,
    published_entries,
    relative_difference,
    stage_statistics,
)
from torch import nn

from avpipe.features import c3d, resnext101, spectrogram_frontend
from avpipe.features.c3d import C3D
from avpipe.features.engine import prepare_network
from avpipe.features.frame_size import resized_frames, size_by_short_side, unit_length
from avpipe.features.resample import FILTERS, resample
from avpipe.features.resnet152 import ResNet152, frame_tensor
from avpipe.features.resnext101 import ResNeXt101
from avpipe.features.selavi import SeLaVi, SeLaViExtractor, waveform_to_log_spectrogram
from avpipe.features.selavi_frontend import crop_picture
from avpipe.features.settings import ResNet152Settings, ResNeXt101Settings, SeLaViSettings
from avpipe.features.spectrogram import log_mel
from avpipe.features.vggish import Postprocessor, VGGish, VGGishExtractor, waveform_to_examples
from avpipe.features.vggish_frontend import HANN, mel_matrix
from avpipe.media.clip import Clip
from avpipe.media.decode import audio_blocks, decode_video
from avpipe.weights import load_published, random_state_dict

N = TypeVar("N", bound=nn.Module)
Row = tuple[str, str, str]
"""Step, what it is compared with, and the largest difference."""
REFERENCE = "reference"
PROGRAM = "the ffmpeg program"
NONE = "no reference"
MPEG4_AVI = ("-c:v", "mpeg4", "-bf", "2")
PACKED_AVI = ("-c:v", "libxvid", "-bf", "2")


def main() -> None:
    """Print the table."""
    torch.set_num_threads(2)
    lines = ["| extractor | step | compared with | largest difference |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        films = make_films(Path(folder))
        for extractor, measure in MEASURES.items():
            lines += [f"| {extractor} | {step} | {other} | {found} |" for step, other, found in measure(films)]
    print("\n".join(lines))  # noqa: T201


def make_films(folder: Path) -> list[Path]:
    """Films of several sizes, rates, codecs and rotations."""
    wide = make_video(folder / "wide.mp4", "640x360", "30000/1001", 3.0)
    return [
        make_video(folder / "ucf.mp4", "320x240", "25", 4.0),
        wide,
        make_video(folder / "portrait.mp4", "240x320", "24", 2.6),
        make_video(folder / "slow.mp4", "90x160", "15", 2.2),
        make_video(folder / "fast.mp4", "128x96", "60", 1.5),
        make_video(folder / "b_frames.avi", "320x240", "25", 2.0, MPEG4_AVI),
        make_video(folder / "packed.avi", "320x240", "25", 2.0, PACKED_AVI),
        *(turn(wide, folder / f"turned{degrees}.mp4", degrees) for degrees in (90, 180, 270)),
    ]


def resnet152(films: list[Path]) -> Iterator[Row]:
    yield entries(ResNet152, "resnet152")
    yield frames_row("frames at 1 Hz and pixels, short side 224", films, ResNet152Settings(), 224)
    frames = np.random.default_rng(0).integers(0, 256, (2, 224, 298, 3), np.uint8)
    theirs = test_resnet152.published_input(frames)
    ours = torch.stack([frame_tensor(frame) for frame in frames])
    yield "network input", "the published lines on the same pixels", number(largest(ours, theirs))
    network = with_formula_weights(ResNet152)
    x = theirs[:, :, :64, :90].contiguous()
    expected = test_resnet152.published_forward(x, network.state_dict()).numpy()
    ours = engine_output(network, x)
    yield "network output", "torchvision's modules, cut as published", relative(ours, expected)
    yield "network output, unit length, float16", NONE, "keys and shapes only"


def resnext(films: list[Path]) -> Iterator[Row]:
    yield entries(ResNeXt101, "resnext101")
    yield frames_row("frames at 24 Hz and pixels, short side 112", films, ResNeXt101Settings(), 112)
    with np.load(FOLDER / "resnext101.npz") as arrays:
        reference = dict(arrays)
    frames = [resnext101.crop_frame(frame) for frame in reference["frames"]]
    inputs = torch.stack([resnext101.window_tensor(frames[:16]), resnext101.window_tensor(frames[16:])])
    absent = inputs[1, :, 8:]
    differences = [
        largest(inputs[0, :, :, 0, 0], reference["input_0_c_t_0_0"]),
        largest(inputs.double().sum(), reference["input_sum"]),
        largest(absent, np.broadcast_to(reference["pad_value"][:, None, None, None], absent.shape)),
    ]
    yield "network input: corner pixels, sum, padding", REFERENCE, number(max(differences))
    network = with_formula_weights(ResNeXt101)
    _, stages = stage_statistics(network, test_resnext101.measured_parts(network), inputs)
    raw = engine_output(network, inputs)
    theirs = reference["stage_c_t_h_w_mean_std"][test_resnext101.MEASURED_ROWS]
    worst = np.abs((np.array(stages) - theirs) / theirs).max()
    yield "7 stages of the network: shapes, means, deviations", REFERENCE, f"relative {number(worst)}"
    yield "network output", REFERENCE, relative(raw, reference["raw"])
    yield "rows of unit length", REFERENCE, relative(unit_length(raw), reference["l2"])
    half = unit_length(raw).astype(np.float16)
    unequal = np.mean(half != reference["f16"])
    steps = np.abs(half.view(np.int16).astype(int) - reference["f16"].view(np.int16)).max()
    yield "float16 rows", REFERENCE, f"{steps} unit in the last place, in {100 * unequal:.2g} % of the values"


def c3d_rows(films: list[Path]) -> Iterator[Row]:
    yield entries(C3D, "c3d")
    count = 0
    for film in films:
        ours = np.stack(list(decode_video(film, rate_hz=25, orientation="upright")))
        check_identical(ours, program_frames(film, "fps=25", ours.shape[2], ours.shape[1]), film)
        count += len(ours)
    yield "frames at 25 Hz and pixels", PROGRAM, f"identical ({count} frames of {len(films)} films)"
    sizes = ((240, 320), (360, 640), (320, 180), (128, 171))
    for invert, name in ((False, "plain"), (True, "inverted")):
        worst = 0.0
        for size in sizes:
            (frame,) = test_c3d.frames(1, *size)
            ours = c3d.window_tensor([c3d.crop_frame(frame, invert_colours=invert)])[:, 0]
            worst = max(worst, largest(ours, test_c3d.published_frame(frame, invert=invert)))
        yield f"network input, {name}", "torchvision's transforms as published", number(worst)
    network = with_random_weights(C3D)
    x = torch.randn((2, 3, 16, 112, 112), generator=torch.Generator().manual_seed(0))
    theirs = test_c3d.published_forward(x, network.state_dict()).numpy()
    ours = engine_output(network, x)
    yield "network output", "the layers written out", relative(ours, theirs)
    yield "network input and output", NONE, "keys and shapes only"


def vggish(films: list[Path]) -> Iterator[Row]:
    yield entries(VGGish, "vggish")
    with np.load(FOLDER / "vggish.npz") as arrays:
        reference = dict(arrays)
    yield sound_row(films[0].parent, "sound as 16 bit, own rate and channels")
    yield "window", REFERENCE, number(largest(HANN, reference["hann_400"]))
    yield "mel matrix", REFERENCE, number(largest(mel_matrix(), reference["mel_matrix_257x64"]))
    cases = {"mono16k": "16", "mono22k": "22.05", "stereo44k": "44.1", "mono48k": "48"}
    for case in list(cases)[1:]:
        wave = reference[f"{case}_wave"] / 32768.0
        mono = wave.mean(axis=1) if wave.ndim == 2 else wave
        ours = resample(mono, int(reference[f"{case}_sr"]), 16_000, "resampy-0.4")
        found = number(largest(ours, reference[f"{case}_resampled16k"]))
        yield f"resampled from {cases[case]} kHz, filter of 0.4", f"{REFERENCE} (resampy 0.4.3)", found
    for name in FILTERS:
        worst = 0.0
        for rate in (8_000, 11_025, 22_050, 44_100, 48_000):
            x = np.random.default_rng(rate).uniform(-1, 1, 3000)
            theirs = test_resample.closed_form(x, rate, 16_000, name)
            worst = max(worst, largest(resample(x, rate, 16_000, name), theirs))
        yield f"resampled from 8 to 48 kHz, filter of {name.removeprefix('resampy-')}", "the closed form", number(worst)
    yield "resampled, filter of 0.2.2", NONE, "closed form only; all references are of 0.4.3"
    for case, rate in cases.items():
        wave, rate_hz = reference[f"{case}_wave"], int(reference[f"{case}_sr"])
        ours = waveform_to_examples(wave, rate_hz, resampler="resampy-0.4")
        yield f"log-mel examples, {rate} kHz", REFERENCE, number(largest(ours, reference[f"{case}_examples"]))
    sine = np.sin(2 * np.pi * 1000 * np.linspace(0, 3, 3 * 44_100))
    ours = waveform_to_examples(sine, 44_100, resampler="resampy-0.4")
    yield "log-mel examples, sine of 1 kHz", REFERENCE, number(largest(ours, reference["sine_examples"]))
    table = reference["n16k_to_examples"].tolist()
    wrong = sum(len(waveform_to_examples(np.zeros(n), 16_000)) != max(0, examples) for n, examples in table)
    yield f"number of examples, {len(table)} lengths", REFERENCE, f"{wrong} wrong"
    network = with_formula_weights(VGGish)
    for case, rate in cases.items():
        examples = torch.from_numpy(reference[f"{case}_examples"].astype(np.float32))
        ours = engine_output(network, examples)
        yield f"embedding, {rate} kHz", REFERENCE, relative(ours, reference[f"{case}_embedding"])
    extractor = VGGishExtractor(pca_path=FOLDER / "vggish_standin_pca.npz")
    values = extractor.finish("audio", reference["stereo44k_embedding"])
    pooled = extractor.pool("audio", values)
    yield (
        "bytes after PCA, of the reference's embedding",
        f"{REFERENCE} (stand-in PCA)",
        number(largest(values, reference["stereo44k_quantised"])),
    )
    yield "mean of the bytes", f"{REFERENCE} (stand-in PCA)", number(largest(pooled, reference["stereo44k_average"]))
    examples = waveform_to_examples(reference["stereo44k_wave"], 44_100, resampler="resampy-0.4")
    embedding = engine_output(network, torch.from_numpy(examples))
    ours = Postprocessor.from_file(FOLDER / "vggish_standin_pca.npz")(embedding)
    yield (
        "bytes after PCA, from the wave",
        f"{REFERENCE} (stand-in PCA)",
        number(largest(ours, reference["stereo44k_quantised"])),
    )
    yield "bytes after the published PCA", REFERENCE, "not compared: the PCA file is not here"


def selavi(films: list[Path]) -> Iterator[Row]:
    with torch.device("meta"):
        empty = SeLaVi()
    for part, name in ((empty.video_network, "selavi_video_network"), (empty.audio_network, "selavi_audio_network")):
        yield entries(lambda part=part: part, name)
    published = published_entries("selavi_published")
    wanted = {key: published[key] for key in empty.published_entries(published)}
    answer = "equal" if wanted == own_entries(empty) else "NOT EQUAL"
    yield f"{len(published)} entries of `selavi_published`, less the heads", "the published network", answer
    folder = films[0].parent
    yield sound_row(folder, "sound as 16 bit, mono, 44.1 kHz", rate_hz=44_100)
    worst = 0.0
    for rate, samples in ((44_100, 44_100), (48_000, 20_000), (24_000, 24_000)):
        wave = np.random.default_rng(rate).normal(0, 4000, samples).astype(np.int16)
        ours = waveform_to_log_spectrogram(wave, rate)
        worst = max(worst, largest(ours, test_selavi.plain_spectrogram(wave, rate)))
    yield "spectrogram, 24 to 48 kHz", "the filterbank written out", number(worst)
    worst = 0.0
    for size in ((240, 320), (320, 240), (360, 640), (1080, 1920), (64, 96)):
        rgb = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        ours = torch.from_numpy(crop_picture(rgb)).permute(2, 0, 1)
        worst = max(worst, largest(ours, test_selavi.plain_picture(rgb)))
    yield "picture, resized and cropped", "torch's interpolation", number(worst)
    worst, count = 0.0, 0
    for name, rate, seconds, codec in (
        ("a.mp4", "25", 4.2, None),
        ("b.mp4", "30000/1001", 3.1, None),
        ("c.mp4", "60", 2.5, None),
        ("d.avi", "25", 3.4, ("-c:v", "mpeg4")),
    ):
        film = film_with_sound(folder / name, rate, seconds, codec)
        extractor = SeLaViExtractor(SeLaViSettings(windows="avca", rotation="coded"))
        ours = [window.tensor for window in extractor.windows(Clip("a", film)) if window.stream == "video"]
        theirs = test_selavi.plain_avca_video(film, 30)
        assert len(ours) == len(theirs) > 0
        worst = max([worst, *map(largest, ours, theirs)])
        count += len(ours)
    yield (
        f"network input, windows as in AVCA ({count} windows of 4 films)",
        "the published rule, all in memory",
        number(worst),
    )
    network = with_random_weights(SeLaVi)
    generator = torch.Generator().manual_seed(0)
    video = torch.randn((2, 3, 6, 56, 56), generator=generator)
    audio = torch.randn((2, 1, 257, 99), generator=generator)
    state = network.state_dict()
    for stream, x, plain in (("video", video, test_selavi.plain_video), ("audio", audio, test_selavi.plain_audio)):
        with torch.inference_mode():
            expected = plain(x, state).numpy()
        ours = engine_output(network.get_submodule(f"{stream}_network"), x)
        yield f"network output, {stream}", "the layers written out", relative(ours, expected)
    yield "network input and output", NONE, "keys and shapes only"


def spectrogram(films: list[Path]) -> Iterator[Row]:
    window, bank = spectrogram_frontend.HAMMING, spectrogram_frontend.mel_matrix()
    yield "window", "scipy's symmetric Hamming", number(largest(window, scipy.signal.windows.hamming(400)))
    theirs = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=40, fmin=20, fmax=8000, dtype=np.float64)
    yield "mel matrix", "librosa", number(largest(bank, theirs.T))
    sound = test_spectrogram.noise(90_000, 1)
    at_16_khz = soxr.resample(sound, 44_100, 16_000, quality="HQ")
    yield (
        "from 44.1 kHz, as a stream",
        "soxr on the whole signal",
        number(largest(log_mel(sound, 44_100), log_mel(at_16_khz))),
    )
    for dtype, name in ((np.float64, "float64"), (np.float32, "float32, as published")):
        worst = 0.0
        for samples in (150, 560, 32_001, 100_123):
            wave = test_spectrogram.noise(samples).astype(dtype)
            worst = max(worst, largest(log_mel(wave), test_spectrogram.published(wave)))
        yield "decibels", f"the published function on librosa, {name}", f"{number(worst)} dB"
    yield "decibels", NONE, "the published code itself was not run"
    yield "the way to 16 kHz (`sox`)", NONE, "another resampler of the same quality, without sox's dither"


MEASURES: dict[str, Callable[[list[Path]], Iterator[Row]]] = {
    "ResNet-152": resnet152,
    "ResNeXt-101": resnext,
    "C3D": c3d_rows,
    "VGGish": vggish,
    "SeLaVi": selavi,
    "spectrogram": spectrogram,
}


def entries(build: Callable[[], nn.Module], name: str) -> Row:
    """Names, shapes and types of a network's entries against those of the published file."""
    with torch.device("meta"):
        ours, theirs = own_entries(build()), published_entries(name)
    step = f"{len(theirs)} entries of `{name}`: names, shapes, types"
    return step, "the published network", "equal" if ours == theirs else "NOT EQUAL"


def frames_row(step: str, films: list[Path], settings: ResNet152Settings | ResNeXt101Settings, short_side: int) -> Row:
    """Frames of films, resized, with both ways to treat a rotation tag."""
    count = 0
    for fidelity in ("corrected", "published"):
        for film in films:
            ours = np.stack(list(resized_frames(Clip("a", film), settings.resolved(fidelity), short_side)))
            width, height = coded_size(film)
            if fidelity == "corrected" and film.stem in ("turned90", "turned270"):
                width, height = height, width
            size = size_by_short_side(width, height, short_side)
            theirs = program_frames(film, f"fps={settings.rate_hz:g},scale={size[0]}:{size[1]}", *size)
            check_identical(ours, theirs, film)
            count += len(ours)
    return step, PROGRAM, f"identical ({count} frames of {len(films)} films, upright and squeezed)"


def coded_size(film: Path) -> tuple[int, int]:
    """Width and height of a film's pictures before they are turned."""
    height, width, _ = next(iter(decode_video(film, rate_hz=None))).shape
    return width, height


def check_identical(ours: npt.NDArray, theirs: npt.NDArray, film: Path) -> None:
    """Stop where frames differ."""
    assert np.array_equal(ours, theirs), f"{film.name}: frames differ from the ffmpeg program's"


def sound_row(folder: Path, step: str, rate_hz: int | None = None) -> Row:
    """Decoded sound of several codecs."""
    count, codecs = 0, {"m4a": "aac", "mp3": "libmp3lame", "flac": "flac", "wav": "pcm_s16le"}
    source = "anoisesrc=duration=2.3:sample_rate=48000:seed=3,aformat=channel_layouts=stereo"
    wanted = [] if rate_hz is None else ["-ac", "1", "-ar", str(rate_hz)]
    for suffix, codec in codecs.items():
        path = folder / f"sound.{suffix}"
        run("-f", "lavfi", "-i", source, "-c:a", codec, str(path))
        theirs = np.frombuffer(run("-i", str(path), *wanted, "-f", "s16le", "-c:a", "pcm_s16le", "-"), np.int16)
        ours = np.concatenate(list(audio_blocks(path, rate_hz=rate_hz, mono=rate_hz is not None)))
        assert np.array_equal(ours.ravel(), theirs), f"{path.name}: sound differs from the ffmpeg program's"
        count += theirs.size
    return step, PROGRAM, f"identical ({count:,} samples of {', '.join(codecs)})"


def film_with_sound(target: Path, rate: str, seconds: float, codec: tuple[str, ...] | None) -> Path:
    """A film with noise for sound."""
    picture = f"testsrc2=size=96x64:rate={rate}:duration={seconds}"
    sound = f"anoisesrc=duration={seconds}:sample_rate=48000:seed=3"
    encoding = codec or ("-c:v", "libx264", "-pix_fmt", "yuv420p")
    run("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *encoding, str(target))
    return target


def engine_output(network: nn.Module, inputs: torch.Tensor) -> npt.NDArray[np.float32]:
    """What a network gives on the CPU in the memory format that the engine runs it in."""
    memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(inputs.dim(), torch.contiguous_format)
    with torch.inference_mode():
        return prepare_network(network, "cpu")(inputs.contiguous(memory_format=memory_format)).numpy()


def with_formula_weights(build: Callable[[], N]) -> N:
    """A network with the weights behind the reference numbers."""
    network = build().eval().requires_grad_(False)
    load_published(network, formula_state_dict(network))
    return network


def with_random_weights(build: Callable[[], N]) -> N:
    """A network with random weights."""
    network = build().eval().requires_grad_(False)
    load_published(network, random_state_dict(network, 4))
    return network


def largest(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> float:
    """The largest difference of two arrays of one shape."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{ours.shape} against {theirs.shape}"
    return float(np.abs(ours - theirs).max())


def relative(ours: npt.NDArray, theirs: npt.NDArray) -> str:
    """Relative L2 distance."""
    return f"relative {number(relative_difference(ours, theirs))}"


def number(value: float) -> str:
    """Two digits."""
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


if __name__ == "__main__":
    main()
