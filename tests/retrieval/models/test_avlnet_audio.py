"""The audio network: checkpointed layers, and clips of many lengths beside clips that are padded."""

from __future__ import annotations

import copy

import pytest
import torch
from recorded_avlnet import relative
from torch.nn import functional as F

from avpipe.errors import AvpipeError
from avpipe.retrieval.models import ragged
from avpipe.retrieval.models.audio import AudioNetwork
from avpipe.retrieval.models.pooling import counted_frames, output_frames, pooled
from avpipe.retrieval.models.ragged import _buckets, _groups, pool_ragged

LENGTHS = (1, 15, 16, 17, 100, 431, 700, 701, 1023, 1024, 1025, 1500)


@pytest.fixture(params=["stacked", "concatenated"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How clips of many lengths are computed, whatever would be faster for so small a network."""
    monkeypatch.setattr(ragged, "is_faster", lambda *_: request.param == "concatenated")
    return str(request.param)


def network(dtype: torch.dtype = torch.float64) -> AudioNetwork:
    """A small network whose statistics and shifts are not those that hide mistakes at the padding."""
    torch.manual_seed(0)
    net = AudioNetwork(4)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    with torch.no_grad():
        net.bn1.running_var.fill_(1000.0)
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return net.to(dtype).eval()


def spectrograms(lengths: tuple[int, ...] = LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(length, 40, generator=generator) * -80 for length in lengths]


def padded(clips: list[torch.Tensor], window: int, dtype: torch.dtype) -> torch.Tensor:
    cut = [F.pad(each[:window], (0, 0, 0, max(0, window - len(each)))) for each in clips]
    return torch.stack(cut).transpose(1, 2).to(dtype)


@pytest.mark.parametrize("window", [1024, 1000, 16, 17, 20])
@pytest.mark.parametrize("max_frames", [1, 2000, 100000])
@pytest.mark.usefixtures("way")
def test_ragged_equals_padded(window: int, max_frames: int) -> None:
    """In float64, so that what the trimming leaves out would be seen: a margin of 200 frames errs by 0.03."""
    net, clips = network(), spectrograms()
    n_frames = [*map(len, clips[:-1]), 1777]
    with torch.no_grad():
        expected = pooled(net(padded(clips, window, torch.float64)), window, n_frames)
        found = pool_ragged(net, clips, window=window, n_frames=n_frames, max_frames=max_frames)
    assert relative(found, expected) < 1e-13


@pytest.mark.usefixtures("way")
def test_ragged_equals_padded_in_float32() -> None:
    net, clips = network(torch.float32), spectrograms()
    with torch.no_grad():
        expected = pooled(net(padded(clips, 1024, torch.float32)), 1024, [*map(len, clips)])
        found = pool_ragged(net, clips, window=1024)
    assert relative(found, expected) < 2e-6  # sums in another order: measured 2e-7


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_ragged_gradients_equal_padded_ones(checkpointing: bool) -> None:
    net, clips = network(), spectrograms()
    other = copy.deepcopy(net)
    net.gradient_checkpointing = checkpointing
    weights = torch.randn(len(clips), 32, dtype=torch.float64)
    (pool_ragged(net, clips, window=1024, max_frames=3000) * weights).sum().backward()
    (pooled(other(padded(clips, 1024, torch.float64)), 1024, [*map(len, clips)]) * weights).sum().backward()
    for (name, found), expected in zip(net.named_parameters(), other.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None
        assert relative(found.grad, expected.grad) < 1e-11, name


@pytest.mark.slow
def test_large_batches_on_a_cpu_are_concatenated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stacked way is not there to be taken; in float64, so that the two ways agree to the last digits."""
    torch.manual_seed(0)
    net, clips = AudioNetwork(64).double().eval(), spectrograms((3000, 2500, 2600))
    with torch.no_grad():
        expected = pooled(net(padded(clips, 3000, torch.float64)), 3000, [*map(len, clips)])
        monkeypatch.delattr(ragged, "_pool_buckets")
        found = pool_ragged(net, clips, window=3000)
    assert relative(found, expected) < 1e-13


def test_half_precision_spectrograms_are_taken_as_they_are() -> None:
    net = network(torch.float32)
    clips = [each.half() for each in spectrograms((100, 300))]
    with torch.no_grad():
        assert torch.equal(
            pool_ragged(net, clips, window=512), pool_ragged(net, [each.float() for each in clips], window=512)
        )


def test_frozen_gradients_reach_the_affine_weights() -> None:
    """The folded convolution against BatchNorm as torch computes it with stored statistics."""
    net = network()
    other = copy.deepcopy(net).train()
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    x = padded(spectrograms((200, 160)), 200, torch.float64)
    found, expected = net(x), other(x)
    assert relative(found, expected) < 1e-13
    found.square().sum().backward()
    expected.square().sum().backward()
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        assert relative(one.grad, two.grad) < 1e-11, name


@pytest.mark.parametrize("training", [True, False])
def test_checkpointed_layers_are_exact_and_count_a_batch_once(training: bool) -> None:
    net = network().train(training)
    other = copy.deepcopy(net)
    other.gradient_checkpointing = True
    x = padded(spectrograms((300, 300)), 300, torch.float64)
    for _ in range(2):
        for each in (net, other):
            each(x).square().sum().backward()
    for (name, one), two in zip(net.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None and torch.equal(one.grad, two.grad), name
    for (name, one), two in zip(net.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two), name
    if training:
        assert net.bn1.num_batches_tracked == 2
        assert all(m.track_running_stats for m in other.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_counted_frames_are_the_published_ones() -> None:
    """round(T / T') with Python's rounding, the quotient cut off, at least one frame, at most all."""
    assert [output_frames(each) for each in (1, 16, 17, 1000, 5120)] == [1, 1, 2, 63, 320]
    for window, n_frames, expected in [
        (1024, 1024, 64), (1024, 1801, 64), (1024, 341, 21), (1024, 15, 1), (1024, 0, 1), (1000, 999, 62), (24, 24, 2),
        (17, 17, 2), (15, 15, 1),
    ]:  # fmt: skip
        assert counted_frames(n_frames, window, output_frames(window)) == expected


def test_buckets_hold_every_clip_once_within_the_limit() -> None:
    needed = [500, 5120, 1300, 900, 5000, 2100, 2000, 600]
    for limit in (1, 2500, 10000, 10**6):
        buckets = _buckets(needed, limit)
        assert sorted(index for bucket in buckets for index in bucket) == list(range(8))
        for bucket in buckets:
            assert len(bucket) == 1 or needed[bucket[0]] * len(bucket) <= limit
            assert needed[bucket[0]] == max(needed[index] for index in bucket)
    assert len(_buckets([1000] * 8, 10**6)) == 1


def test_groups_are_few_and_alike() -> None:
    assert _groups([10] * 10, 100) == [list(range(10))]
    assert [len(each) for each in _groups([10] * 10, 99)] == [5, 5]
    assert [len(each) for each in _groups([10] * 10, 34)] == [3, 2, 3, 2]
    assert _groups([500, 1, 1], 100) == [[0], [1, 2]]
    for limit in (7, 20, 33, 1000):
        assert [clip for group in _groups([3, 9, 1, 7, 2, 2, 8], limit) for clip in group] == list(range(7))


def test_what_cannot_be_pooled_is_refused() -> None:
    net, clips = network(), spectrograms((20, 30))
    with pytest.raises(AvpipeError, match="train mode"):
        pool_ragged(net.train(), clips, window=64)
    net.eval()
    with pytest.raises(AvpipeError, match="3 frame counts for 2 clips"):
        pool_ragged(net, clips, window=64, n_frames=[1, 2, 3])
    with pytest.raises(AvpipeError, match="0 frame counts for 0 clips"):
        pool_ragged(net, [], window=64)


def test_gpu_gives_the_same(gpu: str) -> None:
    net, clips = network(torch.float32), spectrograms()
    with torch.no_grad():
        expected = pool_ragged(net, clips, window=1024)
        found = pool_ragged(net.to(gpu), clips, window=1024).cpu()
    assert relative(found, expected) < 2e-3  # cuDNN may compute convolutions in TF32
