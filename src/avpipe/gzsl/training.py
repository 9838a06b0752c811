"""The two-stage protocol of the benchmark (docs/methods.md, Two stages): what the workflow's scripts call.

Stage 1 trains on stage_1_train and settles two numbers on the validation clips: the best epoch and the calibration
constant beta. Stage 2 trains afresh on train + val_seen + val_unseen up to that epoch, and is tested with that beta.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from avpipe import versions
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.gzsl import models, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.evaluation import beta_grid, combined_beta
from avpipe.gzsl.models.settings import MethodSettings, TrainingSettings
from avpipe.gzsl.side_by_side import train_side_by_side
from avpipe.gzsl.stage_files import CHECKPOINT, SUMMARY, StageResult, finished, stage_folder
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet
from avpipe.gzsl.trainer import Stage, StageTrainer
from avpipe.training import checkpoint
from avpipe.training.loop import LoopSettings, Row, train_in_sequence
from avpipe.training.runtime import TERMINATED, Interrupt, deterministic
from avpipe.training.seed_files import RESUME, write_results

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 30.0


def train_stage(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    training: TrainingSettings,
    *,
    seed: int,
    device: str,
    folder: Path,
    threads: int,
    stage1: StageResult | Path | None = None,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> StageResult:
    """Train one stage with one seed: stage 1, or stage 2 where stage 1's result is given.

    Stage 2 ends with stage 1's best epoch. The published program runs all epochs and then takes the checkpoint of that
    one; no later epoch can change it. A method that chooses on the test clips (published f-VAEGAN-D2) runs all epochs
    and keeps the one that does best on them.

    Args:
        benchmark: features, class vectors and class lists.
        model_name: one of `avpipe.gzsl.models.names()`.
        hyperparameters: resolved settings of that method.
        training: resolved settings of the protocol, the method's own put in (`MethodSettings.training`).
        seed: of weights, dropout and pairs.
        device: "cpu", "cuda", "cuda:1", …
        folder: where the stage's files go (`avpipe.gzsl.stage_files`); each stage has its own.
        threads: CPU threads.
        stage1: the result of stage 1 or the path of its `stage.json`; None: this is stage 1.
        save_every_seconds: how often the state for resuming is saved.

    Raises:
        AvpipeError: data or settings that do not fit, a loss that is not finite, stage 1 was another method's.
        SystemExit: code 143 after SIGTERM; calling again goes on exactly where it stopped.
    """
    setup = _Setup(benchmark, model_name, hyperparameters, training, device, threads, save_every_seconds)
    result = StageResult.read(stage1) if isinstance(stage1, Path) else stage1
    return _run_stage(setup, [_Request(seed, folder, result)])[0]


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
        benchmark: as in `train_stage`, also the other arguments not listed here.
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
        AvpipeError: as `train_stage`.
        SystemExit: code 143 after SIGTERM.
    """
    setup = _Setup(benchmark, model_name, hyperparameters, training, device, threads, save_every_seconds)
    seeds = [operator.index(seed) for seed in seeds]
    words = {seed: words_of(seed) if words_of else None for seed in seeds}
    results: Sequence[StageResult | None] = [None] * len(seeds)
    for stage in (1, 2):
        requests = [
            _Request(seed, stage_folder(folder, seed, stage), stage1, words[seed])
            for seed, stage1 in zip(seeds, results, strict=True)
        ]
        results = _run_stage(setup, requests)


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
    """A stage that is wanted with one seed: its folder, stage 1's result for stage 2, and class vectors of its own."""

    seed: int
    folder: Path
    stage1: StageResult | None = None
    words: npt.NDArray[np.float32] | None = None

    @property
    def stage(self) -> int:
        """1 or 2."""
        return 1 if self.stage1 is None else 2


def _run_stage(setup: _Setup, requests: Sequence[_Request]) -> list[StageResult]:
    """A stage with every requested seed; results in the order of the requests."""
    by_seed = {request.seed: request for request in requests}
    if len(by_seed) < len(requests):
        raise AvpipeError(f"A seed is listed twice: {[request.seed for request in requests]}; each is trained once.")
    for request in requests:
        _check_stage1(setup, request)
    where = resolve_device(setup.device)
    with deterministic(where, setup.threads):
        data = _StageData.gather(setup, requests[0].stage, where)
        wanted = []
        for request in requests:
            stage = _stage(setup, request, data)
            loop = _loop_settings(setup, request, stage, data.digest)
            if finished(request.folder, loop.fingerprint) is None:
                wanted.append((stage, loop))
                continue
            log.info("Stage %d with seed %d is finished already.", request.stage, request.seed)
            loop.resume_path.unlink(missing_ok=True)  # of a run with other settings that was given up
        trainers = (_trainer(setup, stage, loop, where) for stage, loop in wanted)
        with Interrupt() as interrupt:
            # A CPU is busy with one seed; one such model leaves most of a GPU idle.
            train_all = train_side_by_side if where.type == "cuda" else train_in_sequence
            for trainer in train_all(trainers, interrupt):
                _finish_stage(setup, by_seed[trainer.loop.seed], trainer)
        if interrupt.requested:  # while the last one was being finished: its files are there, nothing else is to do
            raise SystemExit(TERMINATED)
    # As a later run would find them: what stage 2 writes must not depend on whether stage 1 ran just before.
    return [StageResult.read(request.folder / SUMMARY) for request in requests]


def _check_stage1(setup: _Setup, request: _Request) -> None:
    """Stage 2 goes on from stage 1 of the same method, settings and seed."""
    stage1 = request.stage1
    if stage1 is None:
        return
    if stage1.stage != 1 or stage1.method != setup.method:
        found = f"stage {stage1.stage} of {stage1.method}"
        raise AvpipeError(f"Stage 2 of {setup.method} needs its stage 1, found {found}.")
    if stage1.seed != request.seed or stage1.fingerprint.get("settings") != _settings_digest(setup, 1):
        raise AvpipeError(
            f"Stage 2 of {setup.method} with seed {request.seed} needs a stage 1 of the same seed and settings; found "
            f"one of seed {stage1.seed}" + ("." if stage1.seed != request.seed else " and other settings.")
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
    scored_on: str
    digest: str

    @classmethod
    def gather(cls, setup: _Setup, stage: int, where: torch.device) -> _StageData:
        on_test = stage == 2 and setup.hyperparameters.picks_on_test
        train = tensors.training_set(
            setup.benchmark, tensors.STAGE1_TRAINING if stage == 1 else tensors.STAGE2_TRAINING, where
        )
        validation = tensors.evaluation_set(setup.benchmark, *(tensors.TEST if on_test else tensors.VALIDATION), where)
        parts = {"classes": torch.as_tensor(train.class_ids), "val_classes": torch.as_tensor(validation.class_ids)}
        for prefix, part in (("", train), ("val_", validation)):
            parts |= {prefix + name: getattr(part, name) for name in ("audio", "video", "labels")}
        scored_on = "test clips" if on_test else "validation clips" if stage == 1 else "training clips"
        return cls(train, validation, scored_on, checkpoint.digest_tensors(parts | {"seen": validation.seen}))


def _stage(setup: _Setup, request: _Request, data: _StageData) -> Stage:
    """What one seed's stage trains on, and how."""
    training, stage1 = setup.training, request.stage1
    train, validation = data.train, data.validation
    if request.words is not None:
        train = tensors.with_words(train, request.words)
        validation = tensors.with_words(validation, request.words)
    is_scheduled = models.implementation(setup.method).is_scheduled
    chooses = _chooses_epoch(setup, request)
    repeats_rates = not chooses and is_scheduled and training.stage2_schedule == "stage1"
    return Stage(
        train=train,
        validation=validation,
        scored_on=data.scored_on,
        settings=training,
        betas=None if training.tries_all_betas else beta_grid(training.beta_max or 3.0, training.n_betas or 16),
        evaluates=chooses or is_scheduled,
        learning_rates=stage1.learning_rates if stage1 is not None and repeats_rates else None,
    )


def _chooses_epoch(setup: _Setup, request: _Request) -> bool:
    """Whether the stage runs all epochs and keeps the best one; else it ends with the one that stage 1 chose."""
    return request.stage1 is None or setup.hyperparameters.picks_on_test


def _loop_settings(setup: _Setup, request: _Request, stage: Stage, data_digest: str) -> LoopSettings:
    stage1 = request.stage1
    handed_on = None if stage1 is None else [stage1.best_epoch, stage1.beta, stage1.learning_rates]
    words = checkpoint.digest_tensors({"words": stage.train.words, "val_words": stage.validation.words})
    return LoopSettings(
        seed=request.seed,
        epochs=setup.training.epochs if stage1 is None or _chooses_epoch(setup, request) else stage1.best_epoch + 1,
        steps_per_epoch=setup.training.batches_per_epoch,
        fingerprint={
            "stage 1 result": checkpoint.digest_json(handed_on),
            "method": setup.method,
            "settings": _settings_digest(setup, request.stage),
            "seed": str(request.seed),
            "data": checkpoint.digest_json([data_digest, words]),
            "stage version": versions.GZSL_TRAIN,
        },
        resume_path=request.folder / RESUME,
        save_every_seconds=setup.save_every_seconds,
    )


def _trainer(setup: _Setup, stage: Stage, loop: LoopSettings, where: torch.device) -> StageTrainer:
    torch.manual_seed(loop.seed)
    model = models.make(setup.method, setup.hyperparameters, stage.train)  # on the CPU: equal weights on any device
    return StageTrainer(model.to(where), stage, loop)


def _finish_stage(setup: _Setup, request: _Request, trainer: StageTrainer) -> None:
    """Choose the epoch, evaluate it and write the stage's files."""
    model, stage, stage1 = trainer.model, trainer.stage, request.stage1
    chooses = _chooses_epoch(setup, request)
    if chooses:
        model.load_state_dict(trainer.best.model)
    # The chosen checkpoint is evaluated again: in stage 1 its betas are what is handed on, as published.
    results = model.evaluate(stage.train, stage.validation, stage.betas) if stage.evaluates else {}
    modes = model.calibration_modes
    result = StageResult(
        stage=request.stage,
        method=setup.method,
        seed=request.seed,
        best_epoch=trainer.best.epoch if chooses or stage1 is None else stage1.best_epoch,
        beta=combined_beta(results, modes) if stage1 is None else stage1.beta,
        betas={mode: results[mode].best_beta for mode in modes} if stage1 is None else stage1.betas,
        metrics={mode: stacking.figures() for mode, stacking in results.items()},
        scored_on=stage.scored_on,
        learning_rates=[float(row["learning_rate"]) for row in trainer.history],
        classes=len(stage.train.class_ids),
        clips=len(stage.train.labels),
        fingerprint=trainer.loop.fingerprint,
    )
    write_stage(request.folder, model, trainer.history, result, setup.hyperparameters, setup.training)


def write_stage(
    folder: Path,
    model: nn.Module,
    history: list[Row],
    result: StageResult,
    hyperparameters: MethodSettings,
    training: TrainingSettings,
) -> None:
    """Write the stage's three files, then drop the resume file. Wall-clock times are in epochs.csv alone."""
    checkpoint.save(
        folder / CHECKPOINT,
        {
            "model": model.state_dict(),
            "stage": result.stage,
            "method": result.method,
            "epoch": result.best_epoch,
            "beta": result.beta,
            "betas": result.betas,
            "seed": result.seed,
            "metrics": result.metrics,
            "scored_on": result.scored_on,
            "settings": {
                "method": hyperparameters.model_dump(mode="json"),
                "training": training.model_dump(mode="json"),
            },
            "fingerprint": result.fingerprint,
        },
    )
    write_results(folder, CHECKPOINT, history, (SUMMARY, asdict(result)))
