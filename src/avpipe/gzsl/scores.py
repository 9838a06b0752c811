"""What training hands to the test of a checkpoint: the distances of the test clips, which need no torch to be scored.

Beside stage 2's checkpoint lie `test.npy`, float32 [modes, N, C], and `test.json`, which says what its axes are and of
which checkpoint it is. They are a short cut: where they are not there, not whole, or not of this version of the test,
the checkpoint is tested (`avpipe.gzsl.testing`), with the same result. Of distances that are too many to be kept,
`predicted.json` says which class each clip is taken for.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe import versions
from avpipe.errors import AvpipeError
from avpipe.formats.npy import read_npy
from avpipe.gzsl.evaluation import CalibratedStacking, ExactCalibration, calibrated_stacking, exact_calibration
from avpipe.io import atomic
from avpipe.io.manifest import read_json, remove, write_json
from avpipe.schema.gzsl import FIGURES, METRICS, BetaCurve, CalibratedAccuracies, ClassAccuracy, ClipCounts, SeedResult

log = logging.getLogger(__name__)

SCORES, _DISTANCES, PREDICTED = "test.json", "test.npy", "predicted.json"
MOST_BYTES = 8 << 20
"""Of distances that are kept: beyond, they take more room than the checkpoint, and starting torch little of a test."""
_STEPS_KEPT = 256  # of a curve: enough for a figure

Results = Mapping[str, CalibratedStacking]


@dataclass(frozen=True)
class Tested:
    """A checkpoint and the clips that it is tested on.

    Attributes:
        method: its name.
        seed, epoch, beta, fingerprint: the checkpoint's.
        score_mode: the mode whose figures are reported.
        is_calibrated: whether figures are reported over all constants.
        classes: names of the C classes, in the order of the columns.
        seen: which of them are seen.
        device: where it is tested.
    """

    method: str
    seed: int | None
    epoch: int
    beta: float
    fingerprint: dict[str, str]
    score_mode: str
    is_calibrated: bool
    classes: list[str]
    seen: list[bool]
    device: str

    def result(self, results: Results, curves: Results) -> SeedResult:
        """The record of the test, in %.

        Args:
            results: mode -> accuracies with `beta`.
            curves: mode -> accuracies over all constants; empty for a method without calibration.
        """
        score = results[self.score_mode]
        metrics = {mode: in_percent(stacking, curves.get(mode)) for mode, stacking in results.items()}
        seen = np.array(self.seen)
        return SeedResult(
            **{figure: getattr(metrics[self.score_mode], figure) for figure in FIGURES},
            seed=self.seed,
            method=self.method,
            best_epoch=self.epoch,
            beta=self.beta,
            score_mode=self.score_mode,
            metrics=metrics,
            per_class=_per_class(self.classes, score),
            classes_without_clips=[self.classes[c] for c in score.classes_without_clips],
            clips=ClipCounts(seen=int(score.counts[seen].sum()), unseen=int(score.counts[~seen].sum())),
            beta_curve=_curve(curves.get(self.score_mode)),
            fingerprint=self.fingerprint,
            device=self.device,
        )


@dataclass(frozen=True)
class Predictions:
    """What the test clips are taken for, in the reported mode with the checkpoint's beta.

    Attributes:
        classes: names of the C classes.
        seen: which of them are seen.
        labels: int64 [N], the place of each clip's class.
        predicted: int64 [N], the place of the class that it is taken for.
    """

    classes: list[str]
    seen: list[bool]
    labels: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """The distances of a checkpoint's test.

    Attributes:
        tested: the checkpoint.
        labels: int64 [N], the column of each clip's class.
        distances: mode -> [N, C].
    """

    tested: Tested
    labels: npt.NDArray[np.int64]
    distances: dict[str, npt.NDArray[np.float32]]

    def result(self) -> SeedResult:
        """The record of the test, in %."""
        seen, beta = np.array(self.tested.seen), [self.tested.beta]
        of_modes = self.distances.items()
        results = {mode: calibrated_stacking(each, self.labels, seen, beta) for mode, each in of_modes}
        if not self.tested.is_calibrated:
            return self.tested.result(results, {})
        return self.tested.result(
            results, {mode: exact_calibration(each, self.labels, seen) for mode, each in of_modes}
        )

    def predictions(self) -> Predictions:
        """The nearest class of each clip, the constant added to the seen ones; of equally near ones the first."""
        distances = self.distances[self.tested.score_mode]
        beta = distances.dtype.type(self.tested.beta)  # rounded as `calibrated_stacking` rounds it
        predicted = (distances + beta * np.array(self.tested.seen)).argmin(1)
        return Predictions(self.tested.classes, self.tested.seen, self.labels, predicted)

    def write(self, stage2: Path, checkpoint_sha256: str) -> None:
        """Write both files into stage 2's folder, if they are not there as they would be.

        Of distances that are too many to be kept, the predictions alone are written.

        Args:
            stage2: the folder.
            checkpoint_sha256: of the checkpoint in it.
        """
        found = read_scores(stage2, checkpoint_sha256)
        if found is not None and found.same_as(self):
            return
        remove(stage2 / SCORES)
        remove(stage2 / PREDICTED)
        (stage2 / _DISTANCES).unlink(missing_ok=True)
        stacked = np.stack(list(self.distances.values()))
        if stacked.nbytes > MOST_BYTES:
            told = {name: np.asarray(each).tolist() for name, each in vars(self.predictions()).items()}
            write_json(stage2 / PREDICTED, {"checkpoint_sha256": checkpoint_sha256, **told})
            return
        data = io.BytesIO()
        np.save(data, stacked, allow_pickle=False)
        atomic.write_bytes(stage2 / _DISTANCES, data.getvalue())
        record = {
            "stage": versions.GZSL_EVALUATE,
            "checkpoint_sha256": checkpoint_sha256,
            "tested": asdict(self.tested),
            "modes": list(self.distances),
            "labels": self.labels.tolist(),
        }
        write_json(stage2 / SCORES, record, beside=[stage2 / _DISTANCES])

    def same_as(self, other: Scores) -> bool:
        """Whether a test of either gives the same."""
        return (
            (self.tested, list(self.distances)) == (other.tested, list(other.distances))
            and np.array_equal(self.labels, other.labels)
            and all(np.array_equal(each, other.distances[mode]) for mode, each in self.distances.items())
        )


def read_scores(stage2: Path, checkpoint_sha256: str) -> Scores | None:
    """What `Scores.write` wrote for this checkpoint; None where the checkpoint itself has to be tested.

    Args:
        stage2: stage 2's folder.
        checkpoint_sha256: of the checkpoint that is to be tested.
    """
    try:
        record = read_json(stage2 / SCORES)
        if (record["stage"], record["checkpoint_sha256"]) != (versions.GZSL_EVALUATE, checkpoint_sha256):
            return None
        distances = dict(zip(record["modes"], read_npy(stage2 / _DISTANCES), strict=True))
    except FileNotFoundError:
        return None
    except AvpipeError as error:
        log.warning("Not used, the checkpoint is tested instead: %s", error)
        return None
    return Scores(Tested(**record["tested"]), np.array(record["labels"], np.int64), distances)


def read_predictions(stage2: Path, checkpoint_sha256: str) -> Predictions | None:
    """What the test clips are taken for with this checkpoint; None where that is not kept."""
    scores = read_scores(stage2, checkpoint_sha256)
    if scores is not None:
        return scores.predictions()
    try:
        record = read_json(stage2 / PREDICTED)
        if record["checkpoint_sha256"] != checkpoint_sha256:
            return None
        labels, predicted = (np.array(record[name], np.int64) for name in ("labels", "predicted"))
        return Predictions(record["classes"], record["seen"], labels, predicted)
    except FileNotFoundError:
        return None
    except AvpipeError as error:
        log.warning("Not used: %s", error)
        return None


def in_percent(stacking: CalibratedStacking, curve: CalibratedStacking | None = None) -> CalibratedAccuracies:
    """The figures at the best beta, and the area under the curve of an `ExactCalibration`, in %."""
    figures = stacking.figures()
    ausuc = 100 * curve.ausuc if isinstance(curve, ExactCalibration) else None
    metrics = {metric: 100 * figures[metric] for metric in METRICS}
    return CalibratedAccuracies(**metrics, ausuc=ausuc, beta=figures["beta"])


def _per_class(names: list[str], score: CalibratedStacking) -> dict[str, ClassAccuracy]:
    rates = zip(score.per_class_gzsl, score.per_class_zsl, score.counts, strict=True)
    return {
        name: ClassAccuracy(gzsl=_percent(gzsl), zsl=_percent(zsl), clips=int(n))
        for name, (gzsl, zsl, n) in zip(names, rates, strict=True)
    }


def _curve(exact: CalibratedStacking | None) -> BetaCurve | None:
    """The curve in %, thinned to steps spread evenly, the first, the best and the last among them."""
    if not isinstance(exact, ExactCalibration):
        return None
    last = len(exact.starts) - 1
    kept = np.unique([*np.linspace(0, last, min(last + 1, _STEPS_KEPT)).round().astype(int), exact.step_hm.argmax()])
    rates = {name: (100 * exact[f"step_{name}"][kept]).tolist() for name in ("seen", "unseen", "hm")}
    return BetaCurve(betas=[None, *exact.starts[kept][1:].tolist()], steps=last + 1, **rates)


def _percent(accuracy: np.float64) -> float | None:
    return 100 * float(accuracy) if np.isfinite(accuracy) else None
