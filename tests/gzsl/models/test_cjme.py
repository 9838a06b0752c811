"""CJME: numbers worked out by hand, and gradients and BatchNorm against a model of plain torch layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models.base import adam
from avpipe.gzsl.models.cjme import attention_target

SIZES = {"audio_dim": 4, "video_dim": 3, "embeddings_hidden_size": 6}
EPS = 1e-4  # of hand-worked numbers: the 1e-6 that the triplets add to each of 64 components
ROOT2 = math.sqrt(2)


def rows(*vectors: Sequence[float], width: int = 2) -> Tensor:
    """[n, width], filled up with zeros."""
    out = torch.zeros(len(vectors), width, dtype=torch.float64)
    out[:, :2] = torch.tensor(vectors, dtype=torch.float64)
    return out


def hand_set_model() -> models.Method:
    """In eval mode every network passes its first two inputs, cut at zero, on to its first two outputs.

    Attention is a sigmoid of ln 3 times (2 a_1 - a_0), where a is the audio vector.
    """
    model = models.build("cjme", audio_dim=2, video_dim=2, embeddings_hidden_size=2).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".fc.1." not in name and "attention_model.0" not in name:
                parameter.zero_()
        for net in model.triplet_net.children():
            for layer in (net.fc[0], net.fc[4]):
                layer.weight.fill_diagonal_(1.0)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eps = 0.0
        model.attention_model[1].weight[0, :2] = math.log(3) * torch.tensor([-1.0, 2.0], dtype=torch.float64)
    return model


def random_batch(seed: int, *, size: int = 8, n_classes: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(n_classes, 300, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_classes, (size,), generator=generator)
    batch = {"words": words, "labels": labels, "text": words[labels], "text_neg": words[(labels + 1) % n_classes]}
    for name, width in (("audio", 4), ("video", 3)):
        for suffix in ("", "_neg"):
            batch[name + suffix] = torch.randn(size, width, generator=generator, dtype=torch.float64)
    return batch


def test_loss_by_hand() -> None:
    batch = {
        "audio": rows((2, 0), (1, 1), (1, 0)),
        "audio_neg": rows((2, 3), (0, 1), (1, 0.5)),
        "video": rows((1, 1), (0, 2), (1, 0)),
        "video_neg": rows((2, 1), (4, 5), (1, 0.25)),
        "text": rows((2, 0), (0, 2), (1, 0), width=300),
        "text_neg": rows((9, 9), (9, 9), (9, 9), width=300),
        "words": rows((4, 0), (0, 4), width=300),
    }
    for_audio = [0, ROOT2 - 1 + 1, 0 - 0.5 + 1]  # max(0, 0 - 3 + 1) is inactive
    for_video = [ROOT2 - 1 + 1, 0, 0 - 0.25 + 1]  # max(0, 0 - 5 + 1) is inactive
    attention = [0.1, 0.75, 0.25]  # sigmoid of ln 3 times -2, 1, -1
    # An embedding along one class vector is sure of the class, (1, 1) is not: clip 0 is clearer by audio, clip 1 by
    # video, clip 2 by neither.
    target = [0, 1, 0.5]
    by_clip = list(zip(for_audio, for_video, strict=True))
    ct = sum((1 - g) * by_audio + g * by_video for g in attention for by_audio, by_video in by_clip)
    expected = {
        "ct": ct / 9,
        "av": (2 + 2 + 0) / (3 * 64),
        "attention": sum((g - t) ** 2 for g, t in zip(attention, target, strict=True)) / 3,
    }
    losses = hand_set_model().losses(batch)
    assert list(losses) == [*expected, "total"]
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=EPS), name
    assert losses["total"].item() == pytest.approx(sum(expected.values()), abs=EPS)


def test_attention_follows_the_modality_that_is_surer_by_more_than_a_tenth_of_a_nat() -> None:
    classes = torch.eye(2, dtype=torch.float64)

    def clip_with(entropy: float) -> list[float]:
        """Scores of two classes whose softmax has this entropy, found by bisection."""
        low, high = 0.0, 50.0
        for _ in range(100):
            middle = (low + high) / 2
            p = 1 / (1 + math.exp(-middle))
            is_surer = -p * math.log(p) - (1 - p) * math.log1p(-p) < entropy if p < 1 else True
            low, high = (low, middle) if is_surer else (middle, high)
        return [middle, 0.0]

    gaps = [0.11, 0.09, 0.0, -0.09, -0.11]  # entropy by video minus entropy by audio
    audio = torch.tensor([clip_with(0.3) for _ in gaps], dtype=torch.float64)
    video = torch.tensor([clip_with(0.3 + gap) for gap in gaps], dtype=torch.float64)
    assert attention_target(audio, video, classes).tolist() == [0, 0.5, 0.5, 0.5, 1]


def test_distances_by_hand() -> None:
    # Attention 1/4, 3/4 and, from a sum of exactly 0, exactly 1/2, which counts as video.
    audio, video = rows((1, 0), (1, 1), (2, 1)), rows((4, 4), (0, 2), (0, 3))
    distances = hand_set_model().distances(audio, video, rows((1, 0), (0, 0), width=300))
    by_audio = [[0, 1], [1, ROOT2], [ROOT2, math.sqrt(5)]]
    by_video = [[5, math.sqrt(32)], [math.sqrt(5), 2], [math.sqrt(10), 3]]
    assert list(distances) == ["audio", "video", "both"]
    assert distances["audio"].tolist() == [pytest.approx(row, abs=1e-7) for row in by_audio]
    assert distances["video"].tolist() == [pytest.approx(row, abs=1e-7) for row in by_video]
    assert distances["both"].tolist() == [pytest.approx(row, abs=1e-7) for row in [by_audio[0], *by_video[1:]]]
    model = hand_set_model()
    assert (model.calibration_modes, model.score_mode) == (("audio", "video", "both"), "both")


class PlainCJME(nn.Module):
    """The model written with plain layers, one call after the other; no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.triplet_net = nn.Module()
        for number, (width, hidden) in enumerate(((4, 6), (3, 6), (300, 300)), start=1):
            net = nn.Module()
            net.fc = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, 64),
                nn.ReLU(),
            )  # fmt: skip
            setattr(self.triplet_net, f"embedding_net{number}", net)
        self.attention_model = nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 1), nn.Sigmoid())

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        f_a, f_v, f_t = (net.fc for net in self.triplet_net.children())
        a, v, t = f_a(batch["audio"]), f_v(batch["video"]), f_t(batch["text"])
        a_neg, v_neg, _ = f_a(batch["audio_neg"]), f_v(batch["video_neg"]), f_t(batch["text_neg"])
        g = self.attention_model(torch.cat((batch["audio"], batch["video"]), 1))
        z = f_t(batch["words"]).detach()
        h_a, h_v = (torch.distributions.Categorical(logits=(x @ z.T).detach()).entropy() for x in (a, v))
        target = torch.tensor([0.0 if d > 0.1 else 1.0 if d < -0.1 else 0.5 for d in (h_v - h_a).tolist()]).double()
        triplet = nn.TripletMarginLoss(margin=1.0, reduction="none")
        weighted = (1 - g) * triplet(t, a, a_neg) + g * triplet(t, v, v_neg)
        assert weighted.shape == (len(a), len(a))  # clip by clip: [B, 1] times [B]
        return weighted.mean() + (a - v).square().mean() + (g[:, 0] - target).square().mean()


def both_models(seed: int) -> tuple[models.Method, PlainCJME]:
    torch.manual_seed(seed)
    ours = models.build("cjme", **SIZES, dropout=0.0).double()
    plain = PlainCJME().double()
    plain.load_state_dict(ours.state_dict(), strict=True)
    return ours, plain


def test_three_steps_equal_those_of_plain_layers() -> None:
    """Losses, gradients and the running statistics, whose order is f_t(t), f_t(t-), f_t(classes)."""
    ours, plain = both_models(0)
    for index in range(3):
        batch = random_batch(index)
        total, expected = ours.losses(batch)["total"], plain.loss(batch)
        assert total.item() == pytest.approx(expected.item(), rel=1e-12)
        for model, loss in ((ours, total), (plain, expected)):
            model.zero_grad()
            loss.backward()
        for (name, ours_p), plain_p in zip(ours.named_parameters(), plain.parameters(), strict=True):
            # Biases before BatchNorm have gradient 0 up to rounding, hence the absolute tolerance.
            torch.testing.assert_close(ours_p.grad, plain_p.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, value), expected in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-13, msg=name)
    assert ours.triplet_net.embedding_net3.fc[1].num_batches_tracked == 9
    assert ours.triplet_net.embedding_net1.fc[1].num_batches_tracked == 6


def test_published_names_and_initialisation() -> None:
    torch.manual_seed(1)
    state = models.build("cjme", **SIZES).state_dict()
    torch.manual_seed(1)
    published = PlainCJME().state_dict()
    assert list(state) == list(published)
    assert all(torch.equal(state[name], published[name]) for name in state)


def test_untracked_step_has_the_same_gradients_and_counts_its_calls() -> None:
    ours, other = both_models(2)[0], both_models(2)[0]
    batch = random_batch(3)
    ours.losses(batch)["total"].backward()
    other.losses(batch, track_statistics=False)["total"].backward()
    for mine, others in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, others.grad, rtol=1e-9, atol=1e-12)
    for (name, value), others in zip(ours.state_dict().items(), other.state_dict().values(), strict=True):
        if name.startswith("triplet_net") and "running" in name:
            assert not torch.equal(value, others), name
        else:
            assert torch.equal(value, others), name


def test_evaluation_is_deterministic_and_changes_nothing() -> None:
    model = models.build("cjme", **SIZES, dropout=0.5).double()
    batch = random_batch(4)
    assert model.losses(batch)["total"] != model.losses(batch)["total"]
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.losses(batch)["total"] == model.losses(batch)["total"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_reaches_the_class_projections() -> None:
    """f_t is in training mode for the classes too, so its dropout alone changes the attention's targets."""
    torch.manual_seed(5)
    model, batch = models.build("cjme", **SIZES, dropout=0.0).double(), random_batch(6)
    with torch.no_grad():
        model.triplet_net.embedding_net3.fc[4].weight.mul_(20)  # scores far enough apart for entropies to differ
    assert model.losses(batch)["attention"] == model.losses(batch)["attention"]
    model.triplet_net.embedding_net3.dropout = 0.5
    assert len({model.losses(batch)["attention"].item() for _ in range(5)}) > 1


@pytest.mark.parametrize(("size", "n_classes", "found"), [(1, 3, r"1 row\(s\) of length 4"), (4, 1, r"1 row.*300")])
def test_one_row_cannot_be_normalised(size: int, n_classes: int, found: str) -> None:
    model, batch = models.build("cjme", **SIZES).double(), random_batch(7, size=size, n_classes=n_classes)
    with pytest.raises(AvpipeError, match=found):
        model.losses(batch)
    assert model.eval().losses(batch)["total"].isfinite()


def test_missing_words_are_named() -> None:
    batch = random_batch(8)
    del batch["words"]
    with pytest.raises(AvpipeError, match="lacks words"):
        models.build("cjme", **SIZES).double().losses(batch)


def test_nothing_depends_on_values() -> None:
    """Tensors without values: reading one, or a shape that depends on one, raises."""
    model = models.build("cjme", **SIZES).double().to("meta")
    batch = {key: value.to("meta") for key, value in random_batch(9).items()}
    model.losses(batch)["total"].backward()
    assert model.attention_model[1].weight.grad.shape == (1, 7)


def test_it_learns() -> None:
    torch.manual_seed(10)
    model = models.build("cjme", audio_dim=4, video_dim=3, embeddings_hidden_size=32)
    words, centres, labels = torch.randn(4, 300), torch.randn(4, 7), torch.arange(32) % 4
    others = (labels + 1 + torch.arange(32) // 4 % 3) % 4
    clips, negatives = (centres[of] + 0.05 * torch.randn(32, 7) for of in (labels, others))
    batch = {"text": words[labels], "text_neg": words[others], "labels": labels, "words": words}
    for suffix, vectors in (("", clips), ("_neg", negatives)):
        batch["audio" + suffix], batch["video" + suffix] = vectors[:, :4], vectors[:, 4:]
    optimizers = [adam(model.parameters(), 1e-3)]
    first = model.losses(batch)["total"].item()
    for index in range(60):
        last = model.training_step(batch, optimizers, index=index)["total"].item()
    assert last < 0.3 * first
    # The triplets start from a class vector: they order the clips around it, not the classes around a clip.
    distances = model.eval().distances(batch["audio"], batch["video"], words)["both"]
    nearest_clips = distances.topk(8, dim=0, largest=False).indices  # [8, classes]
    assert torch.equal(labels[nearest_clips], torch.arange(4).expand(8, 4))
