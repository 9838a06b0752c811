"""Testing a trained method on the test clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import models, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.evaluation import CalibratedStacking, beta_grid
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.models.settings import MethodSettings
from avpipe.gzsl.stage_files import CHECKPOINT
from avpipe.schema.gzsl import METRICS, BetaCurve, CalibratedAccuracies, ClassAccuracy, ClipCounts, SeedResult
from avpipe.training import checkpoint
from avpipe.training.runtime import deterministic


def evaluate_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    *,
    stage2: Path,
    device: str,
    threads: int,
    betas: npt.NDArray[np.float32] | None = None,
) -> SeedResult:
    """Test a stage-2 checkpoint on test_seen + test_unseen with the beta that stage 1 chose.

    Args:
        benchmark: as in training.
        model_name: name of the method.
        hyperparameters: those it was trained with.
        stage2: stage 2's folder.
        device: "cpu", "cuda", …
        threads: CPU threads.
        betas: constants for the curve, which is for information and chooses nothing; None: the published grid.

    Returns:
        Accuracies in %, at the top those of the reported mode; device and seed, and what else `SeedResult` says.

    Raises:
        AvpipeError: the checkpoint is of another stage, method or other hyper-parameters.
    """
    where = resolve_device(device)
    with deterministic(where, threads):
        test = tensors.evaluation_set(benchmark, *tensors.TEST, where)
        train = tensors.training_set(benchmark, tensors.STAGE2_TRAINING, where)
        model = models.make(model_name, hyperparameters, test).to(where)
        stored = _load(stage2 / CHECKPOINT, model, model_name, hyperparameters)
        modes = (*model.calibration_modes, *model.extra_modes)
        results = model.evaluate(train, test, [stored["beta"]], modes=modes)
        curve = None
        if model.is_calibrated:
            grid = beta_grid() if betas is None else betas
            curve = model.evaluate(train, test, grid)[model.score_mode]
    score = results[model.score_mode]
    named = [benchmark.class_names[i] for i in test.class_ids]
    metrics = {mode: in_percent(stacking) for mode, stacking in results.items()}
    return SeedResult(
        **{metric: getattr(metrics[model.score_mode], metric) for metric in METRICS},
        seed=stored["seed"],
        method=model_name,
        best_epoch=stored["epoch"],
        beta=stored["beta"],
        score_mode=model.score_mode,
        metrics=metrics,
        per_class=_per_class(named, score),
        classes_without_clips=[named[c] for c in score.classes_without_clips],
        clips=_clip_counts(score.counts, test.seen.cpu().numpy()),
        beta_curve=None if curve is None else _curve(curve),
        fingerprint=stored["fingerprint"],
        device=device,
    )


def in_percent(stacking: CalibratedStacking) -> CalibratedAccuracies:
    """The figures at the best beta, in %."""
    figures = stacking.figures()
    return CalibratedAccuracies(**{metric: 100 * figures[metric] for metric in METRICS}, beta=figures["beta"])


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


def _curve(stacking: CalibratedStacking) -> BetaCurve:
    rates = {name: [100 * value for value in stacking[name].tolist()] for name in ("seen", "unseen", "hm")}
    return BetaCurve(betas=stacking.betas.tolist(), **rates)


def _clip_counts(counts: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_]) -> ClipCounts:
    return ClipCounts(seen=int(counts[seen].sum()), unseen=int(counts[~seen].sum()))


def _percent(accuracy: np.float64) -> float | None:
    return 100 * float(accuracy) if np.isfinite(accuracy) else None
