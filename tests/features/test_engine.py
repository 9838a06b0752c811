"""The engine with a small network and clips made of numbers: what a clip gets must not depend on its company."""

import threading
import time

import numpy as np
import pytest
import torch

from avpipe.errors import ClipFailure, Reason
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.types import Clip, Window


class NumberExtractor:
    """A clip's id says how many windows it has; its windows are random numbers drawn from its id."""

    name, stage, streams, batch_size = "numbers", "numbers/1", {"video": 5}, 4

    def __init__(self, trouble=None):
        self.trouble = trouble or {}

    def settings_record(self):
        return {}

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

    def finish(self, stream, rows):
        return rows

    def pool(self, stream, values):
        return values.mean(axis=0)


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
                    time.sleep(0.05)
                yield window

    outcomes = run(Slow(), ["1x3", "2x5"], clip_timeout_seconds=0.04)
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
