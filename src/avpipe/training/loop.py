"""The training loop of every task: epochs of steps, stopped by a signal between any two, and resumed exactly.

A task brings a `Trainer`: what a step and the start and end of an epoch do, and the state that a resume file holds.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from avpipe.training import checkpoint
from avpipe.training.distributed import ProcessGroup
from avpipe.training.runtime import TERMINATED, Interrupt, keep_freed_memory

log = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 20.0
_ONE_PROCESS = ProcessGroup()

Row = dict[str, Any]
"""A line of epochs.csv: the epoch from 0, what the task says of it (loss, learning_rate, …), and its seconds."""


@dataclass(frozen=True)
class LoopSettings:
    """How long a training runs, and where it leaves its state when it is stopped.

    Attributes:
        seed: of everything that is drawn; the loop only names it.
        epochs: how many to run.
        steps_per_epoch: batches in an epoch.
        fingerprint: of everything that decides the result: a resume file with another one is not taken up.
        resume_path: the resume file.
        save_every_seconds: how often it is written while training runs.
    """

    seed: int
    epochs: int
    steps_per_epoch: int
    fingerprint: checkpoint.Fingerprint
    resume_path: Path
    save_every_seconds: float


class Trainer(ABC):
    """One training of one model with one seed, as a task brings it to the loop.

    Attributes:
        loop: how long it runs.
        history: a row for each epoch that is done.
    """

    def __init__(self, loop: LoopSettings) -> None:
        self.loop = loop
        self.history: list[Row] = []

    @abstractmethod
    def start_epoch(self, epoch: int, first_step: int) -> None:
        """Whatever comes before an epoch's steps; an epoch that is resumed starts again, with a later first step."""

    @abstractmethod
    def train_step(self, epoch: int, step: int) -> None:
        """One step of the optimiser."""

    @abstractmethod
    def end_epoch(self, epoch: int) -> Row:
        """Whatever comes after an epoch's steps; gives the columns between epoch and seconds, loss among them."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from, between any two steps: tensors, plain values and containers of these."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave; the trainer has not made a step yet."""

    def describe_progress(self, step: int) -> str:
        """More for the line inside an epoch, of which `step` steps are done."""
        return ""

    def describe_epoch(self, row: Row) -> str:
        """More for the line about an epoch."""
        return ""


def train_stepwise(trainer: Trainer, interrupt: Interrupt, processes: ProcessGroup = _ONE_PROCESS) -> Iterator[None]:
    """Run all epochs, from the resume file if there is a fitting one; yields after every step.

    Args:
        trainer: what is trained; its history has all rows afterwards.
        interrupt: entered by the caller, who also writes the results inside of it.
        processes: those that share each batch.

    Raises:
        SystemExit: with code 143 after SIGTERM or Ctrl-C, once the state is saved.
    """
    keep_freed_memory()
    loop = trainer.loop
    first_epoch, first_step, seconds = _resume(trainer, processes)
    saved_at = logged_at = time.monotonic()
    for epoch in range(first_epoch, loop.epochs):
        began = time.monotonic() - seconds  # what a resumed epoch took before counts as well
        trainer.start_epoch(epoch, first_step)
        for step in range(first_step, loop.steps_per_epoch):
            trainer.train_step(epoch, step)

            now = time.monotonic()
            if processes.is_first and now - logged_at >= _LOG_EVERY_SECONDS:
                logged_at = now
                log.info("%s", _progress_line(trainer, epoch, step + 1, now - began))
            is_stopped = processes.any(interrupt.requested)
            if is_stopped or now - saved_at >= loop.save_every_seconds:
                if processes.is_first:
                    _save(trainer, epoch, step + 1, now - began)
                saved_at = time.monotonic()
            if is_stopped:
                processes.barrier()  # the first process could not save any more if the others were gone
                log.warning("Stopped by a signal; run again to go on from where it was.")
                raise SystemExit(TERMINATED)
            yield

        row = {"epoch": epoch, **trainer.end_epoch(epoch), "seconds": time.monotonic() - began}
        trainer.history.append(row)
        first_step, seconds = 0, 0.0
        # Short epochs would fill the log; epochs.csv has them all.
        if processes.is_first and (epoch + 1 == loop.epochs or time.monotonic() - logged_at >= _LOG_EVERY_SECONDS):
            logged_at = time.monotonic()
            log.info("%s", _epoch_line(trainer, row))


def train(trainer: Trainer, interrupt: Interrupt, processes: ProcessGroup = _ONE_PROCESS) -> None:
    """Run all epochs; see `train_stepwise`."""
    for _ in train_stepwise(trainer, interrupt, processes):
        pass


AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


def train_in_sequence(trainers: Iterable[AnyTrainer], interrupt: Interrupt) -> Iterator[AnyTrainer]:
    """Train one after the other; gives each when it is done, and only then makes the next."""
    for trainer in trainers:
        train(trainer, interrupt)
        yield trainer


def _save(trainer: Trainer, epoch: int, step: int, seconds: float) -> None:
    """Write the resume file after some steps of an epoch."""
    position = {"epoch": epoch, "step": step, "seconds": seconds, "history": trainer.history}
    checkpoint.save_resume(trainer.loop.resume_path, trainer.state_dict() | position, trainer.loop.fingerprint)


def _resume(trainer: Trainer, processes: ProcessGroup) -> tuple[int, int, float]:
    """Take up the resume file; gives the epoch and step to go on with, and the seconds that the epoch took before."""
    loop = trainer.loop
    state = checkpoint.load_resume(loop.resume_path, loop.fingerprint)
    if state is None:
        return 0, 0, 0.0
    trainer.load_state_dict(state)
    trainer.history = state["history"]
    epoch, step = state["epoch"], state["step"]
    if processes.is_first:
        log.info("Resuming seed %d in epoch %d/%d after %d steps.", loop.seed, epoch + 1, loop.epochs, step)
    return epoch, step, state["seconds"]


def _progress_line(trainer: Trainer, epoch: int, step: int, seconds: float) -> str:
    loop = trainer.loop
    return (
        f"seed {loop.seed}, epoch {epoch + 1}/{loop.epochs}: step {step}/{loop.steps_per_epoch}"
        f"{trainer.describe_progress(step)}, {seconds:.0f} s"
    )


def _epoch_line(trainer: Trainer, row: Row) -> str:
    return (
        f"seed {trainer.loop.seed}, epoch {row['epoch'] + 1}/{trainer.loop.epochs}: loss {row['loss']:.4f}"
        f"{trainer.describe_epoch(row)}, lr {row['learning_rate']:g}, {row['seconds']:.1f} s"
    )
