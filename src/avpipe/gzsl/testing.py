"""Testing a trained method on the test clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import models, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.evaluation import CalibratedStacking, ExactCalibration
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.models.settings import MethodSettings
from avpipe.gzsl.stage_files import CHECKPOINT
from avpipe.schema.gzsl import FIGURES, METRICS, BetaCurve, CalibratedAccuracies, ClassAccuracy, ClipCounts, SeedResult
from avpipe.training import checkpoint
from avpipe.training.runtime import deterministic

_STEPS_KEPT = 256  # of a curve: enough for a figure


def evaluate_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    *,
    stage2: Path,
    device: str,
    threads: int,
) -> SeedResult:
    """Test a stage-2 checkpoint on test_seen + test_unseen with the beta that stage 1 chose.

    Args:
        benchmark: as in training.
        model_name: name of the method.
        hyperparameters: those it was trained with.
        stage2: stage 2's folder.
        device: "cpu", "cuda", …
        threads: CPU threads.

    Returns:
        Accuracies in %, at the top those of the reported mode; device and seed, and what else `SeedResult` says. The
        curve over all constants and its area are for information and choose nothing.

    Raises:
        AvpipeError: the checkpoint is of another stage, method or other hyper-parameters.
    """
    where = resolve_device(device)
    with deterministic(where, threads):
        test = tensors.evaluation_set(benchmark, *tensors.TEST, where)
        model = models.make(model_name, hyperparameters, test).to(where)
        stored = _load(stage2 / CHECKPOINT, model, model_name, hyperparameters)
        return test_model(benchmark, model_name, model, test, stored)


def test_model(
    benchmark: Benchmark, model_name: str, model: Method, test: tensors.EvaluationSet, stored: Mapping[str, Any]
) -> SeedResult:
    """Test a model on the clips `test`, on its device.

    Args:
        benchmark: where the clips are from.
        model_name: name of the method.
        model: trained.
        test: test_seen + test_unseen.
        stored: beta, epoch, seed and fingerprint of a checkpoint.
    """
    train = tensors.training_set(benchmark, tensors.STAGE2_TRAINING, model.device)
    modes = (*model.calibration_modes, *model.extra_modes)
    results = model.evaluate(train, test, [stored["beta"]], modes=modes)
    curves = model.evaluate(train, test, None, modes=modes) if model.is_calibrated else {}
    score = results[model.score_mode]
    named = [benchmark.class_names[i] for i in test.class_ids]
    metrics = {mode: in_percent(stacking, curves.get(mode)) for mode, stacking in results.items()}
    return SeedResult(
        **{figure: getattr(metrics[model.score_mode], figure) for figure in FIGURES},
        seed=stored["seed"],
        method=model_name,
        best_epoch=stored["epoch"],
        beta=stored["beta"],
        score_mode=model.score_mode,
        metrics=metrics,
        per_class=_per_class(named, score),
        classes_without_clips=[named[c] for c in score.classes_without_clips],
        clips=_clip_counts(score.counts, test.seen.cpu().numpy()),
        beta_curve=_curve(curves.get(model.score_mode)),
        fingerprint=stored["fingerprint"],
        device=str(model.device),
    )


def in_percent(stacking: CalibratedStacking, curve: CalibratedStacking | None = None) -> CalibratedAccuracies:
    """The figures at the best beta, and the area under the curve of an `ExactCalibration`, in %."""
    figures = stacking.figures()
    ausuc = 100 * curve.ausuc if isinstance(curve, ExactCalibration) else None
    metrics = {metric: 100 * figures[metric] for metric in METRICS}
    return CalibratedAccuracies(**metrics, ausuc=ausuc, beta=figures["beta"])


def _load(path: Path, model: Method, name: str, hyperparameters: MethodSettings) -> dict[str, Any]:
    """Fill a model from its stage-2 checkpoint; what else the checkpoint holds."""
    stored = checkpoint.load_model(path, model)
    if (stored.get("stage"), stored.get("method")) != (2, name):
        raise AvpipeError(
            f"{path} is of stage {stored.get('stage')} of {stored.get('method')}; expected stage 2 of {name}."
        )
    if stored["settings"]["method"] != hyperparameters.model_dump(mode="json"):
        raise AvpipeError(f"{path} was trained with other hyper-parameters; train stage 2 again.")
    return stored


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


def _clip_counts(counts: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_]) -> ClipCounts:
    return ClipCounts(seen=int(counts[seen].sum()), unseen=int(counts[~seen].sum()))


def _percent(accuracy: np.float64) -> float | None:
    return 100 * float(accuracy) if np.isfinite(accuracy) else None
