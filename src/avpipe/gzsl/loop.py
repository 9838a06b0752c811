"""The training loop of one stage: epochs of balanced pairs, an evaluation after each, exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avpipe.config.gzsl import TrainingSettings
from avpipe.errors import AvpipeError
from avpipe.gzsl import checkpoint, runtime
from avpipe.gzsl.evaluation import CalibratedStacking, beta_grid, evaluate
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.sampler import PairSampler
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

log = logging.getLogger(__name__)

TERMINATED = 143  # 128 + SIGTERM: what a shell reports for a process that SIGTERM ended
_LOG_EVERY_SECONDS = 20.0

Row = dict[str, float | int]


@dataclass(frozen=True)
class Task:
    """Everything that decides the result of one stage.

    Attributes:
        make_model: builds the untrained model, from torch's default generator.
        train: clips that are trained on.
        validation: clips whose harmonic mean is computed after every epoch.
        settings: resolved.
        epochs: how many to run.
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
class Outcome:
    """What a stage leaves: the model after the last epoch, the best one, and one row per epoch."""

    model: Method
    best: Best
    history: list[Row]


def fit(task: Task) -> Outcome:
    """Run all epochs of `task`, from its resume file if there is a fitting one.

    Raises:
        AvpipeError: a term of the loss became NaN or infinite.
        SystemExit: with code 143 after SIGTERM or Ctrl-C, once the state is saved.
    """
    runtime.keep_freed_memory()
    with runtime.Interrupt() as interrupt:
        run = _Run(task)
        run.resume()
        while run.epoch < task.epochs:
            run.start_epoch()
            while run.batch < task.settings.batches_per_epoch:
                run.step()
                if interrupt.requested:
                    run.save()
                    log.warning("Stopped by a signal in epoch %d; run again to go on.", run.epoch + 1)
                    raise SystemExit(TERMINATED)
                run.report_progress()
            run.finish_epoch()
            if run.epoch < task.epochs and run.save_is_due():
                run.save()
    return Outcome(run.model, run.best, run.history)


class _Run:
    """State of a stage between two batches; `state` and `resume` are each other's inverse."""

    def __init__(self, task: Task) -> None:
        self.task = task
        settings = task.settings
        torch.manual_seed(task.seed)
        self.model = task.make_model().to(task.device).train()  # made on the CPU: the same weights on any device
        fused = task.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=settings.weight_decay, fused=fused,
        )  # fmt: skip
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="max", factor=0.1, patience=3, threshold=1e-4, threshold_mode="rel"
        )
        self.generator = torch.Generator(task.device).manual_seed(task.seed)
        self.sampler = PairSampler(task.train.labels)
        self.betas = beta_grid(settings.beta_max, settings.n_betas)
        horizon = self.model.statistics_horizon()
        # Earlier BatchNorm statistics are forgotten before the epoch's evaluation, the only place that reads them.
        self.first_tracked = 0 if horizon is None else max(0, settings.batches_per_epoch - horizon)

        self.epoch, self.batch, self.seconds = 0, 0, 0.0
        self.best = Best()
        self.history: list[Row] = []
        self.terms: list[str] = []
        self.sums: Tensor | None = None  # float64 sums of the terms over the epoch's batches, on the device
        self.epoch_draws = self.generator.get_state()
        self.saved_at = self.logged_at = self.clock = time.monotonic()

    def start_epoch(self) -> None:
        """Draw the epoch's pairs; when resuming inside an epoch, the same again."""
        settings = self.task.settings
        self.generator.set_state(self.epoch_draws)
        self.positive, self.negative = self.sampler.draw(
            settings.batches_per_epoch, settings.batch_size, self.generator
        )
        if self.task.learning_rates is not None:
            self.optimizer.param_groups[0]["lr"] = self.task.learning_rates[self.epoch]
        self.clock = time.monotonic() - self.seconds

    def step(self) -> None:
        """One batch: losses, gradients, Adam, and what the method does after a step."""
        track = self.batch >= self.first_tracked
        batch = self.task.train.batch(self.positive[self.batch], self.negative[self.batch])
        self.optimizer.zero_grad()
        losses = self.model.losses(batch, track_statistics=track)
        losses["total"].backward()
        self.optimizer.step()
        self.model.after_step(batch, track_statistics=track)
        self.terms = list(losses)
        values = torch.stack([value.detach() for value in losses.values()]).double()
        self.sums = values if self.sums is None else self.sums + values
        self.batch += 1

    def finish_epoch(self) -> None:
        """Evaluate, remember the best, adapt the learning rate, add a row to the history."""
        means = self._mean_terms()
        result = evaluate(self.model, self.task.validation, self.betas)[self.model.score_mode]
        learning_rate = self.optimizer.param_groups[0]["lr"]
        if result.best_hm > self.best.hm or self.best.hm == 0:  # as published: a zero never counts as reached
            state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.best = Best(self.epoch, result.best_hm, state)
        if self.task.learning_rates is None:
            self.scheduler.step(result.best_hm)
        self.history.append(_row(self.epoch, means, result, learning_rate, time.monotonic() - self.clock))
        self._log_epoch(self.history[-1])
        self.epoch, self.batch, self.seconds, self.sums = self.epoch + 1, 0, 0.0, None
        self.epoch_draws = self.generator.get_state()

    def report_progress(self) -> None:
        """A line every 20 seconds inside an epoch."""
        now = time.monotonic()
        if now - self.logged_at >= _LOG_EVERY_SECONDS:
            self.logged_at = now
            log.info(
                "epoch %d/%d: batch %d/%d, %.0f s",
                self.epoch + 1, self.task.epochs, self.batch, self.task.settings.batches_per_epoch, now - self.clock,
            )  # fmt: skip

    def save_is_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.saved_at >= self.task.save_every_seconds

    def save(self) -> None:
        """Write the resume file."""
        checkpoint.save(
            self.task.resume_path,
            {
                "fingerprint": self.task.fingerprint,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "rng": runtime.rng_states(self.task.device),
                "epoch_draws": self.epoch_draws,
                "epoch": self.epoch,
                "batch": self.batch,
                "seconds": time.monotonic() - self.clock if self.batch else 0.0,
                "sums": self.sums,
                "terms": self.terms,
                "best": vars(self.best),
                "history": self.history,
            },
        )
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Take up the state of the resume file, if it belongs to this task."""
        state = checkpoint.load_resume(self.task.resume_path, self.task.fingerprint)
        if state is None:
            return
        device = self.task.device
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        runtime.set_rng_states(state["rng"], device)
        self.epoch_draws = state["epoch_draws"]
        self.epoch, self.batch, self.seconds = state["epoch"], state["batch"], state["seconds"]
        self.sums = None if state["sums"] is None else state["sums"].to(device)
        self.terms, self.history = state["terms"], state["history"]
        self.best = Best(**state["best"])
        log.info("Resuming in epoch %d/%d after %d batches.", self.epoch + 1, self.task.epochs, self.batch)

    def _mean_terms(self) -> dict[str, float]:
        assert self.sums is not None
        means = dict(zip(self.terms, (self.sums / self.batch).tolist(), strict=True))
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise AvpipeError(
                f"The loss is not finite in epoch {self.epoch + 1}: {', '.join(broken)} (seed {self.task.seed}, "
                f"learning rate {self.optimizer.param_groups[0]['lr']:g}). Lower the learning rate or check the "
                "features."
            )
        return means

    def _log_epoch(self, row: Row) -> None:
        self.logged_at = time.monotonic()
        log.info(
            "epoch %d/%d: loss %.4f, S %.2f, U %.2f, HM %.2f, ZSL %.2f %% at beta %.1f, lr %g, %.1f s",
            self.epoch + 1, self.task.epochs, row["loss"],
            *(100 * row[name] for name in ("seen", "unseen", "hm", "zsl")),
            row["beta"], row["learning_rate"], row["seconds"],
        )  # fmt: skip


def _row(epoch: int, means: dict[str, float], result: CalibratedStacking, learning_rate: float, seconds: float) -> Row:
    terms = {f"loss_{name}": value for name, value in means.items() if name != "total"}
    return {
        "epoch": epoch,
        "loss": means["total"],
        **terms,
        "seen": result.best_seen,
        "unseen": result.best_unseen,
        "hm": result.best_hm,
        "zsl": result.best_zsl,
        "beta": result.best_beta,
        "learning_rate": learning_rate,
        "seconds": seconds,
    }


def combined_beta(results: dict[str, CalibratedStacking], modes: tuple[str, ...]) -> float:
    """The one constant for stage 2: the mean of the modes' best betas, as published (specs/avca.md §4.4)."""
    betas: list[Any] = [np.float32(results[mode].best_beta) for mode in modes]
    return float(np.mean(betas, dtype=np.float64))
