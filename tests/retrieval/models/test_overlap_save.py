"""Convolutions in the frequency domain beside the direct ones, and the choice between the two."""

from __future__ import annotations

import pytest
import torch
from recorded_avlnet import relative
from torch import Tensor
from torch.nn import functional as F

from avpipe.retrieval.models import overlap_save
from avpipe.retrieval.models.concatenated import is_faster
from avpipe.retrieval.models.overlap_save import Layout, convolve, tile_length

LENGTHS = (1, 2, 9, 30, 77, 48, 1)
# Sums in another order, and factors of the transforms that are rounded: measured 1e-15 and 2e-7.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}


def all_outputs(lengths: tuple[int, ...], stride: int) -> tuple[int, ...]:
    return tuple(-(-each // stride) for each in lengths)


def values(layout: Layout, dtype: torch.dtype, channels: tuple[int, int] = (3, 5)) -> tuple[Tensor, Tensor]:
    """Frames and weights that want gradients."""
    torch.manual_seed(0)
    x = torch.randn(sum(layout.inputs), channels[0], dtype=dtype, requires_grad=True)
    return x, torch.randn(channels[1], channels[0], layout.width, dtype=dtype, requires_grad=True)


def direct(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Clip by clip, in float64."""
    made = []
    for clip, wanted in zip(x.double().split(layout.inputs), layout.outputs, strict=True):
        out = F.conv1d(clip.T[None], weight.double(), stride=layout.stride, padding=layout.width // 2)
        made.append(out[0, :, :wanted].T)
    return torch.cat(made)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("width", "length"), [(9, 16), (9, 24), (9, 64), (3, 4), (9, None)])
def test_values_and_both_gradients_are_those_of_the_direct_convolution(
    dtype: torch.dtype, stride: int, width: int, length: int | None
) -> None:
    layout = Layout(LENGTHS, all_outputs(LENGTHS, stride), width, stride)
    x, weight = values(layout, dtype)
    found, expected = convolve(x, weight, layout, length), direct(x, weight, layout)
    assert found.dtype == dtype and relative(found, expected) < TOLERANCE[dtype]
    towards = torch.randn_like(found)
    found_gradients = torch.autograd.grad(found, (x, weight), towards)
    for one, other in zip(found_gradients, torch.autograd.grad(expected, (x, weight), towards.double()), strict=True):
        assert one.dtype == dtype and relative(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize("stride", [1, 2])
def test_only_the_frames_that_are_wanted(stride: int) -> None:
    lengths, wanted = (40, 7, 90), (3, 1, 33)
    layout = Layout(lengths, wanted, 9, stride)
    x, weight = values(layout, torch.float64)
    found = convolve(x, weight, layout, 16)
    assert found.shape == (sum(wanted), 5)
    assert relative(found, direct(x, weight, layout)) < TOLERANCE[torch.float64]


def test_many_tiles_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of five tiles, which begin and end inside of clips: gradients of weights and shared frames add up."""
    monkeypatch.setattr(overlap_save, "_LEAST_TILES_AT_ONCE", 5)
    layout = Layout(LENGTHS, LENGTHS, 9, 1)
    x, weight = values(layout, torch.float64)
    assert len(list(layout.tiles(16, 5))) == 5
    found, expected = convolve(x, weight, layout, 16), direct(x, weight, layout)
    towards = torch.randn_like(found)
    pairs = zip(
        (found, *torch.autograd.grad(found, (x, weight), towards)),
        (expected, *torch.autograd.grad(expected, (x, weight), towards)),
        strict=True,
    )
    assert all(relative(one, other) < TOLERANCE[torch.float64] for one, other in pairs)


@pytest.mark.parametrize("wanted", ["x", "weight"])
def test_one_gradient_alone(wanted: str) -> None:
    layout = Layout((30, 40), (30, 40), 9, 1)
    x, weight = values(layout, torch.float64)
    (weight if wanted == "x" else x).requires_grad_(False)
    other_x, other_weight = (each.detach().requires_grad_(each.requires_grad) for each in (x, weight))
    convolve(x, weight, layout).square().sum().backward()
    direct(other_x, other_weight, layout).square().sum().backward()
    for one, other in ((x, other_x), (weight, other_weight)):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or relative(one.grad, other.grad) < TOLERANCE[torch.float64]


def test_the_same_twice_bit_for_bit() -> None:
    """What resumed training relies on; at sizes of which the products may go several ways."""
    layout = Layout((500, 300), (500, 300), 9, 1)
    x, weight = values(layout, torch.float32, (64, 64))
    runs = []
    for _ in range(2):
        found = convolve(x, weight, layout)
        runs.append((found, *torch.autograd.grad(found.square().sum(), (x, weight))))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_transforms_made_without_gradients_serve_training() -> None:
    """They are kept, and tensors made in inference mode do not go everywhere."""
    overlap_save.transform.cache_clear()
    layout = Layout((30,), (30,), 9, 1)
    x, weight = values(layout, torch.float64)
    with torch.inference_mode():
        convolve(x, weight, layout)
    convolve(x, weight, layout).sum().backward()
    assert x.grad is not None


def test_longer_tiles_for_more_frames() -> None:
    few, many = (Layout(each, each, 9, 1) for each in ((20,), (600,) * 100))
    assert tile_length(few, 1024, 1024) < tile_length(many, 1024, 1024)


def test_where_it_is_faster() -> None:
    like = torch.empty(0)
    assert is_faster(like, 128, 10**5) and is_faster(like.double(), 128, 10**5)
    assert not is_faster(like.half(), 128, 10**5)
    assert not is_faster(like, 4, 10**5)
    assert not is_faster(like, 128, 2000)
    assert not is_faster(like.to("meta"), 128, 10**5)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_faster(like, 128, 10**5)
