"""The HDF5 file of a class in a published feature tree: clip ids and a row of features for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.io.hdf5 import open_hdf5, read_texts
from avpipe.io.reading import reading

_EXPECTED = "HDF5 with datasets data (numbers [n, d]) and video_urls ([n], text in UTF-8)"
_ADVICE = "Build or fetch the tree again."


def write_class_file(path: Path, clip_ids: Sequence[str], values: npt.NDArray[np.float32]) -> None:
    """Write `data` float32 [n, d] and `video_urls` [n], variable-length UTF-8; equal input, equal bytes."""
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        file.create_dataset("data", data=np.ascontiguousarray(values, np.float32), track_times=False)
        urls = np.array(list(clip_ids), object)
        file.create_dataset("video_urls", data=urls, dtype=h5py.string_dtype("utf-8"), track_times=False)


def list_class_file(path: Path) -> tuple[tuple[str, ...], int]:
    """The clip ids (stored as S80 or variable-length strings) of a class file and the width of its rows, unread.

    Raises:
        AvpipeError: not such a file, or the two datasets disagree in length.
    """
    with reading(path, _EXPECTED, _ADVICE), open_hdf5(path) as file:
        values, clip_ids = file["data"], read_texts(file["video_urls"])
        if values.ndim != 2 or len(clip_ids) != len(values) or values.dtype.kind not in "fiu":
            raise ValueError(f"it has data {values.dtype} {values.shape} and {len(clip_ids)} video_urls")
        return tuple(clip_ids), values.shape[1]


def read_class_values(path: Path, out: npt.NDArray[np.float32]) -> None:
    """Read the rows of a class file into `out` [n, d], whatever numbers they are stored as.

    Raises:
        AvpipeError: the file cannot be read, or a feature is not finite.
    """
    with reading(path, _EXPECTED, _ADVICE), open_hdf5(path) as file:
        if len(out):
            file["data"].read_direct(out)
    finite = np.isfinite(out).all(axis=1)
    if not finite.all():
        raise AvpipeError(
            f"{path} has features that are not finite in {int((~finite).sum())} rows, the first of them row "
            f"{int(np.argmin(finite))}; extract them again, and check the weights, or fetch the file again."
        )
