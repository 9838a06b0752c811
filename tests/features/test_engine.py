"""The engine with a small network and clips made of numbers: what a clip gets must not depend on its company."""

import threading
import time
from typing import ClassVar

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features import engine
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.settings import NetworkSettings
from avpipe.features.types import Extractor, Rows, Window
from avpipe.media.clip import Clip
from avpipe.weights import build_empty


class NumberExtractor(Extractor):
    """A clip's id says how many windows it has; its windows are random numbers drawn from its id."""

    name, stage, streams = "numbers", "numbers/1", {"video": 5}

    def __init__(self, trouble=None, **settings):
        self.trouble = trouble or {}
        self.settings = NetworkSettings(**({"batch_size": 4} | settings))

    def build_network(self):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 5)
        )

    def windows(self, clip):
        number, length = map(int, clip.clip_id.split("x"))
        generator = torch.Generator().manual_seed(number)
        for index in range(length):
            if index == 1 and clip.clip_id in self.trouble:
                raise self.trouble[clip.clip_id]
            yield Window("video", torch.rand((3, 8, 8), generator=generator), float(index), index + 1.0)


def run(extractor, ids, **options):
    clips = [Clip(clip_id, None) for clip_id in ids]
    network = prepare_network(extractor.build_network(), "cpu")
    return {clip.clip_id: outcome for clip, outcome in extract_clips(extractor, network, clips, **options)}


def test_features_are_the_same_bits_whatever_clips_surround_a_clip():
    ids = ["1x3", "2x1", "3x7", "4x4", "5x2"]
    alone = {clip_id: run(NumberExtractor(), [clip_id])[clip_id] for clip_id in ids}
    for order in (ids, ids[::-1], ids[2:] + ids[:2]):
        together = run(NumberExtractor(), order)
        for clip_id in ids:
            assert np.array_equal(together[clip_id]["video"].values, alone[clip_id]["video"].values)
    assert alone["3x7"]["video"].times.tolist() == [[i, i + 1] for i in range(7)]


def test_rows_are_those_of_the_network_in_order():
    extractor = NumberExtractor()
    network = extractor.build_network().eval()
    inputs = torch.stack([window.tensor for window in extractor.windows(Clip("3x7", None))])
    expected = network(inputs).detach().numpy()
    got = run(extractor, ["1x2", "3x7"])["3x7"]["video"]
    # Another batch size and memory format: float32 sums in another order.
    np.testing.assert_allclose(got.values, expected, atol=1e-5)
    np.testing.assert_allclose(got.pooled, expected.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failing_clip_is_named_and_the_others_are_untouched(workers):
    ids = ["1x3", "2x5", "3x2"]
    failure = ClipFailure(Reason.DECODE_ERROR, "frame 1")
    clean = run(NumberExtractor(), ids)
    outcomes = run(NumberExtractor({"2x5": failure}), ids, decode_workers=workers)
    assert outcomes["2x5"] is failure
    for clip_id in ("1x3", "3x2"):
        assert np.array_equal(outcomes[clip_id]["video"].values, clean[clip_id]["video"].values)


def test_memory_exhausted_by_one_clip_is_its_own_reason():
    outcomes = run(NumberExtractor({"2x5": MemoryError()}), ["1x3", "2x5"])
    assert outcomes["2x5"].reason is Reason.OUT_OF_MEMORY
    assert "video" in outcomes["1x3"]


def test_any_other_error_is_raised_and_threads_end():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        run(NumberExtractor({"2x5": ZeroDivisionError("bug")}), ["1x3", "2x5", "3x90"], decode_workers=2)
    assert threading.active_count() == before


def test_a_clip_that_decodes_too_slowly_times_out():
    class Slow(NumberExtractor):
        def windows(self, clip):
            for window in super().windows(clip):
                if clip.clip_id == "2x5":
                    time.sleep(0.3)
                yield window

    outcomes = run(Slow(), ["1x3", "2x5"], clip_timeout_seconds=0.5)
    assert outcomes["2x5"].reason is Reason.TIMEOUT
    assert "video" in outcomes["1x3"]


def test_values_that_are_not_finite_are_a_bug():
    class Broken(NumberExtractor):
        def finish(self, stream, rows):
            return rows * np.nan

    with pytest.raises(AssertionError, match="not finite"):
        run(Broken(), ["1x3"])


def test_stopping_early_ends_the_decoding_threads():
    extractor = NumberExtractor()
    before = threading.active_count()
    clips = (Clip(f"{number}x50", None) for number in range(1000))
    results = extract_clips(extractor, prepare_network(extractor.build_network(), "cpu"), clips, decode_workers=2)
    next(results)
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("layer", "memory_format"),
    [
        (torch.nn.Conv2d(3, 8, 3), torch.channels_last),
        (torch.nn.Conv3d(3, 8, 3), torch.channels_last_3d),
    ],
)
def test_convolutions_run_in_channels_last(layer, memory_format):
    network = prepare_network(torch.nn.Sequential(layer, torch.nn.Dropout()), "cpu")
    assert network[0].weight.is_contiguous(memory_format=memory_format)
    assert not network.training and not network[0].weight.requires_grad


class ShapesExtractor(NumberExtractor):
    """Two streams with networks of their own, windows of many shapes, and a stream that needs no network."""

    streams: ClassVar = {"left": 3, "right": 3, "ready": 2}

    def build_network(self):
        return torch.nn.ModuleDict({"left": torch.nn.Identity(), "right": torch.nn.Threshold(1e9, -1.0)})

    def forward(self, network, stream, batch):
        return network[stream](batch.flatten(2).mean(dim=2))

    def windows(self, clip):
        number, length = map(int, clip.clip_id.split("x"))
        for index in range(length):
            size = 1 + (number + index) % 40
            yield Window("left", torch.full((3, size, 2), float(100 * number + index)), float(index), index + 1.0)
            yield Window("right", torch.ones((3, size, 2)), float(index), index + 1.0)
            times = np.array([[index, index + 0.5], [index + 0.5, index + 1.0]])
            yield Rows("ready", np.full((2, 2), number + index / 10, np.float32), times)


def test_streams_shapes_and_ready_rows_come_back_to_their_clips_in_order():
    ids = [f"{number}x{number % 7 + 1}" for number in range(30)]
    outcomes = run(ShapesExtractor(), ids)
    assert list(outcomes) and set(outcomes) == set(ids)
    for clip_id, streams in outcomes.items():
        number, length = map(int, clip_id.split("x"))
        # Windows of one clip wait in batches of different shapes, so its rows may come back in another order.
        assert streams["left"].values[:, 0].tolist() == [100 * number + index for index in range(length)]
        assert streams["left"].times.tolist() == [[index, index + 1] for index in range(length)]
        assert (streams["right"].values == -1).all()
        assert streams["ready"].values.shape == (2 * length, 2)
        assert streams["ready"].times[:, 0].tolist() == [index / 2 for index in range(2 * length)]


def test_every_clip_comes_back_once():
    ids = [f"{number}x5" for number in range(50)]
    extractor = ShapesExtractor()
    network = prepare_network(extractor.build_network(), "cpu")
    done = [clip.clip_id for clip, _ in extract_clips(extractor, network, [Clip(clip_id, None) for clip_id in ids])]
    assert sorted(done) == sorted(ids)


def test_rows_are_kept_as_the_settings_say():
    whole = run(NumberExtractor(), ["3x7"])["3x7"]["video"]
    half = run(NumberExtractor(storage="float16"), ["3x7"])["3x7"]["video"]
    assert (half.values.dtype, half.pooled.dtype) == (np.float16, np.float32)
    assert np.array_equal(half.values, whole.values.astype(np.float16))
    assert np.array_equal(half.pooled, half.values.mean(axis=0, dtype=np.float32))


def test_half_precision_is_near_and_not_equal():
    whole = run(NumberExtractor(), ["3x7"])["3x7"]["video"].values
    half = run(NumberExtractor(precision="bfloat16"), ["3x7"])["3x7"]["video"].values
    difference = np.linalg.norm(half - whole) / np.linalg.norm(whole)
    assert 1e-5 < difference < 2e-2  # bfloat16 has 8 bits: 2^-9 a product, and sums of hundreds


@pytest.mark.parametrize("extractor", [NumberExtractor, ShapesExtractor])
def test_a_batch_under_way_while_the_next_is_gathered_changes_nothing(extractor, monkeypatch):
    """As on a GPU, where a batch is collected only after the next one was started."""
    ids = [f"{number}x{number % 7 + 1}" for number in range(30)]
    expected = run(extractor(), ids)
    original = engine.Batches
    for depth in (1, 3):
        monkeypatch.setattr(engine, "Batches", lambda *args, depth=depth: original(*args, ahead=depth))
        outcomes = run(extractor(), ids)
        assert set(outcomes) == set(ids)
        for clip_id, streams in expected.items():
            for stream, features in streams.items():
                assert np.array_equal(outcomes[clip_id][stream].values, features.values)


class WithNorms(torch.nn.Module):
    """Batch norms after convolutions, as attributes and in sequences, and one after something else."""

    folds_batch_norms = True

    def __init__(self):
        super().__init__()
        pair = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 1))
        self.first = torch.nn.Sequential(pair, torch.nn.BatchNorm2d(4), torch.nn.ReLU())
        self.conv1 = torch.nn.Conv2d(4, 4, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(4))

    def forward(self, x):
        return self.last(self.bn1(self.conv1(self.first(x)))).mean(dim=(2, 3))


def test_batch_norms_are_folded_into_the_convolutions_before_them():
    torch.manual_seed(0)
    network = WithNorms()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    x = torch.rand(5, 3, 8, 8)
    expected = network.eval()(x).detach()
    prepared = prepare_network(network, "cpu")
    # float32: a product of weights is rounded once more.
    torch.testing.assert_close(prepared(x), expected, rtol=1e-5, atol=1e-5)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in prepared.modules()) == 1


@pytest.mark.parametrize(("name", "left"), [("resnet152", 0), ("resnext101", 0), ("selavi", 0)])
def test_no_batch_norm_of_the_published_networks_is_left(name, left):
    network = prepare_network(build_empty(build_extractor(name).build_network), "cpu")
    assert sum(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules()) == left


def test_the_caller_s_autocast_changes_nothing():
    expected = run(NumberExtractor(), ["3x7"])["3x7"]["video"].values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(run(NumberExtractor(), ["3x7"])["3x7"]["video"].values, expected)


def test_values_too_large_for_their_storage_are_told():
    class Large(NumberExtractor):
        def finish(self, stream, rows):
            return rows * np.float32(1e6)

    with pytest.raises(AvpipeError, match=r"more than float16 holds.*storage to float32"):
        run(Large(storage="float16"), ["3x2"])
