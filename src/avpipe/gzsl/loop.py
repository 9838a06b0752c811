"""The training loop of one stage: epochs of balanced pairs, an evaluation after each, exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.gzsl.capture import CapturedSteps
from avpipe.gzsl.evaluation import CalibratedStacking
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.models.layers import draws_from
from avpipe.gzsl.models.settings import TrainingSettings
from avpipe.gzsl.optimizers import learning_rate, load_optimizer_state, optimizer_state, set_learning_rate
from avpipe.gzsl.sampler import PairSampler
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet
from avpipe.training import checkpoint, runtime

log = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 20.0
_DROPOUT_SEED = 0x5DEECE66D  # keeps the streams of a seed's pairs and of its dropout apart

Row = dict[str, Any]
"""An epoch: its number, mean loss terms, scores on the validation clips (None where not evaluated), rate and time."""


@dataclass(frozen=True)
class Task:
    """Everything that decides the result of one stage.

    Attributes:
        make_model: builds the untrained model, from torch's default generator.
        train: clips that are trained on.
        validation: clips whose harmonic mean is computed after every epoch.
        settings: resolved.
        epochs: how many to run.
        betas: calibration constants that are tried after every epoch.
        evaluates: whether the validation clips are scored after every epoch.
        learning_rates: one per epoch; None: lowered when the validation's harmonic mean stalls.
        seed: of the weights, the dropout and the pairs.
        device: where everything happens.
        fingerprint: of all the above.
        resume_path: where an interrupted run leaves its state.
        save_every_seconds: how often that state is saved while running.
    """

    make_model: Callable[[], Method]
    train: TrainingSet
    validation: EvaluationSet
    settings: TrainingSettings
    epochs: int
    betas: npt.NDArray[np.float32]
    evaluates: bool
    learning_rates: list[float] | None
    seed: int
    device: torch.device
    fingerprint: checkpoint.Fingerprint
    resume_path: Path
    save_every_seconds: float


@dataclass
class Best:
    """The epoch with the strictly largest harmonic mean so far: the first of equals, the last of zeros."""

    epoch: int = -1
    hm: float = -math.inf
    model: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class _Sums:
    """Sums of loss terms, float64 on the device, and the number of batches in them."""

    terms: list[str]
    values: Tensor
    batches: Tensor


@dataclass
class Outcome:
    """What a stage leaves: the model after the last epoch, the best one, and one row per epoch."""

    model: Method
    best: Best
    history: list[Row]


def fit(tasks: Sequence[Task], finish: Callable[[Task, Outcome], None]) -> None:
    """Run all epochs of every task, each from its resume file if there is a fitting one.

    On a CPU one after the other. On a GPU side by side, a step of each in turn on streams of their own: one such
    model leaves most of a GPU idle. A task's result does not depend on the others.

    Args:
        tasks: on one device.
        finish: called with each task and its outcome as soon as it is done.

    Raises:
        AvpipeError: a term of the loss became NaN or infinite.
        SystemExit: with code 143 after SIGTERM or Ctrl-C, once the states are saved.
    """
    runtime.keep_freed_memory()
    waiting = list(tasks)
    active: list[_Run] = []
    at_once = side_by_side(waiting[0].device, len(waiting)) if waiting else 0
    with runtime.Interrupt() as interrupt:
        while waiting or active:
            while waiting and len(active) < at_once:
                active.append(_Run(waiting.pop(0)))
            for run in active:
                run.advance()
            if interrupt.requested:
                for run in active:
                    run.save()
                log.warning("Stopped by a signal; run again to go on from where it was.")
                raise SystemExit(runtime.TERMINATED)
            for run in [run for run in active if run.is_done]:
                active.remove(run)
                finish(run.task, Outcome(run.model, run.best, run.history))
        if interrupt.requested:  # while the last one was being finished: its files are there, nothing else is to do
            raise SystemExit(runtime.TERMINATED)


def side_by_side(device: torch.device, count: int) -> int:
    """How many of `count` runs share a device at a time: a CPU is busy with one, a GPU is not."""
    return count if device.type == "cuda" else 1


class _Run:
    """State of a stage between two batches; `save` and `_resume` are each other's inverse."""

    def __init__(self, task: Task) -> None:
        self.task = task
        settings, device = task.settings, task.device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        torch.manual_seed(task.seed)
        self.model = task.make_model().to(device).train()  # made on the CPU: the same weights on any device
        self.optimizers = self.model.optimizers(settings)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizers[0], mode="max", factor=0.1, patience=3, threshold=1e-4, threshold_mode="rel"
        )
        self.draws = {
            "pairs": torch.Generator(device).manual_seed(task.seed),
            "dropout": torch.Generator(device).manual_seed(task.seed ^ _DROPOUT_SEED),
        }
        self.sampler = PairSampler(task.train.labels)
        self.betas = task.betas if self.model.is_calibrated else np.zeros(1, np.float32)
        horizon = self.model.statistics_horizon()
        # Earlier BatchNorm statistics are forgotten before the epoch's evaluation, the only place that reads them.
        self.first_tracked = 0 if horizon is None else max(0, settings.batches_per_epoch - horizon)

        self.epoch, self.batch, self.seconds = 0, 0, 0.0
        self.best = Best()
        self.history: list[Row] = []
        self.sums: dict[int, _Sums] = {}  # of the loss terms over the epoch's batches, by kind of step
        self.epoch_draws = self.draws["pairs"].get_state()
        self.pairs: Tensor | None = None
        self.rows = torch.zeros(2, settings.batch_size, dtype=torch.long, device=device)
        self.saved_at = self.logged_at = self.clock = time.monotonic()
        self._resume()
        self._run_step = CapturedSteps(self._step, [self.draws["dropout"]]) if self._stream else self._step
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    @property
    def is_done(self) -> bool:
        """Whether all epochs have run."""
        return self.epoch >= self.task.epochs

    def advance(self) -> None:
        """One batch, and what begins and ends an epoch where it is the first or last."""
        if self.is_done:
            return
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            if self.pairs is None:
                self._start_epoch()
            self.rows.copy_(self.pairs[:, self.batch])  # type: ignore[index]
            self._run_step(self._kind())
            self.batch += 1
            if self.batch == self.task.settings.batches_per_epoch:
                self._finish_epoch()
                if not self.is_done and time.monotonic() - self.saved_at >= self.task.save_every_seconds:
                    self.save()
            self._report_progress()
        if self.is_done and self._stream is not None:
            self._stream.synchronize()  # what follows reads the model on another stream

    def _start_epoch(self) -> None:
        """Draw the epoch's pairs; when resuming inside an epoch, the same again."""
        settings = self.task.settings
        self.draws["pairs"].set_state(self.epoch_draws)
        drawn = self.sampler.draw(settings.batches_per_epoch, settings.batch_size, self.draws["pairs"])
        self.pairs = torch.stack(drawn)
        if self.task.learning_rates is not None:
            for optimizer in self.optimizers:
                set_learning_rate(optimizer, self.task.learning_rates[self.epoch])
        self.clock = time.monotonic() - self.seconds

    def _kind(self) -> int:
        """Which operations the next step does: batches of one kind differ in their clips alone."""
        return 2 * self.model.step_kind(self.batch) + int(self.batch >= self.first_tracked)

    def _step(self, kind: int) -> None:
        """One batch: the model's training step, and the sums of its loss terms."""
        batch = self.task.train.batch(self.rows[0], self.rows[1])
        with draws_from(self.draws["dropout"]):
            losses = self.model.training_step(batch, self.optimizers, index=self.batch, track_statistics=bool(kind % 2))
        values = torch.stack([value.detach() for value in losses.values()]).double()
        if kind not in self.sums:
            self.sums[kind] = _Sums(list(losses), torch.zeros_like(values), torch.zeros_like(values[0]))
        self.sums[kind].values.add_(values)
        self.sums[kind].batches.add_(1)

    def _finish_epoch(self) -> None:
        """Evaluate, remember the best, adapt the learning rate, add a row to the history."""
        means = self._mean_terms()
        rate = learning_rate(self.optimizers[0])
        result = None
        if self.task.evaluates:
            result = self.model.evaluate(self.task.train, self.task.validation, self.betas)[self.model.score_mode]
            if result.best_hm > self.best.hm or self.best.hm == 0:  # as published: a zero never counts as reached
                state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.best = Best(self.epoch, result.best_hm, state)
            if self.task.learning_rates is None and self.model.is_scheduled:
                self.scheduler.step(result.best_hm)
        self.history.append(_row(self.epoch, means, result, rate, time.monotonic() - self.clock))
        self._log_epoch(self.history[-1])
        for sums in self.sums.values():
            sums.values.zero_()
            sums.batches.zero_()
        self.epoch, self.batch, self.seconds, self.pairs = self.epoch + 1, 0, 0.0, None
        self.epoch_draws = self.draws["pairs"].get_state()

    def _report_progress(self) -> None:
        """A line every 20 seconds inside an epoch."""
        now = time.monotonic()
        if now - self.logged_at >= _LOG_EVERY_SECONDS:
            self.logged_at = now
            log.info(
                "seed %d, epoch %d/%d: batch %d/%d, %.0f s", self.task.seed, self.epoch + 1, self.task.epochs,
                self.batch, self.task.settings.batches_per_epoch, now - self.clock,
            )  # fmt: skip

    def save(self) -> None:
        """Write the resume file."""
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            checkpoint.save(
                self.task.resume_path,
                {
                    "fingerprint": self.task.fingerprint,
                    "model": self.model.state_dict(),
                    "optimizers": [optimizer_state(optimizer) for optimizer in self.optimizers],
                    "scheduler": self.scheduler.state_dict(),
                    "dropout_draws": self.draws["dropout"].get_state(),
                    "epoch_draws": self.epoch_draws,
                    "epoch": self.epoch,
                    "batch": self.batch,
                    "seconds": time.monotonic() - self.clock if self.batch else 0.0,
                    "sums": {str(kind): vars(sums) for kind, sums in self.sums.items()},
                    "best": vars(self.best),
                    "history": self.history,
                },
            )
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        """Take up the state of the resume file, if it belongs to this task."""
        state = checkpoint.load_resume(self.task.resume_path, self.task.fingerprint)
        if state is None:
            return
        device = self.task.device
        epoch, batch = state["epoch"], state["batch"]
        if not (0 <= epoch <= self.task.epochs and 0 <= batch < self.task.settings.batches_per_epoch):
            log.warning("Starting over: %s stands at epoch %s, batch %s.", self.task.resume_path, epoch, batch)
            return
        self.model.load_state_dict(state["model"], strict=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer_state(optimizer, saved)
        self.scheduler.load_state_dict(state["scheduler"])
        self.draws["dropout"].set_state(state["dropout_draws"])
        self.epoch_draws = state["epoch_draws"]
        self.epoch, self.batch, self.seconds = epoch, batch, state["seconds"]
        self.sums = {
            int(kind): _Sums(each["terms"], each["values"].to(device), each["batches"].to(device))
            for kind, each in state["sums"].items()
        }
        self.history, self.best = state["history"], Best(**state["best"])
        log.info(
            "Resuming seed %d in epoch %d/%d after %d batches.",
            self.task.seed, self.epoch + 1, self.task.epochs, self.batch,
        )  # fmt: skip

    def _mean_terms(self) -> dict[str, float]:
        """The epoch's mean of every term over the batches that had it."""
        totals: dict[str, float] = {}
        batches: dict[str, float] = {}
        for sums in self.sums.values():
            for name, value in zip(sums.terms, sums.values.tolist(), strict=True):
                totals[name] = totals.get(name, 0.0) + value
                batches[name] = batches.get(name, 0.0) + float(sums.batches)
        means = {name: total / max(batches[name], 1.0) for name, total in totals.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise AvpipeError(
                f"The loss is not finite in epoch {self.epoch + 1}: {', '.join(broken)} (seed {self.task.seed}, "
                f"learning rate {learning_rate(self.optimizers[0]):g}). Lower the learning rate or check the "
                "features."
            )
        return means

    def _log_epoch(self, row: Row) -> None:
        """A line for the last epoch, and for others every 20 seconds; epochs.csv has them all."""
        now = time.monotonic()
        if row["epoch"] + 1 < self.task.epochs and now - self.logged_at < _LOG_EVERY_SECONDS:
            return
        self.logged_at = now
        scores = "not evaluated"
        if row["hm"] is not None:
            figures = (100 * (row[name] or 0) for name in ("seen", "unseen", "hm", "zsl"))
            scores = "S {:.2f}, U {:.2f}, HM {:.2f}, ZSL {:.2f} %".format(*figures) + f" at beta {row['beta']:.1f}"
        log.info(
            "seed %d, epoch %d/%d: loss %.4f, %s, lr %g, %.1f s", self.task.seed, self.epoch + 1, self.task.epochs,
            row["loss"], scores, row["learning_rate"], row["seconds"],
        )  # fmt: skip


def _row(epoch: int, means: dict[str, float], result: CalibratedStacking | None, rate: float, seconds: float) -> Row:
    terms = {f"loss_{name}": value for name, value in means.items() if name != "total"}
    return {
        "epoch": epoch,
        "loss": means["total"],
        **terms,
        "seen": result and result.best_seen,
        "unseen": result and result.best_unseen,
        "hm": result and result.best_hm,
        "zsl": result and result.best_zsl,
        "beta": result and result.best_beta,
        "learning_rate": rate,
        "seconds": seconds,
    }


def combined_beta(results: dict[str, CalibratedStacking], modes: tuple[str, ...]) -> float:
    """The one constant for stage 2: the mean of the modes' best betas, as published (specs/avca.md §4.4)."""
    betas: list[Any] = [np.float32(results[mode].best_beta) for mode in modes]
    return float(np.mean(betas, dtype=np.float64))
