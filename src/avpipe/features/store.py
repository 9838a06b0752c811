"""The feature store: one HDF5 file per shard and extractor, with every clip's features and what made them.

Layout: `clip_ids` [n] and `source_keys` [n] (which content of which file), and for each stream a group with
`values` [sum of T, d] as float32 or float16, `times` [sum of T, 2] in seconds, `pooled` [n, d] and `offsets` [n + 1],
so that clip i owns the rows offsets[i]:offsets[i + 1]. `decoded` [n, 3] holds the shares of pictures and of sound that
were decoded and whether the sound is silent (NaN: not known). Attributes: `provenance`, JSON of all that the values
depend on, and `written_by`, the library versions. Clips are sorted by id, so that the same features give the same
bytes. Readers raise AvpipeError where a store is not what was written (`avpipe.io.manifest`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.features.types import Features
from avpipe.io.hdf5 import open_hdf5, read_texts
from avpipe.io.manifest import result_file, verified
from avpipe.io.reading import MAKE_AGAIN, reading
from avpipe.io.space import require_space
from avpipe.media.decoded import DecodedShares


@dataclass(frozen=True)
class StoredClip:
    """One clip of a store.

    Attributes:
        clip_id: the clip.
        source_key: digest of the content that the features were computed from.
        streams: stream name -> features.
        decoded: how much of the clip they rest on.
    """

    clip_id: str
    source_key: str
    streams: dict[str, Features]
    decoded: DecodedShares = field(default_factory=DecodedShares)


def write_store(
    target: str | os.PathLike[str],
    clips: list[StoredClip],
    *,
    streams: Mapping[str, int],
    provenance: Mapping[str, Any],
    written_by: Mapping[str, str],
) -> None:
    """Write a store, whole or not at all.

    Args:
        target: the HDF5 file.
        clips: in any order.
        streams: name and dimension of each stream, needed where there is no clip.
        provenance: all that the values depend on besides the clips.
        written_by: versions of the libraries that wrote the newest of them.

    Raises:
        OSError: the disk is full.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    arrays = (array for clip in clips for each in clip.streams.values() for array in vars(each).values())
    require_space(Path(target).parent, sum(array.nbytes for array in arrays), "features")
    with result_file(target) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        file.attrs["provenance"] = _json(provenance)
        file.attrs["written_by"] = _json(written_by)
        text = h5py.string_dtype("utf-8")
        file.create_dataset("clip_ids", data=[clip.clip_id for clip in ordered], dtype=text, shape=(len(ordered),))
        file.create_dataset(
            "source_keys", data=[clip.source_key for clip in ordered], dtype=text, shape=(len(ordered),)
        )
        shares = [[np.nan if value is None else float(value) for value in astuple(clip.decoded)] for clip in ordered]
        file.create_dataset("decoded", data=np.array(shares, np.float64).reshape(-1, 3))
        for name, dimension in streams.items():
            features = [clip.streams[name] for clip in ordered]
            group = file.create_group(name)
            lengths = np.array([len(each.values) for each in features], dtype=np.int64)
            group.create_dataset("offsets", data=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
            stored_as = np.result_type(*(each.values for each in features)) if features else np.float32
            values = group.create_dataset("values", (lengths.sum(), dimension), stored_as)
            times = group.create_dataset("times", (lengths.sum(), 2), "float64")
            pooled = group.create_dataset("pooled", (len(ordered), dimension), "float32")
            row = 0
            for index, each in enumerate(features):
                values[row : row + len(each.values)] = each.values
                times[row : row + len(each.values)] = each.times
                pooled[index] = each.pooled
                row += len(each.values)


def read_provenance(source: str | os.PathLike[str]) -> dict[str, Any]:
    """What a store's values depend on."""
    with _open(source) as file:
        return json.loads(file.attrs["provenance"])


def read_written_by(source: str | os.PathLike[str]) -> dict[str, str]:
    """Versions of the libraries that wrote a store's newest values."""
    with _open(source) as file:
        return json.loads(file.attrs["written_by"])


def read_clips(source: str | os.PathLike[str]) -> Iterator[StoredClip]:
    """Every clip of a store with all its features, one at a time."""
    with _open(source) as file:
        keys = read_texts(file["source_keys"])
        names = [name for name in file if isinstance(file[name], h5py.Group)]
        for index, clip_id in enumerate(read_texts(file["clip_ids"])):
            streams = {name: _features(file[name], index) for name in names}
            yield StoredClip(clip_id, keys[index], streams, _shares(file["decoded"][index]))


def read_source_keys(source: str | os.PathLike[str]) -> dict[str, str]:
    """clip id -> source key of every clip of a store."""
    with _open(source) as file:
        return dict(zip(read_texts(file["clip_ids"]), read_texts(file["source_keys"]), strict=True))


def read_pooled(source: str | os.PathLike[str], stream: str) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Clip ids and pooled features [n, d] of one stream."""
    with _open(source) as file:
        return read_texts(file["clip_ids"]), file[stream]["pooled"][:]


def read_widths(source: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """How many clips a store has, and stream -> numbers in a row."""
    with _open(source) as file:
        groups = {name: group for name, group in file.items() if isinstance(group, h5py.Group)}
        return len(file["clip_ids"]), {name: group["values"].shape[1] for name, group in groups.items()}


def _shares(row: npt.NDArray[np.float64]) -> DecodedShares:
    pictures, sound, silent = (None if np.isnan(value) else float(value) for value in row)
    return DecodedShares(pictures, sound, None if silent is None else bool(silent))


def _features(group: h5py.Group, index: int) -> Features:
    begin, end = group["offsets"][index : index + 2]
    return Features(group["values"][begin:end], group["pooled"][index], group["times"][begin:end])


def _open(source: str | os.PathLike[str]) -> h5py.File:
    with reading(verified(source), "a feature store of avpipe (HDF5)", MAKE_AGAIN):
        return open_hdf5(source)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
