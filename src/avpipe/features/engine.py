"""The engine: clips in, features out. Decoding of the next clips overlaps the network; clips share batches.

Every batch has the same shape (a short one is padded), because a row of a fixed-shape batch does not depend on
the other rows. A clip's features are therefore the same bits whatever clips surround it, after a resume too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from avpipe.features.decoding import ClipRows
from avpipe.features.streaming import Outcome, stream_clips
from avpipe.features.types import Extractor, Rows, Window
from avpipe.media.clip import Clip
from avpipe.training.precision import arithmetic

# Frames of other sizes wait for batches of their own; a dataset of many sizes must not hold a batch of each.
MOST_SHAPES = 16


Key = tuple[str, tuple[int, ...]]
"""Stream and shape of windows that can share a batch."""


@dataclass
class _Batch:
    """Windows of one stream and shape.

    Attributes:
        key: their stream and shape.
        tensors: the network's input, pinned memory for a GPU.
        owners: clip, number of the piece, and window of each.
        rows: the network's output once it was started; on a GPU it arrives when `arrival` says so.
        arrival: event of the GPU.
    """

    key: Key
    tensors: torch.Tensor
    owners: list[tuple[ClipRows, int, Window]] = field(default_factory=list)
    rows: torch.Tensor | None = None
    arrival: torch.cuda.Event | None = None


_MEMORY_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def prepare_network(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Make a network ready for inference: it cannot be trained, nor take published weights, any more.

    Evaluation mode, no gradients, batch norms folded into convolutions, on the device, in the memory format that its
    convolutions run fastest in.
    """
    network = network.eval().requires_grad_(False)
    if getattr(network, "folds_batch_norms", False):
        _fold_batch_norms(network)
    network = network.to(device)
    for module in network.modules():
        if isinstance(module, _ConvNd) and module.weight.dim() in _MEMORY_FORMATS:
            module.to(memory_format=_MEMORY_FORMATS[module.weight.dim()])  # type: ignore[call-overload]
    return network


def _fold_batch_norms(network: torch.nn.Module) -> None:
    """Fold each batch norm into the convolution before it; features move by 4e-7 at most.

    On a CPU SeLaVi's video network takes a fifth less time, the ResNets up to a tenth (docs/benchmarks.md). Done for
    networks that say `folds_batch_norms`: in them conv1 is followed by bn1 and by nothing else, and so on, and in
    a Sequential the order says what follows. (Tracing would find out by itself; it disturbs other threads.)
    """
    for module in network.modules():
        for place, norm in list(module.named_children()):
            if isinstance(norm, _BatchNorm):
                holder, name = _place_before(module, place)
                convolution = getattr(holder, name, None)
                if isinstance(convolution, _ConvNd):
                    setattr(holder, name, fuse_conv_bn_eval(convolution, norm))
                    setattr(module, place, torch.nn.Identity())


def _place_before(module: torch.nn.Module, place: str) -> tuple[torch.nn.Module, str]:
    """Parent and name of the module whose result goes into the batch norm at `place`."""
    if not isinstance(module, torch.nn.Sequential):
        return module, place.replace("bn", "conv")  # as the networks with `folds_batch_norms` name them
    # In a Sequential it is the one before, or the last one in that, where it is a Sequential itself (SeLaVi's (2+1)D).
    holder, name = module, str(int(place) - 1)
    while isinstance(inner := getattr(holder, name, None), torch.nn.Sequential):
        holder, name = inner, str(len(inner) - 1)
    return holder, name


def extract_clips(
    extractor: Extractor,
    network: torch.nn.Module,
    clips: Iterable[Clip],
    *,
    device: str = "cpu",
    **options: Any,
) -> Generator[tuple[Clip, Outcome]]:
    """Stream clips through an extractor.

    Args:
        extractor: cuts clips into windows and finishes the network's rows.
        network: as `prepare_network` returned it.
        clips: consumed as needed, never all at once.
        device: where the network lies.
        **options: the other arguments of `avpipe.features.streaming.stream_clips`, which says what is given and raised.
    """
    return stream_clips(extractor, lambda: Batches(extractor, network, device), clips, **options)


class Batches:
    """Gathers windows into fixed-shape batches and hands the network's rows back to their clips.

    A GPU works on one batch while the next is gathered: a batch is collected when the one after it was started.

    Args:
        extractor: cuts clips into windows.
        network: as `prepare_network` returned it.
        device: where the network lies.
        ahead: batches that may be under way while another is gathered; None: one on a GPU, and none on a CPU, where a
            forward pass returns when it is done.
    """

    def __init__(self, extractor: Extractor, network: torch.nn.Module, device: str, ahead: int | None = None) -> None:
        self._extractor = extractor
        self._network = network
        self._size = extractor.batch_size
        self._device = torch.device(device)
        self._ahead = int(device.startswith("cuda")) if ahead is None else ahead
        self._waiting: dict[Key, _Batch] = {}
        self._running: deque[_Batch] = deque()
        self._spare: dict[Key, list[torch.Tensor]] = {}

    def add(self, found: ClipRows, window: Window) -> list[ClipRows]:
        """Add a window; returns the clips to which a batch brought rows."""
        key = (window.stream, tuple(window.tensor.shape))
        # Taken out here and put back below: the first batch of the dict is always the one that has waited longest for a
        # window.
        batch = self._waiting.pop(key, None) or _Batch(key, self._allocate(key, window.tensor))
        batch.tensors[len(batch.owners)] = window.tensor
        batch.owners.append((found, found.number(), window))
        if len(batch.owners) == self._size:
            return self._run(batch)
        self._waiting[key] = batch
        # Where there are too many shapes that one runs as it is, short.
        return self._run(self._waiting.pop(next(iter(self._waiting)))) if len(self._waiting) > MOST_SHAPES else []

    def flush(self) -> list[ClipRows]:
        """Run what waits in short batches, and collect all."""
        done = [each for key in list(self._waiting) for each in self._run(self._waiting.pop(key))]
        while self._running:
            done += self._collect(self._running.popleft())
        return done

    def _allocate(self, key: Key, item: torch.Tensor) -> torch.Tensor:
        # Buffers are used again, so that memory, which is pinned for a GPU, is not allocated for every batch.
        spare = self._spare.get(key)
        if spare:
            return spare.pop()
        shape = (self._size, *item.shape)
        memory_format = _MEMORY_FORMATS.get(len(shape), torch.contiguous_format)
        tensors = torch.zeros(shape, dtype=item.dtype).contiguous(memory_format=memory_format)
        return tensors.pin_memory() if self._device.type == "cuda" else tensors

    def _run(self, batch: _Batch) -> list[ClipRows]:
        batch.tensors[len(batch.owners) :] = 0  # the padding of a short batch, where old windows may be
        with torch.inference_mode(), arithmetic(self._device, self._extractor.precision):
            tensors = batch.tensors.to(self._device, non_blocking=True)
            rows = self._extractor.forward(self._network, batch.key[0], tensors).float()  # autocast gives fewer bits
            if self._device.type == "cuda":
                # Nothing here waits for the GPU: the copy goes into pinned memory, and `_collect` waits for the event.
                batch.rows = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
                batch.rows.copy_(rows, non_blocking=True)
                batch.arrival = torch.cuda.Event()
                batch.arrival.record()
            else:
                batch.rows = rows
        self._running.append(batch)
        return self._collect(self._running.popleft()) if len(self._running) > self._ahead else []

    def _collect(self, batch: _Batch) -> list[ClipRows]:
        assert batch.rows is not None
        if batch.arrival is not None:
            batch.arrival.synchronize()
        rows = batch.rows.numpy()
        done: dict[int, ClipRows] = {}
        for (found, number, window), row in zip(batch.owners, rows, strict=False):  # a short batch has rows of padding
            found.pending -= 1
            times = np.array([[window.start_seconds, window.end_seconds]])
            # A copy, since a view of one row would keep the rows of the whole batch in memory.
            found.add(number, Rows(window.stream, row[None].copy(), times))
            done[id(found)] = found
        # Only now is the GPU done with the buffer, so that it may be filled again. Shapes come and go: where there are
        # too many, the buffers of the shape that was kept first are dropped.
        self._spare.setdefault(batch.key, []).append(batch.tensors)
        if len(self._spare) > MOST_SHAPES:
            del self._spare[next(iter(self._spare))]
        return list(done.values())
