"""The files of a feature tree: where each lies, and what a class file holds (specs/avca.md §1.1, §1.2)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.gzsl.class_split import ClassNames

MODALITIES = ("audio", "video")
_LONGEST_NAME_BYTES = 255  # of Linux file systems


def safe_name(name: str, suffix: str = "") -> str:
    """`name` + `suffix` if it can be the name of one file, unchanged.

    Raises:
        AvpipeError: it is empty, `.` or `..`, has a path separator or a control character, or is too long.
    """
    bad = name in ("", ".", "..") or any(c in "/\\" or ord(c) < 32 for c in name)
    if bad or len(os.fsencode(name + suffix)) > _LONGEST_NAME_BYTES:
        raise AvpipeError(
            f"The name {name[:80]!r} cannot be the name of a file; expected no '/', '\\' or control "
            f"character and at most {_LONGEST_NAME_BYTES - len(suffix)} bytes. Rename the class, split or "
            "feature set."
        )
    return name + suffix


def write_class_file(path: Path, clip_ids: Sequence[str], values: npt.NDArray[np.float32]) -> None:
    """Write `data` float32 [n, d] and `video_urls` [n], variable-length UTF-8; equal input, equal bytes."""
    with h5py.File(path, "w", libver=("earliest", "v108"), track_order=False) as file:
        file.create_dataset("data", data=np.ascontiguousarray(values, np.float32), track_times=False)
        urls = np.array(list(clip_ids), object)
        file.create_dataset("video_urls", data=urls, dtype=h5py.string_dtype("utf-8"), track_times=False)


def read_class_file(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """The clip ids (stored as S80 or variable-length strings) and float32 [n, d] of a class file, in order.

    Raises:
        AvpipeError: not such a file, the two disagree in length, or a feature is not finite.
    """
    clip_ids, width = list_class_file(path)
    values = np.empty((len(clip_ids), width), np.float32)
    read_class_values(path, values)
    return clip_ids, values


def list_class_file(path: Path) -> tuple[tuple[str, ...], int]:
    """The clip ids of a class file and the width of its rows, without reading them.

    Raises:
        AvpipeError: not such a file, or the two datasets disagree in length.
    """
    with _opened(path) as file:
        values, urls = file["data"], file["video_urls"][()]
        if values.ndim != 2 or urls.shape != values.shape[:1] or values.dtype.kind not in "fiu":
            raise AvpipeError(
                f"{path} has data {values.dtype} {values.shape} and video_urls {urls.shape}; expected numbers "
                "[n, d] and [n]. Build or fetch the tree again."
            )
        width = values.shape[1]
    try:
        return tuple(url.decode("utf-8") if isinstance(url, bytes) else str(url) for url in urls), width
    except UnicodeDecodeError as error:
        raise AvpipeError(f"{path} has video_urls that are not UTF-8: {error}.") from error


def read_class_values(path: Path, out: npt.NDArray[np.float32]) -> None:
    """Read the rows of a class file into `out` [n, d], whatever numbers they are stored as.

    Raises:
        AvpipeError: the file cannot be read, or a feature is not finite.
    """
    with _opened(path) as file:
        if len(out):
            file["data"].read_direct(out)
    finite = np.isfinite(out).all(axis=1)
    if not finite.all():
        raise AvpipeError(
            f"{path} has features that are not finite in {int((~finite).sum())} rows, the first of them row "
            f"{int(np.argmin(finite))}; extract them again, and check the weights, or fetch the file again."
        )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError) as error:
        raise AvpipeError(
            f"{path} was not read: {error}. Expected HDF5 with datasets data and video_urls; build or fetch "
            "the tree again."
        ) from error


def find_class_files(folder: Path, names: ClassNames, wanted: Iterable[str]) -> dict[str, Path]:
    """class -> its .h5 file; capitals may differ where no other class claims the file, other files are ignored.

    Raises:
        AvpipeError: the folder or the file of a wanted class is absent.
    """
    if not folder.is_dir():
        raise AvpipeError(f"{folder} does not exist; expected a feature tree in the published layout (build it first).")
    files = {path.stem: path for path in folder.iterdir() if path.suffix == ".h5"}
    by_class: dict[str, Path] = {}
    for stem in sorted(files):
        name = names.find(stem)
        if name is not None and (name == stem or name not in files):
            by_class.setdefault(name, files[stem])
    lacking = sorted(set(wanted) - by_class.keys())
    if lacking:
        raise AvpipeError(
            f"{folder} has no .h5 file for {len(lacking)} of its classes: {', '.join(lacking[:10])}. Build "
            "the tree again, or fetch the features that belong to this split."
        )
    return by_class


def only_file(folder: Path, pattern: str) -> Path:
    """The one file in `folder` that matches `pattern`.

    Raises:
        AvpipeError: none or several do.
    """
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if len(found) != 1:
        raise AvpipeError(f"{folder} has {len(found)} files {pattern}; expected exactly one.")
    return found[0]
