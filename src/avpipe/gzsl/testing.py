"""Testing a trained method on the test clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import models, tensors
from avpipe.gzsl.data import Benchmark
from avpipe.gzsl.evaluation import beta_grid
from avpipe.gzsl.models.settings import MethodSettings
from avpipe.gzsl.stage_files import CHECKPOINT
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
) -> dict[str, Any]:
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
        Plain values for eval.json: method, seed, best_epoch, beta, score_mode, metrics (mode -> seen, unseen, hm,
        zsl, 0 to 1), per_class (name -> gzsl, zsl, clips; None where it is not defined), classes_without_clips,
        clips (seen, unseen), beta_curve (betas, seen, unseen, hm; None for a method without calibration) and the
        checkpoint's fingerprint.
    """
    where = resolve_device(device)
    with deterministic(where, threads):
        test = tensors.evaluation_set(benchmark, *tensors.TEST, where)
        train = tensors.training_set(benchmark, tensors.STAGE2_TRAINING, where)
        model = models.make(model_name, hyperparameters, test).to(where)
        stored = checkpoint.load_model(stage2 / CHECKPOINT, model)
        if (stored.get("stage"), stored.get("method")) != (2, model_name):
            raise AvpipeError(
                f"{stage2 / CHECKPOINT} is of stage {stored.get('stage')} of {stored.get('method')}; expected stage 2 "
                f"of {model_name}."
            )
        if stored["settings"]["method"] != hyperparameters.model_dump(mode="json"):
            raise AvpipeError(f"{stage2 / CHECKPOINT} was trained with other hyper-parameters; train stage 2 again.")
        modes = (*model.calibration_modes, *model.extra_modes)
        results = model.evaluate(train, test, [stored["beta"]], modes=modes)
        curve = None
        if model.is_calibrated:
            grid = beta_grid() if betas is None else betas
            curve = model.evaluate(train, test, grid)[model.score_mode]
    score = results[model.score_mode]
    named = [benchmark.class_names[i] for i in test.class_ids]
    per_class = {
        name: {"gzsl": _finite(score.per_class_gzsl[c]), "zsl": _finite(score.per_class_zsl[c]), "clips": int(n)}
        for c, (name, n) in enumerate(zip(named, score.counts, strict=True))
    }
    seen = test.seen.cpu().numpy()
    return {
        "method": model_name,
        "seed": stored["seed"],
        "best_epoch": stored["epoch"],
        "beta": stored["beta"],
        "score_mode": model.score_mode,
        "metrics": {mode: stacking.figures() for mode, stacking in results.items()},
        "per_class": per_class,
        "classes_without_clips": [named[c] for c in score.classes_without_clips],
        "clips": {"seen": int(score.counts[seen].sum()), "unseen": int(score.counts[~seen].sum())},
        "beta_curve": curve and {name: curve[name].tolist() for name in ("betas", "seen", "unseen", "hm")},
        "fingerprint": stored["fingerprint"],
    }


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
