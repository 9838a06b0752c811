"""Training of the retrieval models: fine-tuning, from scratch and pre-training alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from avpipe.errors import AvpipeError
from avpipe.retrieval.batches import Batch, Source
from avpipe.retrieval.models.base import Embeddings, RetrievalModel
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.settings import Run
from avpipe.training.distributed import ProcessGroup, check_batch
from avpipe.training.loop import LoopSettings, Row, Trainer
from avpipe.training.precision import arithmetic, float32_products, loss_scaler

_ORDER = 0x0DE5  # keeps the stream that orders the items apart from a source's own draws


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


class RetrievalTrainer(Trainer):
    """Trains a retrieval model, in one process or in several that share each batch.

    Args:
        model: what training starts from; it is trained in place.
        source: what is trained on.
        run: how, its quirks decided; losses are computed in float32, whatever its precision.
        loop: see `Trainer`.
        processes: those that share each batch; their device is where everything happens.

    Raises:
        AvpipeError: a batch that cannot be shared.
    """

    def __init__(
        self, model: RetrievalModel, source: Source, run: Run, loop: LoopSettings, processes: ProcessGroup
    ) -> None:
        super().__init__(loop)
        check_batch(run.batch_size, processes.size)
        self.source, self.run, self.processes = source, run, processes
        self.model = model.to(processes.device).train(not run.trains_frozen)
        self.model.DAVEnet.gradient_checkpointing = run.gradient_checkpointing
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=run.learning_rate, fused=True)
        self.scaler = loss_scaler(run.precision, processes.device)
        self.loss_sum = 0.0
        self.batches: Iterator[Batch] = iter(())

    def start_epoch(self, epoch: int, first_step: int) -> None:
        """Order the items and begin to read them; when resuming inside an epoch, in the same order."""
        items = order(self.source.n_items, seed=self.loop.seed, epoch=epoch)
        size, steps = self.run.batch_size, range(first_step, self.loop.steps_per_epoch)
        shares = [self.processes.share(items[step * size : (step + 1) * size]) for step in steps]
        self.batches = read_ahead(partial(self.source.batch, seed=self.loop.seed, epoch=epoch), shares)
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.learning_rate * self.run.learning_rate_decay**epoch

    def train_step(self, epoch: int, step: int) -> None:
        """One step of Adam."""
        run, batch = self.run, next(self.batches)
        with float32_products(run.precision):  # of the gradients too
            with arithmetic(self.processes.device, run.precision):
                own = embed_batch(self.model, batch, run, self.source.window)
            own = {name: each.float() if each.dtype.itemsize < 4 else each for name, each in own.items()}
            loss = self.model.loss(self.processes.gather(own), margin=run.margin, objective=run.objective)
            value = loss.item()
            if not math.isfinite(value):
                raise AvpipeError(
                    f"The loss is {value} in epoch {epoch + 1}, step {step + 1} of {self.loop.steps_per_epoch} (seed "
                    f"{self.loop.seed}, learning rate {self._learning_rate:g}, {run.precision}). Lower the "
                    "learning rate, or train in bfloat16 or float32 where it is float16."
                )
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.processes.sum_gradients(self.model.parameters())
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.loss_sum += value

    def end_epoch(self, epoch: int) -> Row:
        """Mean loss and learning rate."""
        row = {"loss": self.loss_sum / self.loop.steps_per_epoch, "learning_rate": self._learning_rate}
        self.loss_sum = 0.0
        return row

    def describe_progress(self, step: int) -> str:
        """The mean loss of the epoch's steps so far."""
        return f", loss {self.loss_sum / step:.4f}"

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes next; items and draws are functions of seed, epoch and step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self.model.load_state_dict(state["model"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.loss_sum = state["loss_sum"]

    @property
    def _learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def read_ahead(read: Callable[..., Batch], shares: Iterable[Sequence[int]]) -> Iterator[Batch]:
    """Batches of items, each read in a thread while the one before is trained on.

    Args:
        read: called with `items`.
        shares: the items of each batch.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="next batch") as reader:
        coming: Future[Batch] | None = None
        for items in shares:
            batch, coming = coming, reader.submit(read, items=items)
            if batch is not None:
                yield batch.result()
        if coming is not None:
            yield coming.result()


def embed_batch(model: RetrievalModel, batch: Batch, run: Run, window: int) -> Embeddings:
    """A batch's embeddings, [B, D] each, with gradients: the way the audio goes depends on the BatchNorm statistics."""
    like = next(model.parameters())
    audio = _on_device(batch.audio, like.device)
    video = batch.video.to(like.device, like.dtype)
    text = None if batch.text is None else batch.text.to(like.device, like.dtype)
    if run.trains_frozen:
        pooled = pool_ragged(model.DAVEnet, audio, window=window, n_frames=batch.n_frames)
        return model.embed_pooled(pooled, video, text)
    # A multiple of 16, so that 16 frames are one of the network's in a short batch too.
    longest = -(-max(len(each) for each in audio) // 16) * 16
    length = window if run.train_pooling == "padded" else min(longest, window)
    return model.embed(
        _padded(audio, length).to(like.dtype),
        video,
        text,
        n_frames=batch.n_frames,
        own_frames=run.train_pooling == "clip",
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
