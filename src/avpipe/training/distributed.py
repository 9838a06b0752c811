"""Several processes that share every batch: the loss sees the whole batch, the gradient is that of one process.

Each process embeds its part of a batch. The embeddings of all are gathered, and every process computes the loss over
the whole batch, in which only its own part carries gradients. Those of the parameters, summed over the processes, are
then the gradient of the whole batch: each part contributes once. Adding them up instead of averaging is what makes
this exact.

BatchNorm with the batch's statistics sees a process's own part, and the statistics that are stored are those of
process 0, as in the published DataParallel (docs/methods.md, Training of the retrieval models).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from avpipe.errors import AvpipeError

_CPU = torch.device("cpu")
# The longest that one process may wait for another inside a step; reading a huge corpus for the first time takes long.
_TIMEOUT = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share a batch, as one of them sees it.

    Attributes:
        rank: this process, from 0; process 0 writes the files.
        size: how many there are; alone, nothing is communicated.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and says how far training is."""
        return self.rank == 0

    def share(self, items: Sequence[int]) -> Sequence[int]:
        """This process's part of a batch, in order."""
        part = len(items) // self.size
        return items[self.rank * part : (self.rank + 1) * part]

    def gather(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        """The whole batch's embeddings, [B / size, D] to [B, D] each; only this process's part carries gradients."""
        if self.size == 1:
            return embeddings
        return {name: self._gathered(own) for name, own in embeddings.items()}

    def _gathered(self, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.detach().contiguous())
        parts[self.rank] = own
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the parameters' gradients over the processes, in place."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            assert work is not None  # to mypy: None is for processes outside the group
            work.wait()

    def any(self, flag: bool) -> bool:
        """Whether any process says yes; all get the same answer."""
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer.item())

    def barrier(self) -> None:
        """Go on when every process has come this far."""
        if self.size > 1:
            dist.barrier()


def check_batch(batch_size: int, processes: int) -> None:
    """Check that a batch can be shared; callable while planning.

    Raises:
        AvpipeError: the batch does not divide by the number of processes.
    """
    if batch_size % processes:
        smaller = max(batch_size - batch_size % processes, processes)
        raise AvpipeError(
            f"A batch of {batch_size} cannot be shared by {processes} GPUs; set batch_size to a multiple of "
            f"{processes}, such as {smaller}, or other gpus."
        )


@contextmanager
def join_group(rank: int, size: int, rendezvous: Path, device: torch.device) -> Iterator[ProcessGroup]:
    """Be process `rank` of `size` until the block ends.

    Args:
        rank: from 0.
        size: how many processes enter, each once.
        rendezvous: a file that does not exist yet, in a folder that all can write: there they find each other.
        device: a CPU (gloo) or this process's own GPU (NCCL).
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=size,
        timeout=_TIMEOUT,
        device_id=device if on_gpu else None,
    )
    try:
        yield ProcessGroup(rank, size, device)
    finally:
        dist.destroy_process_group()
