"""Softmax classifiers on made-up vectors: against a plain loop, on hand-made classifiers, and on odd class sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl.evaluation import CalibratedStacking
from avpipe.gzsl.models import synthesis
from avpipe.gzsl.models.settings import FVAEGANSettings
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

pytestmark = pytest.mark.slow

AT = [0.0, 0.5, 1.0, 1.5]  # angles of four classes in the plane of one audio and one video number
IDS = np.array([1, 3, 5, 7])
SEEN = torch.tensor([False, True, False, True])


def settings(**values: float) -> FVAEGANSettings:
    return FVAEGANSettings(**{"n_synthetic": 30, "classifier_epochs": 30, **values}).resolved("corrected")  # type: ignore[arg-type]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Audio [n, 1] and video [n, 1] of clips at these angles, at different lengths."""
    lengths = 1 + torch.arange(len(angles)) % 3
    return (lengths * angles.cos())[:, None], (lengths * angles.sin())[:, None]


def training(columns: list[int], ids: np.ndarray = IDS, copies: int = 30) -> TrainingSet:
    """`copies` clips of each class `columns` of AT; the class list is `ids`."""
    angles = torch.tensor(AT)[columns].repeat(copies)
    row_of = {int(class_id): row for row, class_id in enumerate(ids)}
    labels = torch.tensor([row_of[int(IDS[c])] for c in columns]).repeat(copies)
    return TrainingSet(*at(angles), labels, torch.zeros(len(ids), 3), ids)


def evaluation(columns: list[int], seen: Tensor = SEEN, angles: list[float] | None = None) -> EvaluationSet:
    """A clip of each of `columns`, at its class's angle unless told otherwise."""
    where = torch.tensor([AT[c] for c in columns] if angles is None else angles)
    return EvaluationSet(*at(where), torch.tensor(columns), torch.zeros(len(seen), 3), IDS[: len(seen)], seen)


def made_up(columns: list[int], count: int = 30) -> Tensor:
    angles = torch.tensor(AT)[columns]
    return torch.stack((angles.cos(), angles.sin()), -1)[:, None].repeat(1, count, 1)


def test_unit_features() -> None:
    audio, video = torch.tensor([[3.0], [0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(synthesis.unit_features(audio, video), torch.tensor([[0.6, 0.0, 0.8], [0.0, 0.0, 0.0]]))


def test_make_up() -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def generate(noise: Tensor, words: Tensor) -> Tensor:
        calls.append((noise, words))
        return torch.cat((noise[:, :2], words), 1)

    words = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    vectors = synthesis.make_up(generate, words, count=1000, latent_size=7, width=4, generator=draws())
    assert vectors.shape == (3, 1000, 4)
    for word, rows, (noise, given) in zip(words, vectors, calls, strict=True):
        assert noise.shape == (1000, 7) and torch.equal(given, word.expand(1000, 2))
        torch.testing.assert_close(rows, F.normalize(torch.cat((noise[:, :2], given), 1)))
    drawn = torch.cat([noise for noise, _ in calls])
    # 21,000 standard normal numbers: mean and deviation are known to 0.007 and 0.005
    assert drawn.mean().abs() < 0.04 and (drawn.std() - 1).abs() < 0.03
    again = synthesis.make_up(generate, words, count=1000, latent_size=7, width=4, generator=draws())
    assert torch.equal(again, vectors)


def test_classifier_equals_a_plain_loop() -> None:
    """Three epochs of 10 rows in batches of 4, 4 and 2; float64 on both sides, fused and plain Adam round apart."""
    features, labels = torch.randn(10, 6, generator=draws(1), dtype=torch.float64), torch.arange(10) % 3
    plain = nn.Linear(6, 4).double()
    with torch.no_grad():
        plain.weight.copy_(torch.empty(4, 6, dtype=torch.float64).normal_(0, 0.02, generator=draws(2)))
        plain.bias.zero_()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01, betas=(0.5, 0.999))
    trained = synthesis.softmax_epochs(
        features, labels, 4, epochs=3, batch_size=4, learning_rate=0.01, generator=draws(2)
    )
    epochs = 0
    before = torch.get_rng_state()
    for classifier in trained:
        epochs += 1
        for start in range(0, 10, 4):
            optimizer.zero_grad()
            rows = slice(start, start + 4)
            (-F.log_softmax(plain(features[rows]), 1)[range(len(labels[rows])), labels[rows]]).mean().backward()
            optimizer.step()
        for name in ("weight", "bias"):
            torch.testing.assert_close(getattr(classifier, name), getattr(plain, name), rtol=0, atol=1e-10)
    assert epochs == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_classifier_trains_in_a_block_without_gradients() -> None:
    with torch.no_grad():
        *_, classifier = synthesis.softmax_epochs(
            torch.eye(2), torch.tensor([0, 1]), 2, epochs=200, batch_size=2, learning_rate=0.1, generator=draws()
        )
        assert (classifier(torch.eye(2)).softmax(1).diagonal() > 0.9).all()


@pytest.mark.parametrize("published", [False, True])
def test_separable_classes_are_all_recognised(published: bool) -> None:
    options = settings(chooses_on_test=published, classifier_learning_rate=0.1, classifier_epochs=60)
    result = synthesis.score(training([1, 3]), evaluation([0, 1, 2, 3]), made_up([0, 2]), options, draws())
    assert (result.best_seen, result.best_unseen, result.best_zsl) == (1.0, 1.0, 1.0)
    assert result.best_hm == pytest.approx(1.0)
    assert result.betas.tolist() == [0.0]


def linear(rows: list[tuple[float, ...]]) -> nn.Linear:
    """A classifier without bias."""
    layer = nn.Linear(2, len(rows))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
        layer.bias.zero_()
    return layer


def given(monkeypatch: pytest.MonkeyPatch, over_all: list[nn.Linear], over_unseen: list[nn.Linear]) -> list[dict]:
    """Replace training: the two classifiers go through these states; returns what they would be trained on."""
    calls: list[dict] = []

    def epochs(features: Tensor, labels: Tensor, n_classes: int, **options: object) -> Iterator[nn.Linear]:
        calls.append({"features": features, "labels": labels, "n_classes": n_classes, **options})
        return iter(over_all if len(calls) == 1 else over_unseen)

    monkeypatch.setattr(synthesis, "softmax_epochs", epochs)
    return calls


def nearest(*angles: float) -> nn.Linear:
    """A classifier that takes the class at the nearest of these angles."""
    return linear([(float(np.cos(a)), float(np.sin(a))) for a in angles])


def test_accuracies_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes at 0, 0.5, 1, 1.5; clips of class 0 at 0.1 and 0.4, of 1 at 0.5, of 2 at 0.6, 0.9 and 1.4, of 3 at 1."""
    given(monkeypatch, [nearest(*AT)], [nearest(0.0, 1.0)])
    data = evaluation([0, 0, 1, 2, 2, 2, 3], angles=[0.1, 0.4, 0.5, 0.6, 0.9, 1.4, 1.0])
    result = synthesis.score(training([1, 3]), data, made_up([0, 2]), settings(), draws())
    assert result.per_class_gzsl == pytest.approx([1 / 2, 1.0, 1 / 3, 0.0])
    assert result.best_seen == pytest.approx(1 / 2)
    assert result.best_unseen == pytest.approx(5 / 12)
    assert result.best_hm == pytest.approx(2 * (1 / 2) * (5 / 12) / (1 / 2 + 5 / 12))
    assert result.per_class_zsl[[0, 2]] == pytest.approx([1.0, 1.0])
    assert np.isnan(result.per_class_zsl[[1, 3]]).all()
    assert result.best_zsl == 1.0
    assert result.counts.tolist() == [2, 1, 3, 1]


def test_zero_shot_figures_are_those_of_the_second_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes 0 for 2 and 2 for 0, and nothing else is right; to the second, 0 is 0 and so is 2."""
    given(monkeypatch, [nearest(1.0, 9, 0.0, 9)], [nearest(0.0, 3.0)])
    result = synthesis.score(training([1, 3]), evaluation([0, 1, 2, 3]), made_up([0, 2]), settings(), draws())
    assert (result.best_hm, result.best_zsl) == (0.0, 0.5)
    assert result.per_class_zsl[[0, 2]].tolist() == [1.0, 0.0]
    assert result.zsl.shape == result.betas.shape


def test_scored_clips_are_divided_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Class 0 has the audio number as logit, class 1 always 0.8: a clip three times as long must not change sides."""
    over_all = linear([(1.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)])
    nn.init.constant_(over_all.bias[1:2], 0.8)
    given(monkeypatch, [over_all], [nearest(0.0, 1.0)])
    data = evaluation([0, 0, 1], angles=[0.1, 0.1, 1.0])
    assert data.audio[2, 0] > 0.8
    result = synthesis.score(training([1, 3]), data, made_up([0, 2]), settings(), draws())
    assert result.per_class_gzsl[:2].tolist() == [1.0, 1.0]


def test_which_epoch_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published: the best on the scored clips, of equal ones the last, for each classifier; corrected: the last."""
    good, first_half, second_half = nearest(*AT), nearest(0, 0.5, 9, 9), nearest(0, 9, 9, 1.5)
    bad, fair = nearest(9, 9, 9, 9), nearest(0.0, 3.0)

    def run(published: bool, over_all: list[nn.Linear], over_unseen: list[nn.Linear]) -> CalibratedStacking:
        given(monkeypatch, over_all, over_unseen)
        options = settings(chooses_on_test=published)
        return synthesis.score(training([1, 3]), evaluation([0, 1, 2, 3]), made_up([0, 2]), options, draws())

    order = [bad, first_half, good, second_half], [fair, nearest(0.0, 1.0), fair]
    published, corrected = run(True, *order), run(False, *order)
    assert (published.best_hm, published.best_zsl) == (pytest.approx(1.0), 1.0)
    assert (corrected.best_hm, corrected.best_zsl) == (pytest.approx(0.5), 0.5)
    assert corrected.per_class_gzsl.tolist() == [1.0, 0.0, 0.0, 1.0]
    equals = run(True, [first_half, second_half, bad], [fair])
    assert equals.per_class_gzsl.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_what_the_classifiers_are_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the listed classes in a random order, ids matched; clips of unseen and unlisted classes stay out."""
    calls = given(monkeypatch, [nearest(*AT)], [nearest(0.0, 1.0)])
    monkeypatch.setattr(synthesis, "_CHUNK", 7)  # several chunks
    ids = np.array([3, 5, 6, 7])
    train = training([1, 2, 3], ids, copies=10)  # class 5 is unseen in the scored set
    unlisted = torch.where(torch.arange(30) % 5 == 4, 2, train.labels)  # rows of class 6, which is not listed there
    train = TrainingSet(train.audio, train.video, unlisted, train.words, ids)
    options = settings(n_synthetic=30, classifier_epochs=3, classifier_learning_rate=0.02)
    synthesis.score(train, evaluation([0, 1, 2, 3]), made_up([0, 2]), options, draws())

    over_all, over_unseen = calls
    assert (over_all["n_classes"], over_unseen["n_classes"]) == (4, 2)
    for call in calls:
        assert (call["epochs"], call["batch_size"], call["learning_rate"]) == (3, 30, 0.02)
    n_real = int(((train.labels == 0) | (train.labels == 3)).sum())
    assert len(over_all["labels"]) == n_real + 60
    assert over_all["labels"].bincount().tolist() == [30, int((unlisted == 0).sum()), 30, int((unlisted == 3).sum())]
    angle = torch.atan2(over_all["features"][:, 1], over_all["features"][:, 0])
    torch.testing.assert_close(angle, torch.tensor(AT)[over_all["labels"]], rtol=0, atol=1e-5)  # float32 angles
    torch.testing.assert_close(over_all["features"].norm(dim=1), torch.ones(n_real + 60))
    changes = int((over_all["labels"].diff() != 0).sum())
    assert changes > 30  # sorted by class there would be 3
    angle = torch.atan2(over_unseen["features"][:, 1], over_unseen["features"][:, 0])
    torch.testing.assert_close(angle, torch.tensor([0.0, 1.0])[over_unseen["labels"]], rtol=0, atol=1e-5)
    assert over_unseen["labels"].bincount().tolist() == [30, 30]


def test_every_row_is_there_once() -> None:
    parts = [(torch.arange(5.0)[:, None], torch.arange(5)), (torch.arange(5.0, 8)[:, None], torch.arange(5, 8))]
    rows, labels = synthesis._shuffled(parts, 8, draws())
    assert sorted(labels.tolist()) == list(range(8)) and labels.tolist() != list(range(8))
    assert rows[:, 0].tolist() == labels.tolist()


def test_a_seen_class_without_training_clips_stays_a_candidate() -> None:
    options = settings(classifier_learning_rate=0.1, classifier_epochs=60)
    result = synthesis.score(training([1]), evaluation([0, 1, 2, 3]), made_up([0, 2]), options, draws())
    assert result.per_class_gzsl.tolist() == [1.0, 1.0, 1.0, 0.0]
    assert result.best_seen == 0.5


def test_classes_without_clips_do_not_count() -> None:
    options = settings(classifier_learning_rate=0.1, classifier_epochs=60)
    result = synthesis.score(training([1, 3]), evaluation([2, 3]), made_up([0, 2]), options, draws())
    assert (result.best_seen, result.best_unseen, result.best_zsl) == (1.0, 1.0, 1.0)
    assert result.classes_without_clips == (0, 1)


def test_one_unseen_class_is_always_recognised_among_the_unseen() -> None:
    seen = torch.tensor([False, True])
    options = settings(classifier_learning_rate=0.1, classifier_epochs=60)
    result = synthesis.score(training([1]), evaluation([0, 1], seen), made_up([0]), options, draws())
    assert (result.best_hm, result.best_zsl) == (pytest.approx(1.0), 1.0)


def test_sets_that_do_not_fit() -> None:
    train, data, vectors = training([1, 3]), evaluation([0, 1, 2, 3]), made_up([0, 2])
    cases = [
        (train, evaluation([0, 1], torch.ones(4).bool()), vectors, "4 of 4 classes are seen"),
        (train, evaluation([0, 1], torch.zeros(4).bool()), vectors, "0 of 4 classes are seen"),
        (
            training([1], np.array([3])),
            data,
            vectors,
            r"1 of 2 seen .* none of the 1 training classes \(ids 7\)",
        ),
        (training([2]), data, vectors, "None of the 30 training clips"),
        (train, data, made_up([0]), "vectors of 1 classes, expected the 2 unseen"),
        (train, evaluation([0, 2]), vectors, "None of the 2 samples belongs to one of the 2 seen"),
        (train, data, vectors * torch.nan, "diverged"),
    ]
    for training_set, evaluation_set, synthetic, message in cases:
        with pytest.raises(AvpipeError, match=message):
            synthesis.score(training_set, evaluation_set, synthetic, settings(classifier_epochs=1), draws())
