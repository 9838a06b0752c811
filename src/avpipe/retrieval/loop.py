"""The training loop of the retrieval models: fine-tuning, from scratch and pre-training alike, with exact resume."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from avpipe.errors import AvpipeError
from avpipe.retrieval.data import Batch, Source
from avpipe.retrieval.models.base import Embeddings, RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.resume_checks import resume_fault
from avpipe.training import checkpoint, runtime
from avpipe.training.distributed import Team, check_batch
from avpipe.training.precision import arithmetic, loss_scaler, mixed

log = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 20.0
_ORDER = 0x0DE5  # keeps the stream that orders the items apart from a source's own draws

Row = dict[str, Any]
"""An epoch: its number from 0, mean loss, learning rate and seconds."""


@dataclass(frozen=True)
class Settings:
    """How a model is trained (config.retrieval.Run, decided).

    Attributes:
        epochs: passes over the items.
        batch_size: items in a batch of all processes together.
        learning_rate: of Adam.
        learning_rate_decay: factor on it after each epoch.
        margin: of the loss.
        objective: "retrieval" or "pairwise".
        window: spectrogram frames that are read of a clip.
        statistics: BatchNorm's: "frozen" (the stored ones; the model in eval mode) or "batch".
        pooling: mean of the audio over time with the batch's statistics: over the "clip"'s own frames, or "padded":
            over the whole window. Frozen statistics: the clip's own.
        precision: "float32", "tf32", "bfloat16" or "float16".
        gradient_checkpointing: compute the audio network's layers a second time instead of keeping them.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_decay: float
    margin: float
    objective: Literal["retrieval", "pairwise"]
    window: int
    statistics: Literal["frozen", "batch"]
    pooling: Literal["clip", "padded"]
    precision: Literal["float32", "tf32", "bfloat16", "float16"]
    gradient_checkpointing: bool


@dataclass(frozen=True)
class Task:
    """Everything that decides the result of one training run.

    Attributes:
        model: what training starts from; it is trained in place.
        source: what is trained on.
        settings: how.
        seed: of the items' order and the source's draws.
        device: where everything happens.
        fingerprint: of all the above.
        resume_path: where an interrupted run leaves its state.
        save_every_seconds: how often that state is saved while running.
    """

    model: RetrievalModel
    source: Source
    settings: Settings
    seed: int
    device: torch.device
    fingerprint: checkpoint.Fingerprint
    resume_path: Path
    save_every_seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the trained model, one row per epoch, and the steps of an epoch."""

    model: RetrievalModel
    history: list[Row]
    steps_per_epoch: int


def steps_per_epoch(n_items: int, batch_size: int) -> int:
    """Whole batches in an epoch; the items that are left over are dropped, others in each epoch.

    Raises:
        AvpipeError: not a single one.
    """
    steps = n_items // batch_size
    if steps == 0:
        raise AvpipeError(
            f"There are {n_items} items to train on and a batch takes {batch_size}: not one step could be made. Set "
            f"batch_size to at most {n_items}, or train on more."
        )
    return steps


def order(n_items: int, *, seed: int, epoch: int) -> list[int]:
    """The items in the order of an epoch: a pure function of its arguments."""
    shuffled: list[int] = np.random.default_rng([seed, epoch, _ORDER]).permutation(n_items).tolist()
    return shuffled


def fit(task: Task, team: Team | None = None) -> Outcome:
    """Run all epochs, from the resume file if there is a fitting one.

    Args:
        task: what to train; the same in every process of the team.
        team: the processes that share each batch; None: this one alone.

    Raises:
        AvpipeError: fewer items than a batch takes, a batch that cannot be shared, a loss that is not finite.
        SystemExit: with code 143 after SIGTERM or Ctrl-C, once the state is saved.
    """
    team = team or Team()
    check_batch(task.settings.batch_size, team.size)
    runtime.keep_freed_memory()
    with runtime.Interrupt() as interrupt, arithmetic(task.settings.precision), _Run(task, team) as run:
        while not run.is_done:
            run.advance()
            if team.any(interrupt.requested, task.device):
                run.save()
                team.wait()
                log.warning("Stopped by a signal; run again to go on from where it was.")
                raise SystemExit(runtime.TERMINATED)
        return Outcome(run.model, run.history, run.steps)


class _Run:
    """State of a run between two steps; `save` and `_resume` are each other's inverse."""

    def __init__(self, task: Task, team: Team) -> None:
        settings = task.settings
        self.task, self.team = task, team
        self.steps = steps_per_epoch(task.source.n_items, settings.batch_size)
        self.model = task.model.to(task.device).train(settings.statistics == "batch")
        self.model.DAVEnet.gradient_checkpointing = settings.gradient_checkpointing
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate, fused=True)
        self.scaler = loss_scaler(settings.precision, task.device)
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.loss_sum = 0.0
        self.history: list[Row] = []
        self.items: list[int] = []
        self.saved_at = self.logged_at = time.monotonic()
        self._resume()
        self.clock = time.monotonic() - self.seconds
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="next batch")
        self.coming: Future[Batch] | None = None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.shutdown(wait=True, cancel_futures=True)

    @property
    def is_done(self) -> bool:
        """Whether all epochs have run."""
        return self.epoch >= self.task.settings.epochs

    def advance(self) -> None:
        """One step, and what begins and ends an epoch where it is the first or last."""
        if not self.items:
            self._start_epoch()
        batch = (self.coming or self._read(self.step)).result()
        self.coming = self._read(self.step + 1) if self.step + 1 < self.steps else None
        self.loss_sum += self._train_on(batch)
        self.step += 1
        if self.step == self.steps:
            self._finish_epoch()
        if not self.is_done and time.monotonic() - self.saved_at >= self.task.save_every_seconds:
            self.save()
        self._report_progress()

    def _start_epoch(self) -> None:
        """Order the items; when resuming inside an epoch, the same again."""
        settings = self.task.settings
        self.items = order(self.task.source.n_items, seed=self.task.seed, epoch=self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.learning_rate_decay**self.epoch

    def _read(self, step: int) -> Future[Batch]:
        """Begin to read this process's part of a step's batch: while the one before is trained on."""
        size = self.task.settings.batch_size
        items = self.team.share(self.items[step * size : (step + 1) * size])
        return self.reader.submit(self.task.source.batch, seed=self.task.seed, epoch=self.epoch, items=items)

    def _train_on(self, batch: Batch) -> float:
        """One step of Adam; returns the loss of the whole batch."""
        settings = self.task.settings
        with mixed(settings.precision, self.task.device):
            own = embed_batch(self.model, batch, settings)
        own = {name: each.float() if each.dtype.itemsize < 4 else each for name, each in own.items()}
        loss = self.model.loss(self.team.gather(own), margin=settings.margin, objective=settings.objective)
        value = loss.item()
        if not math.isfinite(value):
            raise AvpipeError(
                f"The loss is {value} in epoch {self.epoch + 1}, step {self.step + 1} of {self.steps} (seed "
                f"{self.task.seed}, learning rate {self._learning_rate:g}, {settings.precision}). Lower the learning "
                "rate, or train in bfloat16 or float32 where it is float16."
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.team.sum_gradients(self.model.parameters())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value

    @property
    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _finish_epoch(self) -> None:
        """Add a row to the history and log it."""
        seconds = time.monotonic() - self.clock
        row = {
            "epoch": self.epoch,
            "loss": self.loss_sum / self.steps,
            "learning_rate": self._learning_rate,
            "seconds": seconds,
        }
        self.history.append(row)
        self._log_epoch(row)
        self.epoch, self.step, self.loss_sum, self.items = self.epoch + 1, 0, 0.0, []
        self.clock = time.monotonic()

    def _log_epoch(self, row: Row) -> None:
        """A line for the last epoch, and for others every 20 seconds; epochs.csv has them all."""
        now, is_last = time.monotonic(), self.epoch + 1 == self.task.settings.epochs
        if self.team.leads and (is_last or now - self.logged_at >= _LOG_EVERY_SECONDS):
            self.logged_at = now
            log.info(
                "seed %d, epoch %d/%d: loss %.4f, lr %g, %.1f s", self.task.seed, self.epoch + 1,
                self.task.settings.epochs, row["loss"], row["learning_rate"], row["seconds"],
            )  # fmt: skip

    def _report_progress(self) -> None:
        """A line every 20 seconds inside an epoch."""
        now = time.monotonic()
        if self.team.leads and self.step and now - self.logged_at >= _LOG_EVERY_SECONDS:
            self.logged_at = now
            log.info(
                "seed %d, epoch %d/%d: step %d/%d, loss %.4f, %.0f s", self.task.seed, self.epoch + 1,
                self.task.settings.epochs, self.step, self.steps, self.loss_sum / self.step, now - self.clock,
            )  # fmt: skip

    def save(self) -> None:
        """Write the resume file; in a team its first process does."""
        self.saved_at = time.monotonic()
        if not self.team.leads:
            return
        checkpoint.save(
            self.task.resume_path,
            {
                "fingerprint": self.task.fingerprint,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "loss_sum": self.loss_sum,
                "seconds": time.monotonic() - self.clock,
                "history": self.history,
            },
        )

    def _resume(self) -> None:
        """Take up the state of the resume file, if it belongs to this task and is whole."""
        state = checkpoint.load_resume(self.task.resume_path, self.task.fingerprint)
        if state is None:
            return
        fault = resume_fault(
            state, model=self.model, optimizer=self.optimizer, scaler=self.scaler, epochs=self.task.settings.epochs,
            steps=self.steps,
        )  # fmt: skip
        if fault is not None:
            log.warning("Starting over: %s cannot be gone on from: %s.", self.task.resume_path, fault)
            return
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.loss_sum, self.seconds, self.history = state["loss_sum"], state["seconds"], state["history"]
        if self.team.leads:
            log.info(
                "Resuming seed %d in epoch %d/%d after %d steps.", self.task.seed, self.epoch + 1,
                self.task.settings.epochs, self.step,
            )  # fmt: skip


def embed_batch(model: RetrievalModel, batch: Batch, settings: Settings) -> Embeddings:
    """A batch's embeddings, [B, D] each, with gradients: the way the audio goes depends on the BatchNorm statistics."""
    like = next(model.parameters())
    audio = _on_device(batch.audio, like.device)
    video = batch.video.to(like.device, like.dtype)
    text = None if batch.text is None else batch.text.to(like.device, like.dtype)
    if settings.statistics == "frozen":
        pooled = pool_ragged(model.DAVEnet, audio, window=settings.window, n_frames=batch.n_frames)
        return model.embed_pooled(pooled, video, text)
    # A multiple of 16, so that 16 frames are one of the network's in a short batch too.
    longest = -(-max(len(each) for each in audio) // 16) * 16
    length = settings.window if settings.pooling == "padded" else min(longest, settings.window)
    return model.embed(
        _padded(audio, length).to(like.dtype),
        video,
        text,
        n_frames=batch.n_frames,
        own_frames=settings.pooling == "clip",
    )


def _on_device(audio: list[Tensor], device: torch.device) -> list[Tensor]:
    """The spectrograms on the model's device, moved there in one piece."""
    if all(each.device == device for each in audio):
        return audio
    return list(torch.cat(audio).to(device).split([len(each) for each in audio]))


def _padded(audio: list[Tensor], length: int) -> Tensor:
    """Spectrograms [n_i, 40] as [B, 40, length], cut or with 0 (the loudest, as published) after their ends."""
    stacked = pad_sequence([each[:length] for each in audio], batch_first=True)
    return F.pad(stacked, (0, 0, 0, length - stacked.shape[1])).transpose(1, 2)
