"""The two-stage protocol of the benchmark (specs/avca.md §4): what the workflow's scripts call.

Stage 1 trains on stage_1_train and settles two numbers on the validation clips: the best epoch and the calibration
constant beta. Stage 2 trains afresh on all clips of stage 1, for as many epochs, and is tested with that beta.
Every stage leaves three files in its folder: `checkpoint.pt`, `epochs.csv` and `stage.json`.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from avpipe import versions
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import models, tensors
from avpipe.gzsl.data import Benchmark
from avpipe.gzsl.evaluation import beta_grid
from avpipe.gzsl.loop import Outcome, Task, combined_beta, fit
from avpipe.gzsl.models.settings import MethodSettings, TrainingSettings
from avpipe.gzsl.stage_files import RESUME, SUMMARY, StageResult, finished, stage_folder, write_stage
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet
from avpipe.training import checkpoint
from avpipe.training.runtime import deterministic

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 30.0


def train_stage1(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    training: TrainingSettings,
    *,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> StageResult:
    """Train on stage_1_train and choose epoch and beta on the validation clips.

    Args:
        benchmark: features, class vectors and class lists.
        model_name: one of `avpipe.gzsl.models.names()`.
        hyperparameters: resolved settings of that method.
        training: resolved settings of the protocol, the method's own put in (`MethodSettings.training`).
        seed: of weights, dropout and pairs.
        device: "cpu", "cuda", "cuda:1", …
        folder: where `checkpoint.pt`, `epochs.csv` and `stage.json` go; an interrupted run leaves `resume.pt`.
        threads: CPU threads.
        save_every_seconds: how often, at epoch ends, the state for resuming is saved.

    Raises:
        AvpipeError: data or settings that do not fit, a loss that is not finite.
        SystemExit: code 143 after SIGTERM; calling again goes on exactly where it stopped.
    """
    setup = _Setup(benchmark, model_name, hyperparameters, training, device, threads, save_every_seconds)
    return _train_stage(setup, 1, [_Request(seed, folder)])[0]


def train_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    training: TrainingSettings,
    *,
    stage1: StageResult | Path,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> StageResult:
    """Train afresh on train + val_seen + val_unseen up to stage 1's best epoch.

    The published program runs all epochs and then takes the checkpoint of that epoch; no later epoch can change
    it, so training stops there. A method that chooses on the test clips (published f-VAEGAN-D2) runs all epochs and
    keeps the one that does best on them.

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
    setup = _Setup(benchmark, model_name, hyperparameters, training, device, threads, save_every_seconds)
    first = stage1 if isinstance(stage1, StageResult) else StageResult.read(stage1)
    return _train_stage(setup, 2, [_Request(seed, folder, first)])[0]


def train_seeds(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    training: TrainingSettings,
    *,
    seeds: Sequence[int],
    device: str,
    folder: Path,
    threads: int,
    words_of: Callable[[int], npt.NDArray[np.float32]] | None = None,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> None:
    """Both stages with every seed, from one copy of the features; a stage that is finished already is not repeated.

    Args:
        benchmark: as in `train_stage1`, also the other arguments not listed here.
        model_name: see there.
        hyperparameters: see there.
        training: see there.
        seeds: different whole numbers. On a GPU they train side by side.
        device: see there.
        folder: gets seed<seed>/stage1 and seed<seed>/stage2.
        threads: see there.
        words_of: a seed's own class vectors, float32 [n_classes, d_w]; None: the benchmark's.
        save_every_seconds: see there.

    Raises:
        AvpipeError: as `train_stage1`.
        SystemExit: code 143 after SIGTERM.
    """
    setup = _Setup(benchmark, model_name, hyperparameters, training, device, threads, save_every_seconds)
    seeds = [operator.index(seed) for seed in seeds]
    words = {seed: words_of(seed) if words_of else None for seed in seeds}
    first = _train_stage(setup, 1, [_Request(seed, stage_folder(folder, seed, 1), words=words[seed]) for seed in seeds])
    _train_stage(
        setup, 2,
        [
            _Request(seed, stage_folder(folder, seed, 2), result, words[seed])
            for seed, result in zip(seeds, first, strict=True)
        ],
    )  # fmt: skip


@dataclass(frozen=True)
class _Setup:
    """What all seeds of a run have in common."""

    benchmark: Benchmark
    method: str
    hyperparameters: MethodSettings
    training: TrainingSettings
    device: str
    threads: int
    save_every_seconds: float


@dataclass(frozen=True)
class _Request:
    """One seed of a stage: where it goes, stage 1's result for stage 2, and class vectors of its own."""

    seed: int
    folder: Path
    first: StageResult | None = None
    words: npt.NDArray[np.float32] | None = None


def _train_stage(setup: _Setup, stage: int, requests: Sequence[_Request]) -> list[StageResult]:
    """A stage with every requested seed; results in the order of the requests."""
    seeds = [request.seed for request in requests]
    if len(set(seeds)) < len(seeds):
        raise AvpipeError(f"A seed is listed twice: {seeds}; each is trained once.")
    for request in requests:
        _check_first(setup, stage, request)
    where = resolve_device(setup.device)
    results: dict[int, StageResult] = {}
    with deterministic(where, setup.threads):
        data = _stage_data(setup, stage, where)
        tasks = []
        for request in requests:
            task = _task(setup, stage, request, *_own_words(data, request), where, data.digest)
            done = finished(request.folder, task.fingerprint)
            if done is None:
                tasks.append(task)
            else:
                log.info("Stage %d with seed %d is finished already.", stage, request.seed)
                task.resume_path.unlink(missing_ok=True)  # of a run with other settings that was given up
                results[request.seed] = done
        first = {request.seed: request.first for request in requests}

        def finish(task: Task, outcome: Outcome) -> None:
            _finish_stage(setup, stage, task, outcome, first[task.seed])
            # As a later run would find it: what stage 2 writes must not depend on whether stage 1 ran just before.
            results[task.seed] = StageResult.read(task.resume_path.parent / SUMMARY)

        fit(tasks, finish)
    return [results[request.seed] for request in requests]


def _check_first(setup: _Setup, stage: int, request: _Request) -> None:
    """Stage 2 goes on from stage 1 of the same method, settings and seed."""
    first = request.first
    if stage == 1:
        return
    if first is None or first.stage != 1 or first.method != setup.method:
        found = "none" if first is None else f"stage {first.stage} of {first.method}"
        raise AvpipeError(f"Stage 2 of {setup.method} needs its stage 1, found {found}.")
    if first.seed != request.seed or first.fingerprint.get("settings") != _settings_digest(setup, 1):
        raise AvpipeError(
            f"Stage 2 of {setup.method} with seed {request.seed} needs a stage 1 of the same seed and settings; found "
            f"one of seed {first.seed}" + ("." if first.seed != request.seed else " and other settings.")
        )


def _settings_digest(setup: _Setup, stage: int) -> str:
    """Of all settings that decide a stage's result."""
    of_stage2 = {"stage2_schedule"} if stage == 1 else set()
    training = setup.training.model_dump(mode="json", exclude=of_stage2)
    return checkpoint.digest_json([setup.hyperparameters.model_dump(mode="json"), training])


@dataclass(frozen=True)
class _StageData:
    """The clips of a stage, shared by all seeds, and the digest of everything but the class vectors."""

    train: TrainingSet
    validation: EvaluationSet
    digest: str


def _stage_data(setup: _Setup, stage: int, where: torch.device) -> _StageData:
    on_test = stage == 2 and setup.hyperparameters.picks_on_test
    train = tensors.training_set(
        setup.benchmark, tensors.STAGE1_TRAINING if stage == 1 else tensors.STAGE2_TRAINING, where
    )
    validation = tensors.evaluation_set(setup.benchmark, *(tensors.TEST if on_test else tensors.VALIDATION), where)
    parts = {"classes": torch.as_tensor(train.class_ids), "val_classes": torch.as_tensor(validation.class_ids)}
    for prefix, part in (("", train), ("val_", validation)):
        parts |= {prefix + name: getattr(part, name) for name in ("audio", "video", "labels")}
    return _StageData(train, validation, checkpoint.digest_tensors(parts | {"seen": validation.seen}))


def _own_words(data: _StageData, request: _Request) -> tuple[TrainingSet, EvaluationSet]:
    if request.words is None:
        return data.train, data.validation
    return tensors.with_words(data.train, request.words), tensors.with_words(data.validation, request.words)


def _task(
    setup: _Setup,
    stage: int,
    request: _Request,
    train: TrainingSet,
    validation: EvaluationSet,
    where: torch.device,
    data_digest: str,
) -> Task:
    training, first = setup.training, request.first
    runs_all = first is None or setup.hyperparameters.picks_on_test
    repeats_rates = first is not None and training.stage2_schedule == "stage1" and not runs_all
    is_scheduled = models.implementation(setup.method).is_scheduled
    return Task(
        make_model=partial(models.make, setup.method, setup.hyperparameters, train),
        train=train,
        validation=validation,
        settings=training,
        epochs=training.epochs if runs_all or first is None else first.best_epoch + 1,
        betas=beta_grid(training.beta_max, training.n_betas),
        evaluates=runs_all or is_scheduled,
        learning_rates=first.learning_rates if first is not None and repeats_rates and is_scheduled else None,
        seed=request.seed,
        device=where,
        fingerprint=_fingerprint(setup, request, data_digest, train, validation),
        resume_path=request.folder / RESUME,
        save_every_seconds=setup.save_every_seconds,
    )


def _finish_stage(setup: _Setup, stage: int, task: Task, outcome: Outcome, first: StageResult | None) -> None:
    """Choose the epoch, evaluate it and write the stage's files."""
    model, modes = outcome.model, outcome.model.calibration_modes
    chooses = first is None or setup.hyperparameters.picks_on_test
    if chooses:
        model.load_state_dict(outcome.best.model)
    # The chosen checkpoint is evaluated again: in stage 1 its betas are what is handed on, as published.
    betas = task.betas if model.is_calibrated else np.zeros(1, np.float32)
    results = model.evaluate(task.train, task.validation, betas) if task.evaluates else {}
    result = StageResult(
        stage=stage,
        method=setup.method,
        seed=task.seed,
        best_epoch=outcome.best.epoch if chooses or first is None else first.best_epoch,
        beta=combined_beta(results, modes) if first is None else first.beta,
        betas={mode: results[mode].best_beta for mode in modes} if first is None else first.betas,
        metrics={mode: stacking.figures() for mode, stacking in results.items()},
        learning_rates=[float(row["learning_rate"]) for row in outcome.history],
        classes=len(task.train.class_ids),
        clips=len(task.train.labels),
        fingerprint=task.fingerprint,
    )
    write_stage(task.resume_path.parent, model, outcome.history, result, setup.hyperparameters, setup.training)


def _fingerprint(
    setup: _Setup, request: _Request, data_digest: str, train: TrainingSet, validation: EvaluationSet
) -> checkpoint.Fingerprint:
    first = request.first
    handed_on = None if first is None else [first.best_epoch, first.beta, first.learning_rates]
    words = checkpoint.digest_tensors({"words": train.words, "val_words": validation.words})
    return {
        "stage 1 result": checkpoint.digest_json(handed_on),
        "method": setup.method,
        "settings": _settings_digest(setup, 1 if first is None else 2),
        "seed": str(request.seed),
        "data": checkpoint.digest_json([data_digest, words]),
        "stage version": versions.GZSL_TRAIN,
    }
