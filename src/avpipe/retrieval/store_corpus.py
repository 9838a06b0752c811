"""Long videos whose features avpipe extracted itself: the clips of feature stores (`avpipe.features.store`)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features.store import read_provenance, read_source_keys
from avpipe.formats.file_rows import FileRows
from avpipe.inventory.status import ClipStatus
from avpipe.io.hdf5 import open_hdf5
from avpipe.io.reading import MAKE_AGAIN, reading
from avpipe.retrieval.corpus import LongVideo

STREAMS = {"video_2d": "video", "video_3d": "video", "audio": "audio"}
"""Part of a pack or a video -> the stream of the store of resnet152, resnext101 and spectrogram that it comes from."""

_LACKING = {"video_2d": Reason.NO_VIDEO, "video_3d": Reason.NO_VIDEO, "audio": Reason.NO_AUDIO}


@dataclass(frozen=True)
class _Stream:
    """One stream of one store.

    Attributes:
        path: the store.
        file_offset: where its values begin, in bytes.
        dtype: of the values.
        width: numbers in a row.
        rate: rows per second.
        offsets: int64 [n + 1], rows of each clip.
    """

    path: Path
    file_offset: int
    dtype: np.dtype[np.floating]
    width: int
    rate: float
    offsets: npt.NDArray[np.int64]

    def rows(self, index: int) -> FileRows:
        """The rows of one clip."""
        begin, end = (int(each) for each in self.offsets[index : index + 2])
        offset = self.file_offset + begin * self.width * self.dtype.itemsize
        return FileRows(self.path, offset, self.dtype, end - begin, self.width)


class StoreCorpus:
    """Long videos in feature stores.

    The rows of a window follow from the rows per second of the store, which its times say: 1 and 24/16 at the
    published settings, where the windows are the published ones, and others with other settings.

    Args:
        stores: "video_2d", "video_3d" and "audio" -> stores of resnet152, resnext101 and spectrogram, in any order.
        videos: the videos that are wanted; None: all that occur in a store. Others in the stores are ignored.
        failed: what the stages said of videos that failed; one without features is left out for that reason, or else
            as no_audio or no_video.

    Raises:
        AvpipeError: a file is not such a store, or a video is in two stores of a kind.
    """

    def __init__(
        self,
        stores: Mapping[str, Sequence[str | os.PathLike[str]]],
        *,
        videos: Iterable[str] | None = None,
        failed: Iterable[ClipStatus] = (),
    ) -> None:
        self._places: dict[str, dict[str, tuple[_Stream, int]]] = {}
        self._keys: dict[str, dict[str, str]] = {}
        self._provenance: list[str] = []
        for kind, stream in STREAMS.items():
            self._places[kind], self._keys[kind] = {}, {}
            for path in stores[kind]:
                self._add(kind, Path(path), stream)
        found = {video_id for places in self._places.values() for video_id in places}
        self._ids = sorted(found) if videos is None else list(videos)
        self._failures = {each.clip_id: (Reason(each.status), each.detail) for each in failed}

    def video_ids(self) -> Sequence[str]:
        """The videos wanted, or those of all stores in order of id."""
        return self._ids

    def locate(self, video_id: str) -> LongVideo:
        """Where a video's features lie; no file is read.

        Raises:
            ClipFailure: a kind of features is missing, for the reason that its stage gave, or it is a duplicate.
        """
        for kind in STREAMS:
            if video_id not in self._places[kind] or video_id in self._failures:
                unknown = _LACKING[kind], f"not among the {len(self._places[kind]):,} videos of {kind}"
                raise ClipFailure(*self._failures.get(video_id, unknown))
        found = {kind: self._places[kind][video_id] for kind in STREAMS}
        rows = {kind: stream.rows(index) for kind, (stream, index) in found.items()}
        visual = tuple((rows[kind], found[kind][0].rate) for kind in ("video_2d", "video_3d"))
        return LongVideo(rows["audio"], visual)

    def digest(self, video_ids: Sequence[str]) -> str:
        """Digest of the videos' content and of all that the stores' values depend on."""
        keys = [[video_id, *(self._keys[kind].get(video_id) for kind in STREAMS)] for video_id in video_ids]
        return hashlib.sha256(json.dumps([sorted(set(self._provenance)), keys]).encode()).hexdigest()

    def _add(self, kind: str, path: Path, stream: str) -> None:
        if not path.is_file():
            raise AvpipeError(f"{path} does not exist, expected features of {kind}; extract them first.")
        self._provenance.append(json.dumps([kind, read_provenance(path)], sort_keys=True))
        keys = read_source_keys(path)
        if not keys:
            return
        located = _open_stream(path, stream)
        for index, video_id in enumerate(keys):
            if video_id in self._places[kind]:
                other = self._places[kind][video_id][0].path
                raise AvpipeError(f"{video_id} is in {other} and in {path}; expected one store of {kind} to have it.")
            self._places[kind][video_id] = located, index
        self._keys[kind].update(keys)


def _open_stream(path: Path, stream: str) -> _Stream:
    with reading(path, "a feature store of avpipe (HDF5)", MAKE_AGAIN), open_hdf5(path) as file:
        if stream not in file:
            raise AvpipeError(f"{path} has no stream {stream!r}, expected the store of another extractor.")
        values: h5py.Dataset = file[stream]["values"]
        offsets = file[stream]["offsets"][:]
        place = values.id.get_offset()
        if place is None and values.size:
            raise AvpipeError(
                f"{path} was rewritten by another program: the values of {stream!r} are in chunks, expected in one "
                "piece. Delete it and extract the features again."
            )
        rate = _rows_per_second(file[stream]["times"], offsets)
        return _Stream(path, place or 0, values.dtype, values.shape[1], rate, offsets)


def _rows_per_second(times: h5py.Dataset, offsets: npt.NDArray[np.int64]) -> float:
    """From the times of the longest clip; all clips of a store have the same settings.

    Rounded at the ninth digit, because 24/16 a hair too small would put a window's start one row too early.
    """
    longest = int(np.argmax(np.diff(offsets)))
    begin, end = (int(each) for each in offsets[longest : longest + 2])
    if end - begin < 1:
        return 1.0  # no clip has a row
    first, last = times[begin], times[end - 1]
    seconds = (last[0] - first[0]) / (end - begin - 1) if end - begin > 1 else first[1] - first[0]
    return round(1.0 / float(seconds), 9)
