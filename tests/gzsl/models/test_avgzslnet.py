"""AVGZSLNet: numbers worked out by hand, and gradients and BatchNorm against a model of plain torch layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models.base import adam
from avpipe.gzsl.models.embedding import EmbeddingNet

SIZES = {"audio_dim": 4, "video_dim": 3, "embeddings_hidden_size": 6, "decoder_hidden_size": 5}
NO_DROPOUT = {"embedding_dropout": 0.0, "decoder_dropout": 0.0}
EPS = 1e-4  # of hand-worked numbers: the 1e-6 that the triplets add to each of 64 or 300 components


def rows(*vectors: Sequence[float], width: int = 2) -> Tensor:
    """[n, width], filled up with zeros."""
    out = torch.zeros(len(vectors), width, dtype=torch.float64)
    out[:, :2] = torch.tensor(vectors, dtype=torch.float64)
    return out


def hand_set_model(**settings: bool) -> models.Method:
    """In eval mode every network passes its first two inputs, if positive, on to its first two outputs."""
    sizes = {"audio_dim": 2, "video_dim": 2, "embeddings_hidden_size": 2, "decoder_hidden_size": 2}
    model = models.build("avgzslnet", **sizes, **settings).double().eval()
    with torch.no_grad():
        for net in (*model.triplet_net.children(), model.decoder_net.embedding_net):
            net.fc[1].eps = 0.0
            for layer in (net.fc[0], net.fc[4]):
                layer.weight.zero_().fill_diagonal_(1.0)
                layer.bias.zero_()
    return model


def random_batch(seed: int, *, size: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = {"audio": 4, "video": 3, "text": 300}
    return {
        name + suffix: torch.randn(size, width, generator=generator, dtype=torch.float64)
        for suffix in ("", "_neg")
        for name, width in widths.items()
    }


HAND_BATCH = {
    "audio": rows((3, 4), (3, 4)),
    "video": rows((1, 0), (4, 3)),
    "text": rows((0, 1), (3, 4), width=300),
    "audio_neg": rows((0, 2), (3, 4)),
    "video_neg": rows((5, 0), (3, 4)),
    "text_neg": rows((3, 3.5), (3, 4.5), width=300),
}


def test_loss_by_hand() -> None:
    root = math.sqrt
    # Decoded vectors have length 1: text (0, 1) and (.6, .8), audio (.6, .8) twice, video (1, 0) and (.8, .6),
    # audio- (0, 1) and (.6, .8), video- (1, 0) and (.6, .8). One column per clip; 0 alone: the margin is inactive.
    clips = {
        "rec_w": (0, 4),
        "rec_a": (root(0.4), 4),
        "rec_v": (root(2), root(2.2**2 + 3.4**2)),
        "ct_a": (root(0.4) - 0 + 1, 0 - 0 + 1),
        "ct_v": (root(2) - root(2) + 1, root(0.08) - 0 + 1),
        "ta": (root(18) - 1 + 1, 0 - 0 + 1),
        "tv": (0, root(2) - 0 + 1),  # sqrt 2 - sqrt 26 + 1 < 0
        "at": (root(18) - 0.5 + 1, 0 - 0.5 + 1),
        "vt": (0, root(2) - root(3.25) + 1),  # sqrt 2 - sqrt 16.25 + 1 < 0
    }
    expected = {name: sum(values) / 2 for name, values in clips.items()}
    losses = hand_set_model().losses(HAND_BATCH)
    assert list(losses) == [*expected, "total"]
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, abs=EPS), name
    assert losses["total"].item() == pytest.approx(sum(expected.values()), abs=9 * EPS)


def test_decoded_vectors_keep_their_length_if_asked() -> None:
    losses = hand_set_model(normalize_decoder_outputs=False).losses(HAND_BATCH)
    root = math.sqrt
    assert losses["rec_w"].item() == 0
    assert losses["rec_a"].item() == pytest.approx(root(18) / 2)
    assert losses["rec_v"].item() == pytest.approx((root(2) + root(2)) / 2)
    assert losses["ct_a"].item() == pytest.approx((root(18) - 1 + 1 + 1) / 2, abs=EPS)


def test_distances_by_hand() -> None:
    distances = hand_set_model().distances(rows((3, 4)), rows((0, 1)), rows((0, 0), (3, 1), width=300))
    assert list(distances) == ["audio", "video", "both"]
    assert distances["audio"].tolist()[0] == pytest.approx([5, 3])
    assert distances["video"].tolist()[0] == pytest.approx([1, 3])
    assert distances["both"].tolist()[0] == pytest.approx([6, 6])
    model = hand_set_model()
    assert (model.calibration_modes, model.score_mode) == (("audio", "video", "both"), "both")


class PlainAVGZSLNet(nn.Module):
    """The model written with plain layers, one call after the other; no dropout."""

    def __init__(self) -> None:
        super().__init__()

        def net(width: int, hidden: int, outputs: int) -> nn.Module:
            module = nn.Module()
            module.fc = nn.Sequential(
                nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, outputs)
            )
            return module

        self.triplet_net = nn.Module()
        self.triplet_net.embedding_net1 = net(4, 6, 64)
        self.triplet_net.embedding_net2 = net(3, 6, 64)
        self.triplet_net.embedding_net3 = net(300, 300, 64)
        self.decoder_net = nn.Module()
        self.decoder_net.embedding_net = net(64, 5, 300)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        f_a, f_v, f_t = (net.fc for net in self.triplet_net.children())
        a, v, t = f_a(batch["audio"]), f_v(batch["video"]), f_t(batch["text"])
        a_neg, v_neg, t_neg = f_a(batch["audio_neg"]), f_v(batch["video_neg"]), f_t(batch["text_neg"])
        decoded = [self.decoder_net.embedding_net.fc(x) for x in (a, v, t, a_neg, v_neg)]
        x_a, x_v, x_t, x_a_neg, x_v_neg = (x / x.square().sum(1, keepdim=True).sqrt() for x in decoded)
        w = batch["text"]
        total = sum((x - w).square().sum(1).sqrt().mean() for x in (x_t, x_a, x_v))
        for triplet in (
            (x_t, x_a, x_a_neg), (x_t, x_v, x_v_neg), (t, a, a_neg), (a, t, t_neg), (t, v, v_neg), (v, t, t_neg),
        ):  # fmt: skip
            total = total + F.triplet_margin_loss(*triplet, margin=1.0)
        return total


def both_models(seed: int) -> tuple[models.Method, PlainAVGZSLNet]:
    torch.manual_seed(seed)
    ours = models.build("avgzslnet", **SIZES, **NO_DROPOUT).double()
    plain = PlainAVGZSLNet().double()
    plain.load_state_dict(ours.state_dict(), strict=True)
    return ours, plain


def test_three_steps_equal_those_of_plain_layers() -> None:
    """Losses, gradients and the running statistics, which take the decoder's calls as a, v, t, a-, v-."""
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
            torch.testing.assert_close(ours_p.grad, plain_p.grad, rtol=1e-9, atol=1e-11, msg=name)
    for (name, value), expected in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-13, msg=name)
    assert ours.decoder_net.embedding_net.fc[1].num_batches_tracked == 15


def test_published_names_and_initialisation() -> None:
    torch.manual_seed(1)
    state = models.build("avgzslnet", **SIZES).state_dict()
    torch.manual_seed(1)
    published = PlainAVGZSLNet().state_dict()
    assert list(state) == list(published)
    assert all(torch.equal(state[name], published[name]) for name in state)


def test_untracked_step_has_the_same_gradients_and_counts_its_calls() -> None:
    ours, other = both_models(2)[0], both_models(2)[0]
    batch = random_batch(3)
    ours.losses(batch)["total"].backward()
    other.losses(batch, track_statistics=False)["total"].backward()
    for mine, others in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, others.grad, rtol=1e-9, atol=1e-11)
    for (name, value), others in zip(ours.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, others) == ("running" not in name), name


def test_embedding_networks_and_decoder_have_their_own_dropout() -> None:
    model = models.build("avgzslnet", **SIZES, embedding_dropout=0.7, decoder_dropout=0.1)
    assert [net.dropout for net in model.triplet_net.children()] == [0.7] * 3
    assert model.decoder_net.embedding_net.dropout == 0.1


def test_a_network_drops_hidden_units() -> None:
    torch.manual_seed(4)
    net = EmbeddingNet(3, 50, 50, 0.8)
    with torch.no_grad():
        net.fc[1].bias.fill_(100.0)  # no unit is stopped by the ReLU
        net.fc[4].weight.copy_(torch.eye(50))
        net.fc[4].bias.zero_()
    x = torch.randn(200, 2, 3)
    kept = net(x) != 0
    # 5 standard deviations of the share of 20,000 draws.
    assert abs(kept.double().mean().item() - 0.2) < 5 * (0.2 * 0.8 / kept.numel()) ** 0.5
    assert not torch.equal(kept[:, 0], kept[:, 1])
    assert (net.eval()(x) != 0).all()


def test_evaluation_is_deterministic_and_changes_nothing() -> None:
    model, batch = models.build("avgzslnet", **SIZES).double(), random_batch(5)
    assert model.losses(batch)["total"] != model.losses(batch)["total"]
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.losses(batch)["total"] == model.losses(batch)["total"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_row_cannot_be_normalised() -> None:
    model, batch = models.build("avgzslnet", **SIZES).double(), random_batch(6, size=1)
    with pytest.raises(AvpipeError, match=r"1 row\(s\) of length 4 .* at least 2"):
        model.losses(batch)
    assert model.eval().losses(batch)["total"].isfinite()


def test_equal_vectors_have_finite_gradients() -> None:
    """The distance to the word vector has no eps: at 0 its gradient is 0, not NaN."""
    model = hand_set_model()
    model.losses(HAND_BATCH)["rec_w"].backward()  # clip 0 is decoded to exactly its word vector
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_nothing_depends_on_values() -> None:
    """Tensors without values: reading one, or a shape that depends on one, raises."""
    model = models.build("avgzslnet", **SIZES).double().to("meta")
    model.losses({key: value.to("meta") for key, value in random_batch(7).items()})["total"].backward()
    assert model.triplet_net.embedding_net1.fc[0].weight.grad.shape == (6, 4)


def test_it_learns() -> None:
    torch.manual_seed(8)
    sizes = {"audio_dim": 4, "video_dim": 3, "embeddings_hidden_size": 64}
    model = models.build("avgzslnet", **sizes, embedding_dropout=0.2, decoder_dropout=0.2)
    words, centres, labels = F.normalize(torch.randn(4, 300)), torch.randn(4, 7), torch.arange(32) % 4
    others = (labels + 1 + torch.arange(32) // 4 % 3) % 4
    clips, negatives = (centres[of] + 0.05 * torch.randn(32, 7) for of in (labels, others))
    batch = {"text": words[labels], "text_neg": words[others]}
    for suffix, vectors in (("", clips), ("_neg", negatives)):
        batch["audio" + suffix], batch["video" + suffix] = vectors[:, :4], vectors[:, 4:]
    optimizers = [adam(model.parameters(), 1e-3)]
    first = model.losses(batch)["total"].item()
    for index in range(60):
        last = model.training_step(batch, optimizers, index=index)["total"].item()
    assert last < 0.5 * first
    nearest = model.eval().distances(batch["audio"], batch["video"], words)["both"].argmin(1)
    assert torch.equal(nearest, labels)
