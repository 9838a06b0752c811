"""AVCA against recorded numbers of the published program (float64: tightly; float32: to rounding)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.models.layers import Block, PairTransformer, dropout, linear
from avpipe.gzsl.models.settings import AVCASettings

RECORDED = Path(__file__).parents[2].parent / "shared" / "parity" / "avca" / "avca_core_main.npz"
KEYS = ("audio", "video", "text", "audio_neg", "video_neg", "text_neg")
NO_DROPOUT = {"embedding_dropout": 0.0, "decoder_dropout": 0.0, "additional_dropout": 0.0}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small sizes: threads that wait for each other cost more than they save, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    if not RECORDED.exists():
        pytest.skip(f"no recorded numbers at {RECORDED}")
    with np.load(RECORDED) as stored:
        return dict(stored)


def published_model(recorded: dict[str, np.ndarray], dtype: torch.dtype, **changes: Any) -> AVCA:
    model = models.build("avca", audio_dim=512, video_dim=512, **NO_DROPOUT, **changes).to(dtype)
    state = {k.removeprefix("init/"): torch.tensor(v) for k, v in recorded.items() if k.startswith("init/")}
    model.load_state_dict(state, strict=True)
    return model


def batch_of(recorded: dict[str, np.ndarray], index: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {key: torch.tensor(recorded[f"batch{index}/{key}"]).to(dtype) for key in KEYS}


def five_steps(model: AVCA, recorded: dict[str, np.ndarray], dtype: torch.dtype, **track: bool) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    losses = []
    for index in range(5):
        batch = batch_of(recorded, index, dtype)
        optimizer.zero_grad()
        total = model.losses(batch, **track)["total"]
        total.backward()
        optimizer.step()
        model.after_step(batch, **track)
        losses.append(total.item())
    return losses


def relative(ours: Any, theirs: Any) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


def embed(model: AVCA, recorded: dict[str, np.ndarray], dtype: torch.dtype) -> list[np.ndarray]:
    batch = batch_of(recorded, 0, dtype)
    with torch.no_grad():
        thetas = model.eval().embed(batch["audio"], batch["video"], torch.tensor(recorded["words"]).to(dtype))
    return [theta.numpy() for theta in thetas]


def test_eval_embeddings(recorded: dict[str, np.ndarray]) -> None:
    model = published_model(recorded, torch.float32)
    for ours, name in zip(embed(model, recorded, torch.float32), ("theta_a", "theta_v", "theta_w"), strict=True):
        # 1e-5: float32 rounding through four matrix products (measured 5e-7).
        assert relative(ours, recorded[f"eval_init/{name}"]) < 1e-5


@pytest.mark.parametrize(("mode", "prefix"), [(True, "train_loss/"), (False, "eval_init_loss/")])
def test_all_terms(recorded: dict[str, np.ndarray], mode: bool, prefix: str) -> None:
    model = published_model(recorded, torch.float32).train(mode)
    terms = model.losses(batch_of(recorded, 0, torch.float32))
    assert {prefix + name for name in terms} == {key for key in recorded if key.startswith(prefix)}
    assert len(terms) == 18
    for name, value in terms.items():
        assert value.item() == pytest.approx(float(recorded[prefix + name]), rel=1e-5), name


def test_gradients_and_statistics_of_one_step(recorded: dict[str, np.ndarray]) -> None:
    model = published_model(recorded, torch.float32)
    model.losses(batch_of(recorded, 0, torch.float32))["total"].backward()
    for name, parameter in model.named_parameters():
        # Biases in front of a BatchNorm have gradient zero up to rounding, hence the absolute tolerance.
        expected = float(recorded[f"grad_norm/{name}"])
        assert parameter.grad.norm().item() == pytest.approx(expected, rel=1e-4, abs=3e-5), name
    buffers = dict(model.named_buffers())
    for key, expected in recorded.items():
        if key.startswith("bn_after_one_forward/"):
            assert relative(buffers[key.split("/")[1]].numpy(), expected) < 1e-5, key


def test_five_float64_steps(recorded: dict[str, np.ndarray]) -> None:
    model = published_model(recorded, torch.float64)
    losses = five_steps(model, recorded, torch.float64)
    assert relative(losses, recorded["steps64/losses"]) < 1e-9
    for ours, name in zip(embed(model, recorded, torch.float64), ("theta_a", "theta_v", "theta_w"), strict=True):
        assert relative(ours, recorded[f"steps64/{name}"]) < 1e-9
    state = model.state_dict()
    for name, value in state.items():
        norm = float(value.double().norm())
        assert norm == pytest.approx(float(recorded[f"final64_norm/{name}"]), rel=1e-9), name
        if f"final64/{name}" in recorded:
            assert relative(value.numpy(), recorded[f"final64/{name}"]) < 1e-9, name


def test_without_the_leftover_pass(recorded: dict[str, np.ndarray]) -> None:
    model = published_model(recorded, torch.float32, leftover_embedding_pass=False)
    five_steps(model, recorded, torch.float32)
    theta_video = embed(model, recorded, torch.float32)[1]
    # Five float32 Adam steps agree to about 1e-3; the pass itself changes theta_video by 40 %.
    assert relative(theta_video, recorded["extra_call/theta_v_without"]) < 1e-2


def test_untracked_steps_train_the_same_weights(recorded: dict[str, np.ndarray]) -> None:
    tracked, untracked = (published_model(recorded, torch.float64) for _ in range(2))
    losses = five_steps(tracked, recorded, torch.float64)
    assert relative(five_steps(untracked, recorded, torch.float64, track_statistics=False), losses) < 1e-12
    for (name, ours), other in zip(untracked.state_dict().items(), tracked.state_dict().values(), strict=True):
        if "running" not in name:  # num_batches_tracked included
            assert relative(ours, other) < 1e-9, name


@pytest.mark.slow
def test_statistics_horizon_is_long_enough() -> None:
    """Statistics tracked over the last steps alone equal those tracked all along."""
    torch.manual_seed(0)
    sizes = {"audio_dim": 6, "video_dim": 5, "embeddings_hidden_size": 8, "decoder_hidden_size": 8}
    whole = models.build("avca", **sizes, **NO_DROPOUT)
    tail = models.build("avca", **sizes, **NO_DROPOUT)
    tail.load_state_dict(whole.state_dict())
    widths = dict(zip(KEYS, (6, 5, 300) * 2, strict=True))
    steps = tail.statistics_horizon() + 20
    with torch.no_grad():
        for step in range(steps):
            batch = {key: torch.randn(4, width) for key, width in widths.items()}
            for model, track in ((whole, True), (tail, step >= steps - tail.statistics_horizon())):
                model.losses(batch, track_statistics=track)
                model.after_step(batch, track_statistics=track)
    for (name, a), b in zip(whole.state_dict().items(), tail.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-6, atol=1e-7), name  # float32 rounding


def test_grouped_calls_equal_separate_calls() -> None:
    torch.manual_seed(1)
    grouped = Block(7, 5, 0.0, hidden=6, momentum=0.9).double()
    separate = Block(7, 5, 0.0, hidden=6, momentum=0.9).double()
    separate.load_state_dict(grouped.state_dict())
    x = torch.randn(9, 3, 7, dtype=torch.float64)
    together = grouped(x)
    one_by_one = torch.stack([separate.fc(x[:, group]) for group in range(3)], 1)
    assert torch.allclose(together, one_by_one, rtol=1e-12, atol=1e-12)
    for name, value in separate.state_dict().items():
        assert torch.allclose(grouped.state_dict()[name], value, rtol=1e-12, atol=1e-14), name


def test_pair_attention_is_softmax_attention() -> None:
    torch.manual_seed(2)
    attention = PairTransformer(12, 1, heads=3, head_width=4, hidden=5, dropout=0.0).double().layers[0][0].fn
    x = torch.randn(6, 2, 12, dtype=torch.float64)
    query, key, value = (part.view(6, 2, 3, 4).transpose(1, 2) for part in attention.to_qkv(x).chunk(3, dim=-1))
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    expected = attention.to_out[0](expected.transpose(1, 2).reshape(6, 2, 12))
    assert torch.allclose(attention(x), expected, rtol=1e-12, atol=1e-13)


def test_linear_agrees_with_torch_forward_and_backward() -> None:
    torch.manual_seed(3)
    layer = torch.nn.Linear(20, 11)
    x = torch.randn(4, 2, 20, requires_grad=True)
    weights = torch.randn(4, 2, 11)
    ours = torch.autograd.grad((linear(x, layer) * weights).sum(), (x, layer.weight, layer.bias))
    theirs = torch.autograd.grad((layer(x) * weights).sum(), (x, layer.weight, layer.bias))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)  # two back ends, float32 rounding


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5])
def test_dropout_keeps_the_published_share_independently(p: float) -> None:
    torch.manual_seed(4)
    out = dropout(torch.ones(400, 1000), p, training=True)
    kept = (out != 0).double()
    # 4 standard deviations of a binomial share of 400,000 draws; rows and columns must not share masks.
    assert abs(kept.mean().item() - (1 - p)) < 4 * (p * (1 - p) / kept.numel()) ** 0.5
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    neighbours = torch.corrcoef(torch.stack((kept[:, :-1].flatten(), kept[:, 1:].flatten())))[0, 1]
    assert abs(neighbours) < 4 / kept.numel() ** 0.5
    assert dropout(out, p, training=False) is out


def test_every_call_draws_its_own_dropout_mask() -> None:
    torch.manual_seed(5)
    x = torch.rand(64, 1, 30).expand(64, 2, 30).contiguous()
    out = Block(30, 20, 0.5)(x)
    assert not torch.equal(out[:, 0] != 0, out[:, 1] != 0)


def test_switches_remove_their_terms() -> None:
    model = models.build(
        "avca", audio_dim=4, video_dim=3, additional_triplets_loss=False, reg_loss=False, depth_transformer=2
    )
    batch = {k: torch.rand(5, w) for k, w in zip(KEYS, (4, 3, 300) * 2, strict=True)}
    terms = model.losses(batch)
    assert list(terms) == ["rec_v", "rec_a", "rec_w", "ct_a", "ct_v", "ta", "tv", "at", "vt", "total"]
    assert terms["total"].item() == pytest.approx(sum(v.item() for k, v in terms.items() if k != "total"))


def test_distances_use_the_video_embedding() -> None:
    model = models.build("avca", audio_dim=4, video_dim=3).eval()
    audio, video, words = torch.rand(6, 4), torch.rand(6, 3), torch.rand(5, 300)
    theta_audio, theta_video, theta_text = model.embed(audio, video, words)
    distances = model.distances(audio, video, words)
    assert torch.allclose(distances["video"], (theta_video[:, None] - theta_text).norm(dim=-1), atol=1e-5)
    assert torch.allclose(distances["audio"], (theta_audio[:, None] - theta_text).norm(dim=-1), atol=1e-5)
    assert torch.equal(distances["both"], distances["audio"] + distances["video"])
    assert model.score_mode == "video"


def test_build_says_what_is_wrong() -> None:
    with pytest.raises(AvpipeError, match=r"Unknown zero-shot method 'avcaa'\. Expected one of: avca,"):
        models.build("avcaa", audio_dim=4, video_dim=3)
    with pytest.raises(AvpipeError, match="momentum"):
        models.build("avca", audio_dim=4, video_dim=3, momentum=2.0)
    assert "pos_emb1D" not in dict(models.build("avca", audio_dim=4, video_dim=3).named_parameters())
    assert AVCASettings().leftover_embedding_pass is None


@pytest.mark.parametrize("length", [0, -1, 1.5, None])
def test_build_refuses_a_length_that_is_none(length: Any) -> None:
    with pytest.raises(AvpipeError, match=r"video_dim of avca is .*; expected the length of a vector"):
        models.build("avca", audio_dim=1, video_dim=length)
