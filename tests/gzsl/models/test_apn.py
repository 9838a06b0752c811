"""APN: numbers worked out by hand, and gradients against convolutions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models.base import adam

TERMS = ["cls_base", "reg_base", "cls_proto", "reg_proto", "total"]
LOG3 = math.log(3)


def hand_set_model(**settings: Any) -> models.Method:
    """One number per modality: the scored map's first output is video, its second is audio; the prototypes are 0."""
    model = models.build("apn", audio_dim=1, video_dim=1, **settings).double()
    with torch.no_grad():
        model.prototype_vectors["layer4"].zero_()
        model.ALE_vector.zero_()
        model.ALE_vector[0, 0] = model.ALE_vector[1, 1] = 1.0
    return model


def random_batch(seed: int, *, size: int = 8, n_classes: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(n_classes, 300, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_classes, (size,), generator=generator)
    audio = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    video = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    return {"audio": audio, "video": video, "text": words[labels], "labels": labels, "words": words}


def test_loss_by_hand() -> None:
    words = torch.eye(2, 300, dtype=torch.float64)
    labels = torch.tensor([0, 0])
    video = torch.tensor([[LOG3], [0.0]], dtype=torch.float64)
    audio = video.flip(0)
    batch = {"audio": audio, "video": video, "text": words[labels], "labels": labels, "words": words}
    # Scores (ln 3, 0) and (0, ln 3), so probabilities (3/4, 1/4) and (1/4, 3/4), which pass a softmax once more;
    # the prototypes' scores are (0, 0).
    cls_base = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(0.5))) / 2
    reg_base = ((LOG3 - 1) ** 2 + 1 + LOG3**2) / 600
    expected = [cls_base, reg_base, math.log(2), 1 / 300]
    losses = hand_set_model().losses(batch)
    assert list(losses) == TERMS
    assert [value.item() for value in losses.values()] == pytest.approx([*expected, sum(expected)], rel=1e-12)


def test_distance_by_hand() -> None:
    words = torch.zeros(2, 300, dtype=torch.float64)
    words[1, 0] = 3.0
    audio, video = torch.tensor([[4.0]]).double(), torch.tensor([[3.0]]).double()
    model = hand_set_model().eval()
    distances = model.distances(audio, video, words)
    assert list(distances) == ["both"]
    assert distances["both"].tolist()[0] == pytest.approx([5, 4])
    unit = hand_set_model(norm_inputs=True).eval().distances(audio, video, words)["both"]
    assert unit.tolist()[0] == pytest.approx([1, math.hypot(2.4, 0.8)])
    assert (model.calibration_modes, model.score_mode) == (("both",), "both")


@pytest.mark.parametrize("norm_inputs", [False, True])
def test_gradients_equal_those_of_convolutions(norm_inputs: bool) -> None:
    torch.manual_seed(0)
    model = models.build("apn", audio_dim=4, video_dim=3, norm_inputs=norm_inputs).double()
    batch = random_batch(1)
    clips = torch.cat((batch["video"], batch["audio"]), 1)
    if norm_inputs:
        clips = clips / (clips * clips).sum(1, keepdim=True).sqrt()
    matrices = {"base": model.ALE_vector, "proto": model.prototype_vectors["layer4"]}
    with torch.no_grad():  # the published start is too close to 0 for the classes to differ
        for matrix in matrices.values():
            matrix.normal_(std=0.1)
    theirs = torch.zeros((), dtype=torch.float64)
    for matrix in matrices.values():
        projected = F.conv2d(clips[:, :, None, None], matrix)[:, :, 0, 0]
        probabilities = torch.softmax(projected @ batch["words"].T, 1)
        picked = torch.softmax(probabilities, 1)[torch.arange(8), batch["labels"]]
        theirs = theirs - picked.log().mean() + (projected - batch["text"]).square().mean()
    ours = model.losses(batch)["total"]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    gradients = torch.autograd.grad(ours, list(matrices.values()))
    for gradient, expected in zip(gradients, torch.autograd.grad(theirs, list(matrices.values())), strict=True):
        # float64: both are sums of the same few hundred products.
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_published_names_and_initialisation() -> None:
    torch.manual_seed(2)
    state = models.build("apn", audio_dim=5, video_dim=4).state_dict()
    torch.manual_seed(2)
    prototypes, scored = (2e-4 * torch.rand(300, 9, 1, 1) for _ in range(2))
    assert list(state) == ["ALE_vector", "prototype_vectors.layer4"]
    assert torch.equal(state["ALE_vector"], scored)
    assert torch.equal(state["prototype_vectors.layer4"], prototypes)


def test_the_loss_does_not_depend_on_the_mode_and_is_deterministic() -> None:
    model, batch = models.build("apn", audio_dim=4, video_dim=3).double(), random_batch(3)
    assert model.losses(batch) == model.eval().losses(batch)


def test_one_clip_of_the_only_class() -> None:
    model = models.build("apn", audio_dim=4, video_dim=3).double()
    losses = model.losses(random_batch(4, size=1, n_classes=1))
    losses["total"].backward()
    assert losses["cls_base"].item() == losses["cls_proto"].item() == 0
    assert model.ALE_vector.grad.isfinite().all()


@pytest.mark.parametrize("name", ["labels", "words"])
def test_missing_keys_are_named(name: str) -> None:
    batch = random_batch(5)
    del batch[name]
    with pytest.raises(AvpipeError, match=f"lacks {name}"):
        models.build("apn", audio_dim=4, video_dim=3).double().losses(batch)


def test_nothing_depends_on_values() -> None:
    """Tensors without values: reading one, or a shape that depends on one, raises."""
    model = models.build("apn", audio_dim=4, video_dim=3).double().to("meta")
    model.losses({key: value.to("meta") for key, value in random_batch(6).items()})["total"].backward()
    assert model.ALE_vector.grad.shape == (300, 7, 1, 1)


def test_it_learns() -> None:
    torch.manual_seed(7)
    model = models.build("apn", audio_dim=4, video_dim=3)
    words, centres, labels = torch.randn(4, 300), torch.randn(4, 7), torch.arange(32) % 4
    clips = centres[labels] + 0.05 * torch.randn(32, 7)
    batch = {"audio": clips[:, :4], "video": clips[:, 4:], "text": words[labels], "labels": labels, "words": words}
    optimizers = [adam(model.parameters(), 1e-2)]
    before = model.losses(batch)
    for index in range(60):
        model.training_step(batch, optimizers, index=index)
    after = model.losses(batch)
    assert after["reg_base"] < 0.5 * before["reg_base"]
    # A softmax of probabilities cannot get below ln(1 + 3/e) = 0.744 with four classes; it starts at ln 4.
    assert before["cls_base"].item() == pytest.approx(math.log(4), abs=0.01)
    assert after["cls_base"].item() < 0.76
    nearest = model.eval().distances(batch["audio"], batch["video"], words)["both"].argmin(1)
    assert torch.equal(nearest, labels)
