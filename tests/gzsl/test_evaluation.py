"""Calibrated stacking against hand-computed cases and against a plain argmin over all classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.gzsl.evaluation import beta_grid, calibrated_stacking

SEEN = np.array([True, False, True, False])


def brute_force(
    distances: np.ndarray, labels: np.ndarray, seen: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seen and unseen accuracy per beta, by one float32 sum and argmin (first of equals) per beta."""
    rows = []
    for beta in betas.astype(distances.dtype):
        prediction = np.where(seen, distances + beta, distances).argmin(1)
        rate = [(prediction[labels == c] == c).mean() for c in np.unique(labels)]
        rows.append(
            [np.mean([r for r, c in zip(rate, np.unique(labels), strict=True) if seen[c] == s]) for s in (True, False)]
        )
    s, u = np.array(rows).T
    return s, u


def test_by_hand() -> None:
    distances = np.array(
        [
            [0.1, 0.5, 0.9, 0.9],  # class 0: right at beta 0, seen + 0.3 = 0.4 still right, at 0.6 not
            [0.1, 0.2, 0.9, 0.9],  # class 0: right at beta 0 only
            [0.3, 0.4, 0.9, 0.9],  # class 1: wrong at 0, right from 0.3 on
            [0.9, 0.1, 0.2, 0.3],  # class 3: never, not even among the unseen
            [0.9, 0.8, 0.1, 0.75],  # class 2: always
        ],
        np.float32,
    )
    result = calibrated_stacking(distances, [0, 0, 1, 3, 2], SEEN, [0.0, 0.3, 0.6])
    assert result.seen.tolist() == [1.0, 0.75, 0.5]
    assert result.unseen.tolist() == [0.0, 0.5, 0.5]
    assert result.zsl.tolist() == [0.5, 0.5, 0.5]
    assert result.hm == pytest.approx([0.0, 2 * 0.75 * 0.5 / 1.25, 0.5])
    assert (result.best, result.best_beta) == (1, pytest.approx(0.3))
    assert (result.best_seen, result.best_unseen, result.best_zsl) == (0.75, 0.5, 0.5)
    assert result.per_class_gzsl.tolist() == [0.5, 1.0, 1.0, 0.0]
    assert result.per_class_zsl.tolist()[1::2] == [1.0, 0.0]
    assert np.isnan(result.per_class_zsl[SEEN]).all()
    assert result["hm"] is result.hm
    assert result["best_beta"] == result.best_beta
    with pytest.raises(KeyError):
        result["nothing"]


def test_the_first_of_equal_harmonic_means_wins() -> None:
    distances = np.array([[0.0, 5.0], [5.0, 0.0]], np.float32)
    result = calibrated_stacking(distances, [0, 1], [True, False], beta_grid())
    assert result.hm == pytest.approx(np.ones(16))
    assert result.best == 0


def test_ties_go_to_the_lower_class_whichever_is_seen() -> None:
    distances = np.full((4, 4), 1.0, np.float32)
    labels = np.arange(4)
    for seen in (SEEN, ~SEEN):
        result = calibrated_stacking(distances, labels, seen, [0.0])
        assert result.per_class_gzsl.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_rounding_of_the_sum_can_tie_two_seen_classes() -> None:
    """1 and its next float32 are different, but not once 2 is added: the lower class wins from then on."""
    above = np.nextafter(np.float32(1), np.float32(2))
    distances = np.array([[above, 9.0, 1.0, 9.0], [9.0, 0.0, 9.0, 9.0]], np.float32)
    result = calibrated_stacking(distances, [0, 1], SEEN, [0.0, 2.0])
    assert result.seen.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("kind", ["random", "ties", "rounding"])
@pytest.mark.parametrize("as_torch", [False, True])
def test_equals_brute_force(kind: str, as_torch: bool) -> None:
    rng = np.random.default_rng(7)
    n_classes = 9
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 400)])
    distances = rng.random((len(labels), n_classes), dtype=np.float32)
    betas = beta_grid()
    if kind == "ties":
        distances = np.round(distances * 15).astype(np.float32) * np.float32(0.2)  # multiples of the grid's step
    if kind == "rounding":  # neighbouring float32 values around 1, which adding 3 pulls together
        steps = rng.integers(-6, 7, distances.shape)
        distances = (np.float32(1) + steps * np.float32(2**-23)).astype(np.float32)
        betas = np.concatenate([betas, steps[0] * np.float32(2**-23)]).astype(np.float32)
    for _ in range(6):
        seen = rng.random(n_classes) < 0.5
        seen[:2] = True, False
        s, u = brute_force(distances, labels, seen, betas)
        arguments = (distances, labels, seen, betas)
        if as_torch:
            arguments = tuple(torch.from_numpy(a) for a in arguments)
        result = calibrated_stacking(*arguments)
        assert result.seen == pytest.approx(s, abs=1e-12)
        assert result.unseen == pytest.approx(u, abs=1e-12)
        assert result.hm == pytest.approx(2 * s * u / (s + u + 2.22e-16), abs=1e-12)
        zsl = np.flatnonzero(~seen)[distances[:, ~seen].argmin(1)]
        rates = [(zsl[labels == c] == c).mean() for c in np.flatnonzero(~seen)]
        assert result.best_zsl == pytest.approx(np.mean(rates), abs=1e-12)


def test_classes_without_clips_are_left_out_and_named() -> None:
    distances = np.array([[0.0, 1.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]], np.float32)
    result = calibrated_stacking(distances, [0, 1], SEEN, [0.0])
    assert (result.best_seen, result.best_unseen, result.classes_without_clips) == (1.0, 1.0, (2, 3))
    assert np.isnan(result.per_class_gzsl[2:]).all()
    assert result.counts.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "seen", "message"),
    [
        ([0, 0], SEEN, "unseen classes, so"),
        ([0, 4], SEEN, "columns 0 to 3"),
        ([0, 1], [True] * 4, "4 of 4 are seen"),
        ([0, 1, 1], SEEN, r"labels \[N\]"),
    ],
)
def test_what_does_not_fit_is_said(labels: list[int], seen: list[bool], message: str) -> None:
    with pytest.raises(AvpipeError, match=message):
        calibrated_stacking(np.zeros((2, 4), np.float32), labels, seen, [0.0])


def test_nan_distances_are_refused() -> None:
    with pytest.raises(AvpipeError, match="NaN"):
        calibrated_stacking(np.full((2, 4), np.nan, np.float32), [0, 1], SEEN, [0.0])


def test_the_grid_is_the_published_one() -> None:
    grid = beta_grid()
    assert grid.dtype == np.float32
    assert np.array_equal(grid, torch.linspace(0, 3, 16).numpy())


def test_whole_number_distances_keep_the_betas() -> None:
    distances, labels, betas = [[1, 1, 2, 2], [3, 3, 0, 1]], [1, 2], [0.0, 0.5]
    whole = calibrated_stacking(distances, labels, SEEN, betas)
    assert whole.betas.tolist() == betas
    assert whole.unseen.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("beta", [np.nan, np.inf])
def test_betas_must_be_finite(beta: float) -> None:
    with pytest.raises(AvpipeError, match="must be finite"):
        calibrated_stacking(np.eye(4, dtype=np.float32), [0, 1, 2, 3], SEEN, [0.0, beta])


def test_what_could_be_mistaken_is_refused():
    distances, labels, seen = np.random.default_rng(0).random((4, 3)), [0, 1, 2, 0], [True, True, False]
    good = calibrated_stacking(distances, labels, seen, [0.0])
    with pytest.raises(AvpipeError, match="whole numbers"):
        calibrated_stacking(distances, [0.0, 1.9, 2.0, 0.0], seen, [0.0])
    with pytest.raises(AvpipeError, match="seen must say"):
        calibrated_stacking(distances, labels, [0, 1, 2], [0.0])
    with pytest.raises(AvpipeError, match="real numbers"):
        calibrated_stacking(distances + 0j, labels, seen, [0.0])
    backwards = distances[::-1].copy()[::-1].astype(">f8")
    again = calibrated_stacking(backwards, np.array(labels, ">i4"), seen, [0.0])
    assert (again.seen, again.unseen) == (good.seen, good.unseen)
    grown = torch.tensor(distances, requires_grad=True)
    assert calibrated_stacking(grown, labels, seen, [0.0]).hm == good.hm
