"""The data of one benchmark (a split of a dataset with one feature set), as training and evaluation see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SUBSETS = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_train",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)
"""The published names of the six subsets, in the published order (docs/methods.md, Feature files)."""


@dataclass(frozen=True)
class Subset:
    """The clips of one subset that have features, sorted by class and clip id.

    Attributes:
        audio: float32 [n, d_a], one row per clip.
        video: float32 [n, d_v].
        class_ids: int64 [n], positions in `Benchmark.class_names`.
        clip_ids: n names without extension.
    """

    audio: npt.NDArray[np.float32]
    video: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    clip_ids: tuple[str, ...]


@dataclass(frozen=True)
class Benchmark:
    """Features, class vectors and class sets of one benchmark.

    Attributes:
        class_names: every class of the source dataset in code-point order; a class id is a position in it.
        words: float32 [len(class_names), d_w], row i is the vector used for class i (which alignment was chosen
            is decided before, in `avpipe.gzsl.words`); rows of classes without a vector are NaN.
        classes: subset name -> sorted int64 class ids listed for that subset.
        subsets: subset name -> its clips; only classes listed for the subset occur.
    """

    class_names: tuple[str, ...]
    words: npt.NDArray[np.float32]
    classes: dict[str, npt.NDArray[np.int64]]
    subsets: dict[str, Subset]


def join(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays one below the other: a view where they lie so in memory already, as the subsets of a tree do."""
    first, base = arrays[0], arrays[0].base
    if base is not None and all(a.base is base and a.flags.c_contiguous and a.dtype == base.dtype for a in arrays):
        ends = [a.ctypes.data + a.nbytes for a in arrays]
        widths = {a.shape[1:] for a in arrays}
        if len(widths) == 1 and all(a.ctypes.data == end for a, end in zip(arrays[1:], ends[:-1], strict=True)):
            start = (first.ctypes.data - base.ctypes.data) // max(base.strides[0], 1)
            return base[start : start + sum(len(a) for a in arrays)]
    return np.concatenate(list(arrays))
