"""A corpus of long videos: where the features of each video lie, and which videos have them all.

A corpus says up front which videos it has whole; none is replaced by zeros (docs/methods.md, Long videos).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.formats.clip_pickles import MEL_BANDS, VISUAL_DIMENSION
from avpipe.formats.file_rows import Rows
from avpipe.inventory.status import ClipStatus
from avpipe.retrieval.windows import Extent, covered_seconds

THREADS = min(16, 2 * (os.cpu_count() or 1))
_AT_ONCE = 4096  # items that wait for a thread; a future for each of a million videos would take a gigabyte
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class LongVideo:
    """Where one video's features lie.

    Attributes:
        audio: spectrogram [F, 40].
        visual: the 2-D and the 3-D stream, each [n, 2048], with their rows per second.
    """

    audio: Rows
    visual: tuple[tuple[Rows, float], ...]

    @property
    def extent(self) -> Extent:
        """How far the features reach."""
        return Extent(self.audio.n_rows, tuple((rows.n_rows, rate) for rows, rate in self.visual))


class Corpus(Protocol):
    """Long videos with features of sound and pictures."""

    def video_ids(self) -> Sequence[str]:
        """Every video that was asked for, in a fixed order; one that was listed twice is there twice."""

    def locate(self, video_id: str) -> LongVideo:
        """Find a video's features, reading headers at most.

        Raises:
            ClipFailure: features are missing, damaged or of another shape.
        """

    def digest(self, video_ids: Sequence[str]) -> str:
        """Digest of what the features of these videos were computed from, as far as the corpus knows."""


@dataclass(frozen=True)
class Scan:
    """What a corpus has.

    Attributes:
        usable: videos with all features, in the corpus's order.
        covered_seconds: of each of them, how far its shortest stream reaches (`windows.covered_seconds`).
        excluded: the others, with a reason and its detail.
        digest: of the usable videos and their sizes.
    """

    usable: list[str]
    covered_seconds: list[float]
    excluded: list[ClipStatus]
    digest: str


def scan(corpus: Corpus, *, threads: int = THREADS) -> Scan:
    """Locate every video of a corpus; headers are read, values are not.

    Raises:
        AvpipeError: there is no usable video.
    """
    usable: list[str] = []
    covered: list[float] = []
    excluded: list[ClipStatus] = []
    seen: set[str] = set()
    sizes = hashlib.sha256()

    def locate(video_id: str) -> Extent | ClipFailure:
        try:
            return located(corpus, video_id).extent
        except ClipFailure as failure:
            return failure

    video_ids = corpus.video_ids()
    for video_id, extent in zip(video_ids, mapped(locate, video_ids, threads), strict=True):
        if video_id in seen:
            extent = ClipFailure(Reason.DUPLICATE, "listed more than once; the first counts")
        seen.add(video_id)
        if isinstance(extent, ClipFailure):
            excluded.append(ClipStatus(video_id, extent.reason.value, extent.detail))
        else:
            usable.append(video_id)
            covered.append(covered_seconds(extent))
            sizes.update(json.dumps([video_id, extent.n_frames, extent.visual]).encode())
    require_some(usable, excluded)
    return Scan(usable, covered, excluded, sizes.hexdigest())


def located(corpus: Corpus, video_id: str) -> LongVideo:
    """A video whose features have the widths that the models read, and at least one row each.

    Raises:
        ClipFailure: otherwise.
    """
    video = corpus.locate(video_id)
    if video.audio.width != MEL_BANDS:
        raise ClipFailure(Reason.DECODE_ERROR, f"spectrogram of {video.audio.width} bands, expected {MEL_BANDS}")
    if video.audio.n_rows == 0:
        raise ClipFailure(Reason.NO_AUDIO, "a spectrogram without a frame")
    for name, (rows, _) in zip(("2-D", "3-D"), video.visual, strict=True):
        if rows.width != VISUAL_DIMENSION:
            raise ClipFailure(
                Reason.DECODE_ERROR, f"{name} features of {rows.width} numbers, expected {VISUAL_DIMENSION}"
            )
        if rows.n_rows == 0:
            raise ClipFailure(Reason.NO_VIDEO, f"no row of {name} features")
    return video


def mapped(function: Callable[[_Item], _Result], items: Sequence[_Item], threads: int) -> Iterator[_Result]:
    """`function` of every item, in order, computed in several threads; an error is raised where its item is."""
    if threads < 2 or len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        for begin in range(0, len(items), _AT_ONCE):
            yield from pool.map(function, items[begin : begin + _AT_ONCE])


def require_some(usable: Sequence[str], excluded: Sequence[ClipStatus]) -> None:
    """Raise AvpipeError with some reasons if no video is usable."""
    if not usable:
        listed = "; ".join(f"{each.clip_id}: {each.status}, {each.detail}" for each in excluded[:3])
        raise AvpipeError(
            f"None of {len(excluded):,} videos can be trained on, expected at least one. {listed or 'None is listed'}."
        )
