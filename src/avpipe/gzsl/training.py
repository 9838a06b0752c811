"""The two-stage protocol of the benchmark (specs/avca.md §4): what the workflow's scripts call.

Stage 1 trains on stage_1_train and settles two numbers on the validation clips: the best epoch and the calibration
constant beta. Stage 2 trains afresh on all clips of stage 1, for as many epochs, and is tested with that beta.
Every stage leaves three files in its folder: `checkpoint.pt`, `epochs.csv` and `stage.json`.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avpipe import stages
from avpipe.config.gzsl import TrainingSettings
from avpipe.config.quirks import Settings
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import checkpoint, models, tensors
from avpipe.gzsl.data import Benchmark
from avpipe.gzsl.evaluation import CalibratedStacking, beta_grid, evaluate
from avpipe.gzsl.loop import Row, Task, combined_beta, fit
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.runtime import deterministic
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet
from avpipe.io import atomic

log = logging.getLogger(__name__)

CHECKPOINT, EPOCHS, SUMMARY, RESUME = "checkpoint.pt", "epochs.csv", "stage.json", "resume.pt"


@dataclass(frozen=True)
class StageResult:
    """What a finished stage hands on; `stage.json` has the same fields.

    Attributes:
        stage: 1 or 2.
        method: name of the method.
        seed: of weights, dropout and pairs.
        best_epoch: 0-based epoch of the checkpoint: stage 1's best; stage 2 repeats it.
        beta: calibration constant for the test (mean over the method's calibration modes).
        betas: mode -> its best beta on the validation clips (stage 1's in both stages).
        metrics: mode -> seen, unseen, hm, zsl (0 to 1) of the checkpoint on the validation clips; in stage 2 these
            clips are training clips.
        learning_rates: of every epoch that ran.
        classes: number of training classes; clips: number of training clips.
        fingerprint: digests of data, settings and method, the seed and the stage's version.
    """

    stage: int
    method: str
    seed: int
    best_epoch: int
    beta: float
    betas: dict[str, float]
    metrics: dict[str, dict[str, float]]
    learning_rates: list[float]
    classes: int
    clips: int
    fingerprint: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> StageResult:
        """Read a `stage.json`.

        Raises:
            AvpipeError: missing file, or not one of this version.
        """
        try:
            return cls(**json.loads(Path(path).read_text("utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise AvpipeError(f"Cannot read {path} ({error}); train that stage again.") from error


Stage1Result = StageResult
Stage2Result = StageResult


def train_stage1(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: Settings,
    training: TrainingSettings,
    *,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    save_every_seconds: float = 30.0,
) -> StageResult:
    """Train on stage_1_train and choose epoch and beta on the validation clips.

    Args:
        benchmark: features, class vectors and class lists.
        model_name: one of `avpipe.gzsl.models.names()`.
        hyperparameters: resolved settings of that method.
        training: resolved settings of the protocol.
        seed: of weights, dropout and pairs.
        device: "cpu", "cuda", "cuda:1", …
        folder: where `checkpoint.pt`, `epochs.csv` and `stage.json` go; an interrupted run leaves `resume.pt`.
        threads: CPU threads.
        save_every_seconds: how often, at epoch ends, the state for resuming is saved.

    Raises:
        AvpipeError: data or settings that do not fit, a loss that is not finite.
        SystemExit: code 143 after SIGTERM; calling again goes on exactly where it stopped.
    """
    return _train_stage(
        benchmark, model_name, hyperparameters, training, None,
        seed=seed, device=device, folder=folder, threads=threads, save_every_seconds=save_every_seconds,
    )  # fmt: skip


def train_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: Settings,
    training: TrainingSettings,
    *,
    stage1: StageResult | Path,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    save_every_seconds: float = 30.0,
) -> StageResult:
    """Train afresh on train + val_seen + val_unseen up to stage 1's best epoch.

    The published program runs all epochs and then takes the checkpoint of that epoch; no later epoch can change
    it, so training stops there.

    Args:
        benchmark: as in `train_stage1`, also the other arguments not listed here.
        model_name: see there.
        hyperparameters: see there.
        training: its `stage2_schedule` decides what lowers the learning rate.
        stage1: the result of stage 1 or the path of its `stage.json`.
        seed: of weights, dropout and pairs.
        device: see there.
        folder: another folder than stage 1's.
        threads: see there.
        save_every_seconds: see there.

    Raises:
        AvpipeError: as `train_stage1`; stage 1 was another method's.
        SystemExit: code 143 after SIGTERM.
    """
    first = stage1 if isinstance(stage1, StageResult) else StageResult.read(stage1)
    if first.stage != 1 or first.method != model_name:
        raise AvpipeError(f"Stage 2 of {model_name} needs its stage 1, found stage {first.stage} of {first.method}.")
    return _train_stage(
        benchmark, model_name, hyperparameters, training, first,
        seed=seed, device=device, folder=folder, threads=threads, save_every_seconds=save_every_seconds,
    )  # fmt: skip


def evaluate_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: Settings,
    *,
    stage2: Path,
    device: str,
    threads: int,
    modes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Test a stage-2 checkpoint on test_seen + test_unseen with the beta that stage 1 chose.

    Args:
        benchmark: as in training.
        model_name: name of the method.
        hyperparameters: those it was trained with.
        stage2: stage 2's folder.
        device: "cpu", "cuda", …
        threads: CPU threads.
        modes: further distances to report, e.g. ("audio", "both") for AVCA; the reported one is always there.

    Returns:
        Plain values for eval.json: method, seed, best_epoch, beta, score_mode, metrics (mode -> seen, unseen, hm,
        zsl, 0 to 1), per_class (name -> gzsl, zsl, clips; None where it is not defined), classes_without_clips,
        clips (seen, unseen) and the checkpoint's fingerprint.
    """
    where = resolve_device(device)
    with deterministic(where, threads):
        test = tensors.evaluation_set(benchmark, *tensors.TEST, where)
        model = _maker(model_name, hyperparameters, test)().to(where)
        stored = checkpoint.load_model(stage2 / CHECKPOINT, model)
        if stored["settings"]["method"] != hyperparameters.model_dump(mode="json"):
            raise AvpipeError(f"{stage2 / CHECKPOINT} was trained with other hyper-parameters; train stage 2 again.")
        results = evaluate(model, test, [stored["beta"]], modes=(*model.calibration_modes, *(modes or ())))
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
        "metrics": {mode: _metrics(stacking) for mode, stacking in results.items()},
        "per_class": per_class,
        "classes_without_clips": [named[c] for c in score.classes_without_clips],
        "clips": {"seen": int(score.counts[seen].sum()), "unseen": int(score.counts[~seen].sum())},
        "fingerprint": stored["fingerprint"],
    }


def _train_stage(
    benchmark: Benchmark,
    method: str,
    hyperparameters: Settings,
    training: TrainingSettings,
    first: StageResult | None,
    *,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    save_every_seconds: float,
) -> StageResult:
    """Either stage; `first` is None in stage 1 and stage 1's result in stage 2."""
    where = resolve_device(device)
    with deterministic(where, threads):
        subsets = tensors.STAGE1_TRAINING if first is None else tensors.STAGE2_TRAINING
        train = tensors.training_set(benchmark, subsets, where)
        validation = tensors.evaluation_set(benchmark, *tensors.VALIDATION, where)
        fingerprint = _fingerprint(method, hyperparameters, training, first, seed, train, validation)
        task = Task(
            make_model=_maker(method, hyperparameters, train),
            train=train,
            validation=validation,
            settings=training,
            epochs=training.epochs if first is None else first.best_epoch + 1,
            learning_rates=first.learning_rates if first and training.stage2_schedule == "stage1" else None,
            seed=seed,
            device=where,
            fingerprint=fingerprint,
            resume_path=folder / RESUME,
            save_every_seconds=save_every_seconds,
        )
        outcome = fit(task)
        if first is None:
            outcome.model.load_state_dict(outcome.best.model)
        # The chosen checkpoint is evaluated again: in stage 1 its betas are what is handed on, as published.
        results = evaluate(outcome.model, validation, beta_grid(training.beta_max, training.n_betas))
        modes = outcome.model.calibration_modes
        result = StageResult(
            stage=1 if first is None else 2,
            method=method,
            seed=seed,
            best_epoch=first.best_epoch if first else outcome.best.epoch,
            beta=first.beta if first else combined_beta(results, modes),
            betas=first.betas if first else {mode: results[mode].best_beta for mode in modes},
            metrics={mode: _metrics(stacking) for mode, stacking in results.items()},
            learning_rates=[float(row["learning_rate"]) for row in outcome.history],
            classes=len(train.class_ids),
            clips=len(train.labels),
            fingerprint=fingerprint,
        )
        _write_stage(folder, outcome.model, outcome.history, result, hyperparameters, training)
    return result


def _maker(name: str, hyperparameters: Settings, data: TrainingSet | EvaluationSet) -> partial[Method]:
    widths = {"audio_dim": data.audio.shape[1], "video_dim": data.video.shape[1]}
    return partial(_build, name, data.words.shape[1], **widths, **hyperparameters.model_dump())


def _build(name: str, word_dim: int, **arguments: Any) -> Method:
    model = models.build(name, **arguments)
    if word_dim != model.word_dim:
        raise AvpipeError(f"{name} needs class vectors of length {model.word_dim}, the benchmark's have {word_dim}.")
    return model


def _fingerprint(
    method: str,
    hyperparameters: Settings,
    training: TrainingSettings,
    first: StageResult | None,
    seed: int,
    train: TrainingSet,
    validation: EvaluationSet,
) -> checkpoint.Fingerprint:
    data = {"classes": torch.as_tensor(train.class_ids), "val_classes": torch.as_tensor(validation.class_ids)}
    for prefix, part in (("", train), ("val_", validation)):
        data |= {prefix + name: getattr(part, name) for name in ("audio", "video", "labels", "words")}
    data["seen"] = validation.seen
    handed_on = None if first is None else [first.best_epoch, first.beta, first.learning_rates]
    return {
        "stage 1 result": checkpoint.digest_json(handed_on),
        "method": method,
        "settings": checkpoint.digest_json([hyperparameters.model_dump(mode="json"), training.model_dump(mode="json")]),
        "seed": str(seed),
        "data": checkpoint.digest_tensors(data),
        "stage version": stages.GZSL_TRAIN,
    }


def _write_stage(
    folder: Path,
    model: Method,
    history: list[Row],
    result: StageResult,
    hyperparameters: Settings,
    training: TrainingSettings,
) -> None:
    """Write the stage's three files, then drop the resume file. Wall-clock times are in epochs.csv alone."""
    checkpoint.save(
        folder / CHECKPOINT,
        {
            "model": model.state_dict(),
            "epoch": result.best_epoch,
            "beta": result.beta,
            "betas": result.betas,
            "seed": result.seed,
            "metrics": result.metrics,
            "settings": {
                "method": hyperparameters.model_dump(mode="json"),
                "training": training.model_dump(mode="json"),
            },
            "fingerprint": result.fingerprint,
        },
    )
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    atomic.write_text(folder / EPOCHS, table.getvalue())
    atomic.write_json(folder / SUMMARY, asdict(result))
    (folder / RESUME).unlink(missing_ok=True)


def _metrics(result: CalibratedStacking) -> dict[str, float]:
    return {
        "seen": result.best_seen, "unseen": result.best_unseen, "hm": result.best_hm, "zsl": result.best_zsl,
        "beta": result.best_beta,
    }  # fmt: skip


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
