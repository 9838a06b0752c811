"""The three models against recorded numbers of the published program, and against an independent computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from recorded_avlnet import KINDS, Recorded, relative
from torch.nn import functional as F

from avpipe.errors import AvpipeError
from avpipe.retrieval import models
from avpipe.retrieval.models.base import RetrievalModel

PUBLISHED_DIMS = {"avlnet": 4096, "avlnet_text_tri": 6144, "avlnet_text_fused": 4096}
NEVER_USED = ("DAVEnet.batchnorm1.", "GU_audio.")


def small(name: str, **changes: int) -> RetrievalModel:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "audio_channels": 4, "video_dim": 6, "word_dim": 5, **changes}
    return models.build(name, **sizes).double()


def small_batch(n_clips: int = 3, length: int = 64) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "audio": torch.rand(n_clips, 40, length, generator=generator, dtype=torch.float64) * -80,
        "video": torch.randn(n_clips, 6, generator=generator, dtype=torch.float64),
        "text": torch.randn(n_clips, 20, 5, generator=generator, dtype=torch.float64),
    }


@pytest.mark.parametrize("name", list(PUBLISHED_DIMS))
@pytest.mark.parametrize("which", ["shapes", "default_shapes"])
def test_entries_are_those_of_published_checkpoints(recorded: Recorded, name: str, which: str) -> None:
    with torch.device("meta"):
        model = models.build(name, embedding_dim=64 if which == "shapes" else PUBLISHED_DIMS[name])
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert found == recorded.shapes(name, which)
    trained = {key for key, _ in model.named_parameters()}
    unused = set(recorded.kinds[KINDS[name]]["never_get_grad"])
    assert not trained & unused  # no optimiser is to see them
    stored = {key for key in found if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert trained == stored - unused


@pytest.mark.slow
def test_eval_mode_equals_the_records(recorded: Recorded) -> None:
    numbers = recorded.numbers("recipe_av_small.npz")
    model = recorded.model("avlnet")
    n_frames = torch.tensor(numbers["in_nframes"])
    with torch.no_grad():
        audio = torch.tensor(numbers["in_audio"])
        features = model.DAVEnet(audio)
        found = model.embed(audio, torch.tensor(numbers["in_video"]), n_frames=n_frames)
    assert list(features.shape) == numbers["eval_davenet_shape"].tolist()
    # float32, another order of summation: measured 6e-7 to 8e-7.
    assert relative(found["audio"], numbers["eval_audio"]) < 5e-6
    assert relative(found["video"], numbers["eval_video"]) < 5e-6
    assert relative(model.similarity(found), numbers["eval_sim"]) < 5e-6
    assert model.loss(found).item() == pytest.approx(float(numbers["eval_loss"]), abs=1e-5)
    assert n_frames.tolist() == numbers["in_nframes"].tolist()  # the published code divides the caller's counts


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["evalmode", "trainmode"])
def test_gradients_equal_the_records(recorded: Recorded, mode: str) -> None:
    numbers = recorded.numbers("recipe_av_small.npz")
    model = recorded.model("avlnet").train(mode == "trainmode")
    embeddings = model.embed(
        torch.tensor(numbers["in_audio"]),
        torch.tensor(numbers["in_video"]),
        n_frames=torch.tensor(numbers["in_nframes"]),
    )
    loss = model.loss(embeddings)
    loss.backward()
    assert loss.item() == pytest.approx(numbers[f"{mode}_losses"][0], abs=1e-5)
    assert relative(embeddings["audio"], numbers[f"{mode}_out_audio"]) < 5e-6
    norms = dict(zip(numbers[f"{mode}_gradnames"].tolist(), numbers[f"{mode}_gradnorm"].tolist(), strict=True))
    expected = {key: norm for key, norm in norms.items() if not key.startswith("DAVEnet.batchnorm1.")}
    found = {key: float(each.grad.norm()) for key, each in model.named_parameters() if each.grad is not None}
    # Gradients of early layers are sums that cancel: measured 4e-4 (frozen) and 7e-4 (batch statistics) in float32.
    assert found == pytest.approx(expected, rel=3e-3)
    gradient = model.get_parameter("GU_video.fc.bias").grad
    assert gradient is not None and relative(gradient, numbers[f"{mode}_grad_GU_video_fc_bias"]) < 1e-4


@pytest.mark.slow
def test_three_training_steps_equal_the_records_in_float64(recorded: Recorded) -> None:
    numbers = recorded.numbers("train64_av.npz")
    model = recorded.model("avlnet").double().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        audio, video = (torch.tensor(numbers[f"in_{key}"]).double() for key in ("audio", "video"))
        loss = model.loss(model.embed(audio, video, n_frames=torch.tensor(numbers["in_nframes"])))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # 6e-11: the published loss subtracts a margin that was rounded to float32.
    assert losses == pytest.approx(numbers["losses"].tolist(), abs=1e-9)
    state = model.state_dict()
    for key in [key for key in numbers if key in state]:
        found = state[key][::16, 0, :, 0] if key == "DAVEnet.conv1.weight" else state[key]
        assert relative(found, numbers[key]) < 1e-9, key


def plain_audio(state: dict[str, torch.Tensor], audio: torch.Tensor) -> torch.Tensor:
    """The audio network in eval mode, with the convolutions as they are stored."""

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, variance, weight, bias = (
            state[f"DAVEnet.{key}.{each}"].view(-1, 1, 1) for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def convolved(x: torch.Tensor, key: str, stride: int) -> torch.Tensor:
        weight = state[f"DAVEnet.{key}.weight"]
        return F.conv2d(x, weight, stride=(1, stride), padding=(0, weight.shape[3] // 2))

    x = torch.relu(norm(convolved(audio[:, None], "conv1", 1), "bn1"))
    for layer in range(1, 5):
        for block in range(2):
            key, stride = f"layer{layer}.{block}", 2 - block
            out = torch.relu(norm(convolved(x, f"{key}.conv1", stride), f"{key}.bn1"))
            out = norm(convolved(out, f"{key}.conv2", 1), f"{key}.bn2")
            short = norm(convolved(x, f"{key}.downsample.0", 2), f"{key}.downsample.1") if block == 0 else x
            x = torch.relu(out + short)
    return x[:, :, 0]


def plain_embeddings(
    name: str, state: dict[str, torch.Tensor], batch: dict[str, Any], counts: list[int]
) -> dict[str, torch.Tensor]:
    """Eval-mode embeddings from the description in docs/methods.md, Audio network; The three models."""

    def linear(x: torch.Tensor, key: str) -> torch.Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def gated(x: torch.Tensor, key: str) -> torch.Tensor:
        return x / (1 + torch.exp(-linear(x, f"{key}.cg.fc")))

    features = plain_audio(state, batch["audio"])
    pooled = torch.stack([each[:, :n].mean(dim=1) for each, n in zip(features, counts, strict=True)])
    video = gated(linear(batch["video"], "GU_video.fc"), "GU_video")
    words = batch["text"]
    if name == "avlnet_text_fused":
        audio = linear(pooled, "DAVEnet_projection")
        text = torch.relu(linear(words, "text_pooling_caption.fc")).max(dim=1)[0]
        both = linear(audio, "GU_audio_text.fc_audio") + linear(text, "GU_audio_text.fc_text")
        return {"audio_text": gated(both, "GU_audio_text"), "video": video}
    audio = linear(gated(linear(pooled, "GU_audio.fc"), "GU_audio"), "DAVEnet_projection")
    if name == "avlnet":
        return {"audio": audio, "video": video}
    text = torch.relu(linear(words, "text_pooling_caption.fc")).max(dim=1)[0]
    return {"audio": audio, "video": video, "text": gated(linear(text, "GU_text_captions.fc"), "GU_text_captions")}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PUBLISHED_DIMS))
def test_equals_an_independent_computation_in_float64(recorded: Recorded, name: str) -> None:
    numbers = recorded.numbers("train64_av.npz")
    batch = {key: torch.tensor(numbers[f"in_{key}"]).double() for key in ("audio", "video", "text")}
    model = recorded.model(name).double()
    state = {key: value.double() for key, value in recorded.weights(name).items()}
    expected = plain_embeddings(name, state, batch, counts=[32, 32, 16, 10])  # of 512, 1289 (cut), 256, 170 frames
    with torch.no_grad():
        found = model.embed(*batch.values(), n_frames=torch.tensor(numbers["in_nframes"]))
    assert tuple(found) == model.modalities and set(found) == set(expected)
    for key, value in found.items():
        assert relative(value, expected[key]) < 1e-12, key  # rounding of float64: measured 2e-15
    query, candidates = {
        "avlnet": (lambda e: e["audio"], lambda e: e["video"]),
        "avlnet_text_tri": (lambda e: e["text"], lambda e: e["audio"] + e["video"]),
        "avlnet_text_fused": (lambda e: e["audio_text"], lambda e: e["video"]),
    }[name]
    assert relative(model.similarity(found), query(expected) @ candidates(expected).T) < 1e-12


def test_pairwise_objective_sums_all_pairs() -> None:
    model, batch = small("avlnet_text_tri"), small_batch()
    found = model.eval().embed(**batch)
    a, v, t = (found[key].detach() for key in ("audio", "video", "text"))

    def term(similarity: torch.Tensor) -> float:
        z = similarity - 0.1 * torch.eye(3, dtype=torch.float64)
        return float((torch.logsumexp(z, 1) + torch.logsumexp(z, 0) - 2 * z.diagonal()).mean())

    expected = term(a @ v.T) + term(a @ t.T) + term(t @ v.T)
    assert model.loss(found, margin=0.1, objective="pairwise").item() == pytest.approx(expected, rel=1e-12)
    assert model.loss(found, margin=0.1).item() == pytest.approx(term(t @ (a + v).T), rel=1e-12)
    for name in ("avlnet", "avlnet_text_fused"):
        model = small(name).eval()
        found = model.embed(**batch)
        assert torch.equal(model.loss(found, objective="pairwise"), model.loss(found))


@pytest.mark.parametrize("name", models.names())
def test_parts_can_be_embedded_alone(name: str) -> None:
    model, batch = small(name).eval(), small_batch()
    whole = model.embed(**batch)
    pooled = model.pool_audio(batch["audio"])
    video = model.embed_pooled(None, batch["video"])
    assert set(video) == {"video"} and torch.equal(video["video"], whole["video"])
    words = model.embed_pooled(None, None, batch["text"])
    assert set(words) == {"text"} & set(model.modalities)
    query = model.embed_pooled(pooled if "audio" in model.query else None, None, batch["text"])
    assert torch.equal(model.query_of(query), model.query_of(whole))


@pytest.mark.parametrize("name", models.names())
def test_a_model_in_half_precision_embeds(name: str) -> None:
    exact = small(name).eval()
    batch = {key: value.float() for key, value in small_batch().items()}
    with torch.no_grad():
        expected = exact.embed(**{key: value.double() for key, value in batch.items()})
        found = exact.bfloat16().embed(batch["audio"], batch["video"].bfloat16(), batch["text"].bfloat16())
    for key, value in found.items():
        assert value.dtype == torch.bfloat16
        assert relative(value.double(), expected[key].numpy()) < 0.05, key  # 8 bits of mantissa through 18 layers


def test_pooling_follows_the_mode_unless_told() -> None:
    model, batch = small("avlnet"), small_batch()
    n_frames = torch.tensor([64, 33, 5])  # 4, 2 and (at least) 1 of 4 output frames
    features = model.eval().DAVEnet(batch["audio"])
    own = torch.stack([each[:, :n].mean(dim=1) for each, n in zip(features, (4, 2, 1), strict=True)])
    assert relative(model.pool_audio(batch["audio"], n_frames=n_frames), own) < 1e-14
    everything = model.pool_audio(batch["audio"], n_frames=n_frames, own_frames=False)
    assert relative(everything, features.mean(dim=2)) < 1e-14
    features = model.train().DAVEnet(batch["audio"])
    assert relative(model.pool_audio(batch["audio"], n_frames=n_frames), features.mean(dim=2)) < 1e-14
    own = torch.stack([each[:, :n].mean(dim=1) for each, n in zip(features, (4, 2, 1), strict=True)])
    assert relative(model.pool_audio(batch["audio"], n_frames=n_frames, own_frames=True), own) < 1e-14


def test_unknown_and_impossible_models_are_refused() -> None:
    with pytest.raises(AvpipeError, match="Unknown retrieval model 'avl'"):
        models.build("avl", embedding_dim=64)
    with pytest.raises(AvpipeError, match="embedding_dim of avlnet_text_fused is 7"):
        small("avlnet_text_fused", embedding_dim=7)
    with pytest.raises(AvpipeError, match="audio_channels of avlnet is 0"):
        small("avlnet", audio_channels=0)
    batch = small_batch()
    with pytest.raises(AvpipeError, match="embeds text"):
        small("avlnet_text_tri").embed(batch["audio"], batch["video"])
    with pytest.raises(AvpipeError, match="2 frame counts"):
        small("avlnet").eval().embed(**batch, n_frames=[3, 3])
    with pytest.raises(AvpipeError, match="Objective 'both'"):
        small("avlnet").loss({}, objective="both")


@pytest.mark.slow
def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = models.build("avlnet", embedding_dim=8)
    state = model.state_dict()
    for key, fan_out in (("conv1", 40 * 128), ("layer3.1.conv2", 9 * 512), ("layer2.0.downsample.0", 256)):
        spread = float(state[f"DAVEnet.{key}.weight"].std())
        assert spread == pytest.approx(np.sqrt(2 / fan_out), rel=0.05)  # of at least 5,120 draws: 1 % of itself
    assert state["DAVEnet.layer1.0.bn1.weight"].eq(1).all() and state["DAVEnet.layer1.0.bn1.bias"].eq(0).all()
