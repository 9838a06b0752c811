"""How videos of one's own go wrong, and what is done about it.

Rows of the table in docs/methods.md, Videos of your own: what goes wrong.

These need no workflow; those that do are in tests/workflow/test_own_videos.py.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
import tracemalloc
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from tiny_retrieval import make_pack, run_settings, word_table

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features import extract
from avpipe.features.build import build_extractor
from avpipe.features.resnet152 import ResNet152
from avpipe.features.resnext101 import MEAN as MEAN_3D
from avpipe.formats import weights
from avpipe.media.clip import Clip
from avpipe.registry import EXTRACTORS
from avpipe.retrieval import models
from avpipe.retrieval.embedding import Reading
from avpipe.retrieval.metrics import retrieval_metrics
from avpipe.retrieval.packs import read_pack, write_pack
from avpipe.retrieval.packs.checks import EXTRACTED, PUBLISHED_PICKLE
from avpipe.retrieval.packs.published import read_clip_pickle
from avpipe.retrieval.testing import open_gallery, score_gallery
from avpipe.retrieval.trainer import steps_per_epoch

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "features"))
from made_video import run  # noqa: E402
from odd_media import build_long  # noqa: E402

LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-pix_fmt", "yuv444p")


def chirp(rate_hz: int, seconds: float = 1.0) -> npt.NDArray[np.float64]:
    """A tone that rises from 100 Hz to 3.5 kHz, in [-0.5, 0.5]."""
    times = np.arange(round(rate_hz * seconds)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * (100 * times + 1700 * times**2 / seconds))


def write_wav(path: Path, channels: npt.NDArray[np.float64], rate_hz: int) -> Path:
    """`channels`: [samples] or [samples, channels] in [-1, 1]."""
    samples = np.atleast_2d(channels.T).T if channels.ndim > 1 else channels[:, None]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def spectrogram(path: Path) -> npt.NDArray[np.floating]:
    return extract(path, "spectrogram").values


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 44_100, 48_000])
def test_sound_that_is_not_at_16_khz_is_resampled(tmp_path: Path, rate_hz: int) -> None:
    expected = spectrogram(write_wav(tmp_path / "16.wav", chirp(16_000), 16_000))
    found = spectrogram(write_wav(tmp_path / "other.wav", chirp(rate_hz), rate_hz))
    assert found.shape == expected.shape == (101, 40)
    # Where the tone is, within 20 dB of the loudest cell; filters of resamplers end at the clip's ends and at 4 kHz.
    loud = expected[2:-2] > -20
    assert np.abs(found[2:-2] - expected[2:-2])[loud].max() < 0.5


def test_stereo_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    tone = chirp(16_000)
    # Even numbers, so that the mean is a whole number of 16 bits too.
    tone = np.round(tone * 32767 / 2) * 2 / 32767
    both = write_wav(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), 16_000)
    alone = write_wav(tmp_path / "mono.wav", tone / 2, 16_000)
    np.testing.assert_array_equal(spectrogram(both), spectrogram(alone))


def test_channels_that_cancel_each_other_are_silence(tmp_path: Path) -> None:
    tone = chirp(16_000)
    assert not spectrogram(write_wav(tmp_path / "a.wav", np.stack([tone, -tone], axis=1), 16_000)).any()


@pytest.mark.parametrize("seconds", [0.5, 20.48, 25.0])
def test_spectrograms_keep_their_raw_length(tmp_path: Path, seconds: float) -> None:
    """The published default is 2048 frames, 20.48 s, for all."""
    path = write_wav(tmp_path / "a.wav", chirp(16_000, seconds), 16_000)
    assert len(spectrogram(path)) == 1 + math.floor(seconds * 100)


@pytest.mark.parametrize(
    "samples, reason, message",
    [
        (0, Reason.NO_AUDIO, "the audio stream holds no sample"),
        (1, Reason.TOO_SHORT, r"1 samples at 16 kHz \(0\.0001 s\); one spectrogram frame needs 400"),
        (399, Reason.TOO_SHORT, "399 samples at 16 kHz"),
    ],
)
def test_sound_of_no_or_one_sample_or_less_than_a_frame(
    tmp_path: Path, samples: int, reason: Reason, message: str
) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(samples, 0.3), 16_000)
    with pytest.raises(ClipFailure, match=message) as caught:
        spectrogram(path)
    assert caught.value.reason is reason


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sound_in_pickles_may_be_a_numpy_array(tmp_path: Path, dtype: str) -> None:
    vector, sound = np.ones(2048, np.float32), -80 * np.random.default_rng(0).random((40, 30))
    packs = []
    for name, audio in (("array", sound.astype(dtype)), ("tensor", torch.from_numpy(sound.astype(dtype)))):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps([{"id": "a", "2d": vector, "3d": vector, "audio": audio}]))
        packs.append(read_clip_pickle(path))
    np.testing.assert_array_equal(packs[0].audio, packs[1].audio)
    assert packs[0].digest == packs[1].digest and len(packs[0].spectrogram(0)) == 30


def film(path: Path, source: str, *options: str) -> Path:
    run("-f", "lavfi", "-i", source, *options, str(path))
    return path


@pytest.mark.parametrize("seconds, windows", [(0.04, 1), (0.5, 1), (0.9, 2)])
def test_fewer_than_16_frames_are_filled_up_with_black(tmp_path: Path, seconds: float, windows: int) -> None:
    path = film(tmp_path / "a.mkv", f"color=white:size=64x48:rate=24:duration={seconds}", *LOSSLESS)
    found = list(build_extractor("resnext101").windows(Clip("a", path)))
    assert len(found) == windows
    last, n_frames = found[-1].tensor, round(seconds * 24) - 16 * (windows - 1)
    black = -torch.as_tensor(MEAN_3D).reshape(3, 1, 1, 1)
    assert (last[:, n_frames:] == black).all(), "black before the mean is taken"
    assert (last[:, :n_frames] > 100).all()


@pytest.mark.parametrize("seconds", [0.6, 1.4])
def test_one_2d_frame_keeps_its_axis(tmp_path: Path, seconds: float) -> None:
    path = film(tmp_path / "a.mkv", f"testsrc2=size=64x48:rate=25:duration={seconds}", *LOSSLESS)
    extractor = build_extractor("resnet152")
    (window,) = extractor.windows(Clip("a", path))
    assert window.tensor.shape == (3, 224, 298)
    row = np.ones((1, 2048), np.float32)
    assert extractor.finish("video", row).shape == (1, 2048)
    assert extractor.pool("video", row).shape == (2048,)


@pytest.mark.parametrize("name", ["resnet152", "resnext101"])
def test_a_portrait_is_turned_and_not_squeezed(tmp_path: Path, name: str) -> None:
    """A phone writes lying pictures and a tag; here with a square that is left of the middle."""
    lying, portrait = tmp_path / "lying.mp4", tmp_path / "portrait.mp4"
    square = "color=black:size=160x120:rate=24:duration=1,drawbox=x=24:y=30:w=60:h=60:color=white:t=fill"
    film(lying, square, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    run("-display_rotation", "90", "-i", str(lying), "-c", "copy", str(portrait))
    tensor = next(iter(build_extractor(name).windows(Clip("a", portrait)))).tensor
    picture = (tensor if tensor.ndim == 3 else tensor[:, 0]).mean(dim=0)
    assert picture.shape == ((298, 224) if name == "resnet152" else (112, 112))
    rows, columns = (torch.nonzero((picture > (picture.min() + picture.max()) / 2).any(dim=axis)) for axis in (1, 0))
    # Half of the short side, to a pixel at each edge; squeezed, the sides would be as 16 to 9.
    side = picture.shape[1] / 2
    assert len(rows) == pytest.approx(side, abs=2) and len(columns) == pytest.approx(side, abs=2)
    assert columns.float().mean() == pytest.approx((picture.shape[1] - 1) / 2, abs=1)
    assert abs(rows.float().mean() - (picture.shape[0] - 1) / 2) > side / 4, "above or below the middle: it was turned"


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five minutes, 96x72."""
    path = tmp_path_factory.mktemp("long") / "film.mkv"
    build_long(path, 300)
    return path


@pytest.mark.slow
# What five minutes would take at once: pictures as float32 (300 of 224x298, 450 windows of 16 of 112x112), sound.
@pytest.mark.parametrize("name, whole_mb", [("resnet152", 241), ("resnext101", 1084), ("spectrogram", 19)])
def test_a_long_video_is_streamed(long_film: Path, name: str, whole_mb: float) -> None:
    """At published rates; tests/features/test_odd_media.py does a whole hour, engine included, with fewer frames."""
    extractor = build_extractor(name)
    for _ in extractor.windows(Clip("warm", long_film, 0.0, 2.0)):
        pass  # modules that are imported now would count
    tracemalloc.start()
    pieces = sum(1 for _ in extractor.windows(Clip("long", long_film)))
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert pieces >= 150
    # Measured 2, 6 and 4: a window of ResNeXt-101 is 2.4 MB and made of as much, sound comes in blocks of 2 s.
    assert peak_mb < 12 < whole_mb


@pytest.mark.slow
def test_an_hour_of_sound_in_a_pack_is_never_all_in_memory(tmp_path: Path) -> None:
    hour = make_pack(3, frames=(120_000, 120_001))
    write_pack(tmp_path / "hour.h5", hour)
    pack = read_pack(tmp_path / "hour.h5")
    assert pack.audio.nbytes == 57_600_000
    model = models.build("avlnet", embedding_dim=4, audio_channels=1).eval()
    gallery = open_gallery(pack, None, Reading(5120, 20, "cut"), expected=None, diagnostic=False, name="test")
    score_gallery(
        model, open_gallery(make_pack(3), None, gallery.reading, expected=None, diagnostic=False, name="warm")
    )
    tracemalloc.start()
    result = score_gallery(model, gallery)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The three windows of 5120 frames are 2.5 MB together, float32 vectors and torch's own memory aside.
    assert result.cut_clips == 3 and peak < pack.audio.nbytes / 8


class TestWeightsOfAnotherTraining:
    def test_resnet_152_v2_is_refused_by_its_digest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its file fits; the digest, of which torchvision's name has the first 8, is all that tells it."""
        path = tmp_path / "resnet152-f82ba261.pth"
        torch.save({}, path)
        v2 = SimpleNamespace(hexdigest=lambda: "f82ba261" + "0" * 56)
        monkeypatch.setattr(weights.hashlib, "file_digest", lambda handle, name: v2)
        with torch.device("meta"):
            network = ResNet152()
        with pytest.raises(AvpipeError, match=r"f82ba261\.pth is torchvision's IMAGENET1K_V2.*gives other features"):
            weights.load_weights(network, path)

    @pytest.mark.parametrize("stage", [EXTRACTORS[name].stage for name in ("resnet152", "resnext101", "spectrogram")])
    def test_golden_frames_pin_every_step(self, stage: str) -> None:
        """tests/golden compares them; a channel order or scale that changes is seen before the network."""
        recorded = json.loads((TESTS / "golden" / "fingerprints.json").read_text())[stage]
        names = list(recorded)
        assert names[0].startswith("decoded") and len(names) >= 8
        if stage != EXTRACTORS["spectrogram"].stage:
            assert names.index("pixels") < names.index("network input") < names.index("network output")

    @pytest.mark.parametrize("channel, colour", list(enumerate(["red", "lime", "blue"])))
    def test_channels_are_rgb_and_scaled_as_published(self, tmp_path: Path, channel: int, colour: str) -> None:
        path = film(
            tmp_path / "a.mkv", f"color={colour}:size=64x48:rate=24:duration=1", "-c:v", "ffv1", "-pix_fmt", "gbrp"
        )
        clip = Clip("a", path)
        (two,), (three, _) = (list(build_extractor(name).windows(clip)) for name in ("resnet152", "resnext101"))
        lit = np.zeros(3)
        lit[channel] = 1
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        # Swscale's rounding of full colours is up to 2 of 255, which the deviation makes 0.035.
        np.testing.assert_allclose(two.tensor.mean(dim=(1, 2)).numpy(), (lit - mean) / deviation, atol=0.04)
        expected = 255 * lit - [110.6, 103.2, 96.3]
        np.testing.assert_allclose(three.tensor[:, 0].mean(dim=(1, 2)).numpy(), expected, atol=2.1)


def vectors(value: float, row: int = 2) -> npt.NDArray[np.float32]:
    changed = make_pack(4).video_3d.copy()
    changed[row] = value
    return changed


FAULTS = {
    "2-D and 3-D out of step": ({"video_3d": make_pack(4).video_3d[:3]}, r"'video_2d': 4, 'video_3d': 3"),
    "sound out of step": ({"n_frames": make_pack(4).n_frames[:3]}, r"'audio_frames': 3"),
    "NaN": ({"video_3d": vectors(np.nan)}, r"3d of clip 'clip0-002' \(number 2\) has nan at 0"),
    "infinite": ({"video_3d": vectors(np.inf)}, r"3d of clip 'clip0-002' \(number 2\) has inf at 0"),
    "zero": ({"video_3d": vectors(0)}, r"1 clips have 3d features that are all zero, such as 'clip0-002'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_lists_out_of_step_and_vectors_that_are_none_are_refused(tmp_path: Path, fault: str) -> None:
    parts, message = FAULTS[fault]
    with pytest.raises(AvpipeError, match=message):
        write_pack(tmp_path / "pack.h5", replace(make_pack(4), **parts))
    assert not (tmp_path / "pack.h5").exists()


def test_zero_vectors_of_published_files_are_kept_with_a_warning(tmp_path: Path) -> None:
    clip = {"id": "a", "2d": np.zeros(2048, np.float32), "3d": np.ones(2048, np.float32), "audio": -np.ones((40, 20))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([clip]))
    pack = read_clip_pickle(tmp_path / "a.pkl")
    assert pack.info.origin == PUBLISHED_PICKLE != EXTRACTED
    assert any("all zero" in warning for warning in pack.info.warnings)
    assert np.isfinite(pack.visual()).all()


@pytest.mark.parametrize("captions", [["same"] * 6, ["qwerty zxcvb"] * 6, ["玉ねぎを炒める", "魚を焼く", "茶"] * 2])
def test_captions_that_are_alike_or_unknown_do_not_help(captions: list[str]) -> None:
    """The published code gives R@1 of 1, R@5 of 5 and R@10 of 10 here."""
    pack = replace(make_pack(6), captions=[(caption,) for caption in captions], eval_captions=captions)
    torch.manual_seed(0)
    model = models.build("avlnet_text_tri", embedding_dim=8, audio_channels=2).eval()
    gallery = open_gallery(pack, word_table(), Reading(100, 20, "cut"), expected=None, diagnostic=False, name="test")
    result = score_gallery(model, gallery)
    to_text, to_video = result.video_to_language, result.language_to_video
    assert (to_text.r1, to_text.r5, to_text.n_tied, to_text.median_rank) == (0, 0, 6, 6)
    # One query in six finds its clip first, whatever the caption: all queries are one vector.
    assert to_video.r1 == pytest.approx(100 / 6) and to_video.r5 == pytest.approx(500 / 6)
    assert result.known_words.captions_without == 6 and result.known_words.known == 0


def test_constant_similarities_give_no_recall() -> None:
    metrics = retrieval_metrics(np.ones((20, 20)))
    assert (metrics["r1"], metrics["r10"], metrics["median_rank"], metrics["n_tied"]) == (0, 0, 20, 20)


def test_fewer_clips_than_the_batch_are_an_error() -> None:
    with pytest.raises(AvpipeError, match=r"5 items to train on and a batch takes 6: not one step .* at most 5"):
        steps_per_epoch(5, run_settings(batch_size=6).batch_size)


class TestGalleryThatIsNot1000:
    @pytest.mark.parametrize("expected, divisor", [(None, 8), (10, 10), (1000, 1000)])
    def test_recalls_are_divided_by_what_the_protocol_says(self, expected: int | None, divisor: int) -> None:
        torch.manual_seed(0)
        model = models.build("avlnet", embedding_dim=8, audio_channels=2).eval()
        reading = Reading(100, 20, "cut")
        gallery = open_gallery(make_pack(8), None, reading, expected=expected, diagnostic=False, name="test")
        result = score_gallery(model, gallery)
        assert result.language_to_video.r10 == pytest.approx(800 / divisor)
        assert (result.expected, result.gallery, result.absent) == (divisor, 8, divisor - 8)
        assert result.protocol.startswith(f"Each of {divisor:,} clips is a query")
        assert "against a gallery of 8;" in result.protocol

    def test_only_msr_vtt_is_divided_by_1000(self) -> None:
        found = {}
        for path in sorted((TESTS.parent / "config" / "datasets").glob("*.yaml")):
            subsets = (yaml.safe_load(path.read_text()).get("retrieval") or {}).get("subsets") or {}
            found |= {(path.stem, name): subset["expected"] for name, subset in subsets.items() if "expected" in subset}
        assert [key for key, value in found.items() if value == 1000] == [
            ("msrvtt", "test"),
            ("msrvtt_videos", "test"),
        ]
