"""The best of all calibration constants, against hand-computed steps and against every constant that could matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import BENCHMARK, METHOD, SHORT, WHERE

from avpipe.errors import AvpipeError
from avpipe.gzsl import models, training
from avpipe.gzsl.evaluation import beta_grid, calibrated_stacking, combined_beta, exact_calibration
from avpipe.gzsl.models.settings import CJMESettings, TrainingSettings
from avpipe.gzsl.scores import _curve

INF = np.inf
TWO = [True, False]


def clips(*differences: float, dtype: Any = np.float64) -> np.ndarray:
    """Distances [N, 2] to a seen and an unseen class of clips that turn to the latter at these constants."""
    return np.array([[1.0, 1.0 + difference] for difference in differences], dtype)


def test_by_hand() -> None:
    """Seen clips turn at 0.5 and 1, unseen ones at -1, 0 and 0.25; every step counted by hand."""
    result = exact_calibration(clips(0.5, 1.0, -1.0, 0.0, 0.25), [0, 0, 1, 1, 1], TWO)
    assert result.starts == pytest.approx([-INF, -1, 0, 0.25, 0.5, 1])
    assert result.step_seen == pytest.approx([1, 1, 1, 1, 0.5, 0])
    assert result.step_unseen == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    assert result.step_hm == pytest.approx([0, 0.5, 0.8, 1, 2 / 3, 0])
    assert result.best_beta == pytest.approx(0.375) and result.best_hm == 1
    assert result.ausuc == pytest.approx(1.0)  # unseen accuracy is 1 before seen accuracy falls
    assert exact_calibration(clips(-1.0, 1.0, 0.0, 2.0), [0, 0, 1, 1], TWO).ausuc == pytest.approx(0.25)


def test_negative_constants_are_found() -> None:
    result = exact_calibration(clips(-1.0, -3.0), [0, 1], TWO)
    assert result.best_beta == pytest.approx(-2) and result.best_hm == 1
    assert calibrated_stacking(clips(-1.0, -3.0), [0, 1], TWO, beta_grid()).best_hm == 0


def test_the_widest_interval_and_of_equals_the_lowest() -> None:
    # HM is 2/3 between 0 and 1 (S 1, U 1/2) and between 1 and 4 (S 1/2, U 1): the runs touch where both turn at once
    assert exact_calibration(clips(1.0, 4.0, 0.0, 1.0), [0, 0, 1, 1], TWO).best_beta == pytest.approx(2)
    # apart: 1/2 between 0 and 1 and between 3 and 4, 0 or less between them
    wide = clips(1.0, 4.0, 4.0, 0.0, 3.0, 3.0)
    result = exact_calibration(wide, [0, 0, 0, 1, 1, 1], TWO)
    assert result.step_hm == pytest.approx([0, 0.5, 0.4444444, 0.8, 0])
    assert result.best_beta == pytest.approx(3.5)
    equal = exact_calibration(clips(1.0, 1.0, 3.0, 0.0, 2.0, 2.0), [0, 0, 0, 1, 1, 1], TWO)
    assert equal.step_hm == pytest.approx([0, 0.5, 1 / 3, 0.5, 0]) and equal.best_beta == pytest.approx(0.5)


def test_where_nothing_is_reached_the_constant_is_zero() -> None:
    """Every clip is nearest to a wrong class of its own kind."""
    distances = np.array([[2.0, 1.0, 5.0, 5.0], [5.0, 5.0, 1.0, 0.5]], np.float32)
    result = exact_calibration(distances, [0, 2], [True, True, False, False])
    assert (result.best_beta, result.best_hm, result.starts.tolist(), result.ausuc) == (0, 0, [-INF], 0)


@pytest.mark.parametrize("clip", [0, 1])
def test_infinite_distances_leave_an_interval_without_end(clip: int) -> None:
    distances = clips(2.0, 1.0)
    distances[clip, 1 - clip] = INF  # the clip is right with every constant
    result = exact_calibration(distances, [0, 1], TWO)
    assert result.best_hm == 1 and result.best_beta == pytest.approx([1.5, -1.0][clip])
    both = exact_calibration(np.array([[0.0, INF], [INF, 0.0]]), [0, 1], TWO)
    assert (both.best_hm, both.best_beta, both.starts.tolist()) == (1, 0, [-INF])


def test_ties_at_one_constant() -> None:
    """The seen class 1 wins its tie with class 2 and loses that with class 0: at 1 both are right."""
    distances = np.float32([[9.0, 1.0, 2.0], [2.0, 1.0, 9.0]])
    labels, seen = np.array([1, 0]), np.array([False, True, False])
    result = exact_calibration(distances, labels, seen)
    assert result.best_beta == pytest.approx(1, abs=1e-6)  # 1 + beta rounds to 2 for a few numbers around 1
    assert (result.best_hm, result.step_hm.tolist()) == (1, [0, 1, 0])
    check(distances, labels, seen)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_number_between_two_ties(order: list[int]) -> None:
    """Both clips turn at 1; with the unseen class first the tie is its own, so U rises at 1 and S falls above it."""
    distances = np.float32([[1.0, 2.0], [1.0, 2.0]])[:, order]
    labels, seen = np.array(order), np.array(TWO)[order]
    result = exact_calibration(distances, labels, seen)
    check(distances, labels, seen)
    assert result.best_hm == 0 and len(result.starts) == 2


KINDS = ("random", "ties", "neighbours", "half", "double", "large", "few")


def made_up(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_classes = 2 if kind == "few" else int(rng.integers(3, 9))
    seen = rng.random(n_classes) < 0.5
    seen[:2] = rng.permutation(TWO)
    present = rng.permutation(n_classes)[: n_classes // 2]  # the other classes have few clips or none
    labels = np.concatenate([[0, 1], rng.choice(present, int(rng.integers(1, 60)))])
    distances = rng.random((len(labels), n_classes), dtype=np.float32)
    if kind == "ties":
        distances = np.round(distances * 5) * np.float32(0.2)
    if kind == "neighbours":  # a unit apart in the last place but one, where sums round
        distances = np.float32(1000) + np.round(distances * 12) * np.float32(2**-13)
    if kind == "large":
        distances = distances * np.float32(1e30)
    return distances.astype({"half": np.float16, "double": np.float64}.get(kind, np.float32)), labels, seen


def check(distances: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> None:
    """Every start, its neighbours in the precision and the middles between starts give what the steps say."""
    result = exact_calibration(distances, labels, seen)
    number = distances.dtype.type
    starts = result.starts[1:].astype(number)
    assert (starts == result.starts[1:]).all()
    middles = (starts[:-1].astype(float) + starts[1:]) / 2
    around = [np.nextafter(starts, number(side)) for side in (-INF, INF)]
    betas = np.unique(np.concatenate([starts, *around, middles, [0, result.best_beta]]).astype(number))
    given = calibrated_stacking(distances, labels, seen, betas)
    step = np.searchsorted(result.starts, betas.astype(float), side="right") - 1
    assert given.seen == pytest.approx(result.step_seen[step], abs=1e-9)
    assert given.unseen == pytest.approx(result.step_unseen[step], abs=1e-9)
    assert result.best_hm == pytest.approx(result.step_hm.max(), abs=1e-9) and result.best_hm >= given.hm.max()
    alone = calibrated_stacking(distances, labels, seen, [result.best_beta])
    assert alone.figures() == result.figures() and alone.betas.tolist() == result.betas.tolist()
    assert np.array_equal(alone.per_class_gzsl, result.per_class_gzsl, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_every_constant_tried_one_by_one(kind: str) -> None:
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(30):
        check(*made_up(kind, rng))


def test_two_seen_distances_that_rounding_makes_equal() -> None:
    """Figures stay those of `calibrated_stacking`, and another step is taken where rounding spoils the best one."""
    rng = np.random.default_rng(3)
    spoilt = 0
    for _ in range(200):
        distances, labels, seen = made_up("random", rng)
        distances = (1 + np.round(distances * 12) * np.float32(2**-23)).astype(np.float32)
        result = exact_calibration(distances, labels, seen)
        assert result.figures() == calibrated_stacking(distances, labels, seen, result.betas).figures()
        assert result.best_hm > 0 or result.step_hm.max() == 0
        spoilt += result.best_hm < result.step_hm.max() - 1e-9
    assert 0 < spoilt < 20


def test_any_array_and_what_cannot_be() -> None:
    distances, labels, seen = made_up("random", np.random.default_rng(0))
    expected = exact_calibration(distances, labels, seen)
    again = exact_calibration(*(torch.from_numpy(each) for each in (distances, labels, seen)))
    assert again.figures() == expected.figures() and again["ausuc"] == expected.ausuc
    assert exact_calibration(torch.from_numpy(distances).bfloat16(), labels, seen).best_hm > 0
    assert exact_calibration([[0, 3], [1, 2]], [0, 1], TWO).best_beta == pytest.approx(2)
    with pytest.raises(AvpipeError, match="NaN"):
        exact_calibration(distances * np.nan, labels, seen)
    with pytest.raises(AvpipeError, match="unseen classes, so"):
        exact_calibration(distances[:1], labels[:1], seen if seen[0] else ~seen)


def test_a_long_curve_is_thinned_at_its_steps() -> None:
    rng = np.random.default_rng(0)
    labels, seen = rng.integers(0, 6, 2000), np.arange(6) < 3
    exact = exact_calibration(rng.random((2000, 6)), labels, seen)
    curve = _curve(exact)
    assert curve is not None and curve.steps == len(exact.starts) > 256 >= len(curve.betas) - 1
    kept = [0, *(int(np.flatnonzero(exact.starts == beta)[0]) for beta in curve.betas[1:])]
    assert curve.hm == (100 * exact.step_hm[kept]).tolist() and max(curve.hm) == 100 * exact.step_hm.max()
    assert kept[-1] == curve.steps - 1 and curve.seen[0] == 100 * exact.step_seen[0]


@pytest.mark.parametrize(("betas", "grid"), [({}, None), ({"n_betas": 4}, 4), ({"beta_max": 1.5}, 16)])
def test_the_corrected_form_tries_all_constants_unless_some_are_asked_for(betas: Any, grid: int | None) -> None:
    corrected, published = (TrainingSettings(**betas).resolved(form) for form in ("corrected", "published"))
    assert corrected.tries_all_betas == (grid is None)
    assert not published.tries_all_betas
    assert published.beta_max == betas.get("beta_max", 3.0) and published.n_betas == betas.get("n_betas", 16)


@pytest.mark.parametrize("form", ["corrected", "published"])
def test_stage_1_chooses_by_the_form(form: Any, tmp_path: Path) -> None:
    settings = replace_steps(SHORT, form)
    method = CJMESettings(embeddings_hidden_size=8).resolved(form)
    result = training.train_stage(BENCHMARK, "cjme", method, settings, folder=tmp_path, **WHERE)
    assert set(result.betas) == {"audio", "video", "both"}
    assert result.beta == pytest.approx(np.mean(list(result.betas.values())))
    on_grid = [bool(np.isin(np.float32(beta), beta_grid())) for beta in result.betas.values()]
    assert all(on_grid) if form == "published" else not any(on_grid)


def replace_steps(settings: TrainingSettings, form: Any) -> TrainingSettings:
    return TrainingSettings(**settings.model_dump(exclude={"beta_max", "n_betas", "stage2_schedule"})).resolved(form)


def test_the_mean_of_the_modes_is_handed_on() -> None:
    results = {
        mode: exact_calibration(clips(high, low), [0, 1], TWO)
        for mode, low, high in (("audio", 0.0, 1.0), ("video", 1.0, 2.0), ("both", 2.0, 4.0))
    }
    assert combined_beta(dict(results), tuple(results)) == pytest.approx((0.5 + 1.5 + 3) / 3)


def test_a_method_without_calibration_takes_none() -> None:
    assert not models.implementation("fvaegan").is_calibrated


def test_scores_say_of_which_clips_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stage 2 is scored on clips that it was trained with: in the log, in epochs.csv and in stage.json."""
    caplog.set_level("INFO", "avpipe")
    first = training.train_stage(BENCHMARK, "avca", METHOD, SHORT, folder=tmp_path / "1", **WHERE)
    assert ", on validation clips: S " in caplog.text and first.scored_on == "validation clips"
    caplog.clear()
    second = training.train_stage(BENCHMARK, "avca", METHOD, SHORT, folder=tmp_path / "2", stage1=first, **WHERE)
    assert ", on training clips: S " in caplog.text and "validation" not in caplog.text
    assert second.scored_on == "training clips"
    rows = (tmp_path / "2" / "epochs.csv").read_text().splitlines()
    assert "scored_on" in rows[0] and all("training clips" in row for row in rows[1:])
    stored = torch.load(tmp_path / "2" / "checkpoint.pt", weights_only=True)
    assert stored["scored_on"] == "training clips"
