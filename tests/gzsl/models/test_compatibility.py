"""ALE, DEVISE and SJE: numbers worked out by hand, and gradients against plain loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models.ale import rank_weights
from avpipe.gzsl.models.base import adam

NAMES = ("ale", "devise", "sje")


def identity_model(name: str, **settings: Any) -> models.Method:
    """One number per modality: the map's first output is video, the second is audio, the others are 0."""
    model = models.build(name, audio_dim=1, video_dim=1, **settings).double()
    with torch.no_grad():
        model.bilinear.weight.zero_()
        model.bilinear.weight[0, 0] = model.bilinear.weight[1, 1] = 1.0
    return model


def words_of(*vectors: tuple[float, ...]) -> Tensor:
    """Class vectors [C, 300] of which only the first components are given."""
    words = torch.zeros(len(vectors), 300, dtype=torch.float64)
    words[:, : len(vectors[0])] = torch.tensor(vectors, dtype=torch.float64)
    return words


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]


def random_batch(seed: int, *, size: int = 12, n_classes: int = 6, spread: float = 0.2) -> dict[str, Tensor]:
    """Clips whose scores, with default weights, violate the margin for some classes and not for others."""
    generator = torch.Generator().manual_seed(seed)
    words = spread * torch.randn(n_classes, 300, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_classes, (size,), generator=generator)
    audio = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    video = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    return {"audio": audio, "video": video, "labels": labels, "words": words}


@pytest.mark.parametrize(
    ("name", "clip_losses"),
    [
        ("devise", [0.2, 0.05, 0.0, 1.2]),
        ("sje", [0.15, 0.05, 0.0, 0.45]),
        ("ale", [0.2 * (1 + 1 / 2) / 2, 0.05, 0.0, 1.2 * (1 + 1 / 2 + 1 / 3) / 3]),
    ],
)
def test_loss_by_hand(name: str, clip_losses: list[float]) -> None:
    model = identity_model(name, dropout=0.0)
    words = words_of((0.5, 0.3), (0.45, 0.9), (0.2, 0.1), (0.55, 0.85))
    # Scores and violations with margin 0.1; the last number is how many classes violate it.
    # clip 0, label 0: (0.5, 0.45, 0.2, 0.55) -> (-, 0.05, 0, 0.15)      2
    # clip 1, label 1: (0.3, 0.9, 0.1, 0.85)  -> (0, -, 0, 0.05)         1
    # clip 2, label 3: (2.0, 1.8, 0.8, 2.2)   -> (0, 0, 0, -)            0
    # clip 3, label 2: (0.5, 0.45, 0.2, 0.55) -> (0.4, 0.35, -, 0.45)    3
    video, audio = column(1, 0, 4, 1), column(0, 1, 0, 0)
    batch = {"audio": audio, "video": video, "labels": torch.tensor([0, 1, 3, 2]), "words": words}
    losses = model.losses(batch)
    assert list(losses) == ["ranking", "total"]
    # 1e-7: ALE's 1e-8 beside the rank.
    assert losses["total"].item() == pytest.approx(sum(clip_losses) / 4, rel=1e-7)
    assert losses["ranking"].item() == losses["total"].item()


@pytest.mark.parametrize("name", NAMES)
def test_the_margin_is_a_setting(name: str) -> None:
    model = identity_model(name, dropout=0.0, margin=1.0)
    batch = {"audio": column(0), "video": column(1), "labels": torch.tensor([0]), "words": words_of((2.0,), (1.5,))}
    assert model.losses(batch)["total"].item() == pytest.approx(0.5, rel=1e-7)  # 1 + 1.5 - 2, rank 1


@pytest.mark.parametrize("name", NAMES)
def test_distance_by_hand(name: str) -> None:
    words = words_of((0.0, 0.0), (3.0, 0.0), (0.6, 0.8))
    video, audio = column(3), column(4)
    plain = identity_model(name).eval().distances(audio, video, words)
    assert list(plain) == ["both"]
    assert plain["both"].tolist()[0] == pytest.approx([5, 4, 4])
    unit = identity_model(name, norm_inputs=True).eval().distances(audio, video, words)
    assert unit["both"].tolist()[0] == pytest.approx([1, math.hypot(2.4, 0.8), 0], abs=1e-12)
    model = identity_model(name)
    assert (model.calibration_modes, model.score_mode) == (("both",), "both")


def looped_loss(name: str, model: models.Method, batch: dict[str, Tensor]) -> Tensor:
    """The same loss, one clip and one class at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for audio, video, label in zip(batch["audio"], batch["video"], batch["labels"].tolist(), strict=True):
        scores = batch["words"] @ (model.bilinear.weight @ torch.cat((video, audio)))
        violations = [
            0.1 + scores[j] - scores[label]
            for j in range(len(scores))
            if j != label and 0.1 + scores[j] > scores[label]
        ]
        if violations:
            rank = len(violations)
            weight = sum(1 / k for k in range(1, rank + 1)) / (rank + 1e-8) if name == "ale" else 1.0
            total = total + weight * (torch.stack(violations).max() if name == "sje" else sum(violations))
    return total / len(batch["labels"])


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_of_plain_loops(name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, audio_dim=4, video_dim=3, dropout=0.0).double()
    batch = random_batch(1)
    ours, theirs = model.losses(batch)["total"], looped_loss(name, model, batch)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(ours, model.parameters())
    (expected,) = torch.autograd.grad(theirs, model.parameters())
    # float64: both are sums of the same few hundred products.
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_rank_weights_are_harmonic_numbers_for_any_number_of_classes() -> None:
    weights = rank_weights(2001, torch.zeros(1, dtype=torch.float64))
    expected = [math.fsum(1 / k for k in range(1, r + 1)) / r for r in (1, 2, 700, 2000)]
    # 1e-8 of the formula beside the rank
    assert weights[[1, 2, 700, 2000]].tolist() == pytest.approx(expected, rel=2e-8)
    assert len(weights) == 2001 and weights[0] == 0
    assert rank_weights(1, torch.zeros(1)).tolist() == [0.0]


@pytest.mark.parametrize("name", NAMES)
def test_published_names_and_initialisation(name: str) -> None:
    torch.manual_seed(2)
    model = models.build(name, audio_dim=5, video_dim=4)
    torch.manual_seed(2)
    published = torch.nn.Linear(9, 300, bias=False)
    assert list(model.state_dict()) == ["bilinear.weight"]
    assert torch.equal(model.bilinear.weight, published.weight)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_of_clips_and_of_class_vectors(name: str) -> None:
    torch.manual_seed(3)
    model = identity_model(name, dropout=0.25)
    ones, words = torch.ones(4000, 1, dtype=torch.float64), torch.ones(20, 300, dtype=torch.float64)
    clips, again, classes = model.embed(ones, ones, words)
    assert again is clips
    for values in (clips[:, :2], classes):
        kept = values != 0
        assert torch.allclose(values[kept], torch.tensor(4 / 3, dtype=torch.float64))
        # 5 standard deviations of the share of 8000 and of 6000 draws.
        assert abs(kept.double().mean().item() - 0.75) < 5 * (0.75 * 0.25 / kept.numel()) ** 0.5
    _, _, classes = model.eval().embed(ones, ones, words)
    assert torch.equal(classes, words)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_training_is_not(name: str) -> None:
    model = models.build(name, audio_dim=4, video_dim=3, dropout=0.5).double()
    batch = random_batch(4)
    assert model.losses(batch)["total"] != model.losses(batch)["total"]
    model.eval()
    assert model.losses(batch)["total"] == model.losses(batch)["total"]
    inputs = batch["audio"], batch["video"], batch["words"]
    assert torch.equal(model.distances(*inputs)["both"], model.distances(*inputs)["both"])


@pytest.mark.parametrize("name", NAMES)
def test_one_clip_of_the_only_class(name: str) -> None:
    model = models.build(name, audio_dim=4, video_dim=3).double()
    total = model.losses(random_batch(5, size=1, n_classes=1))["total"]
    total.backward()
    assert total.item() == 0
    assert torch.equal(model.bilinear.weight.grad, torch.zeros_like(model.bilinear.weight))


@pytest.mark.parametrize("name", NAMES)
def test_missing_labels_and_words_are_named(name: str) -> None:
    model = models.build(name, audio_dim=4, video_dim=3).double()
    batch = random_batch(6)
    del batch["labels"], batch["words"]
    with pytest.raises(AvpipeError, match="has audio, video, but lacks labels, words"):
        model.losses(batch)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_depends_on_values(name: str) -> None:
    """Tensors without values: reading one, or a shape that depends on one, raises."""
    model = models.build(name, audio_dim=4, video_dim=3).double().to("meta")
    model.losses({key: value.to("meta") for key, value in random_batch(7).items()})["total"].backward()
    assert model.bilinear.weight.grad.shape == (300, 7)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str) -> None:
    torch.manual_seed(8)
    model = models.build(name, audio_dim=4, video_dim=3)
    words, centres = torch.randn(4, 300), torch.randn(4, 7)
    labels = torch.arange(32) % 4
    clips = centres[labels] + 0.05 * torch.randn(32, 7)
    batch = {"audio": clips[:, :4], "video": clips[:, 4:], "labels": labels, "words": words}
    optimizers = [adam(model.parameters(), 1e-2)]
    before = model.eval().losses(batch)["total"].item()
    model.train()
    for index in range(40):
        model.training_step(batch, optimizers, index=index)
    model.eval()
    assert model.losses(batch)["total"].item() < 0.05 * before
