"""Long videos in the layout that AVLnet publishes for HowTo100M (docs/methods.md, Long videos).

A video's three files are {row}/{video_id}_{2d,3d,spec}.npz below the folder of the features, where row is
category/subfolder/video_id; the publication's text puts them into category/subfolder itself. Both are found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from avpipe.formats.clip_pickles import MEL_BANDS, VISUAL_DIMENSION
from avpipe.formats.howto100m import find_file
from avpipe.formats.npy import find_rows
from avpipe.retrieval.corpus import LongVideo

ROWS_PER_SECOND = (1.0, 24 / 16)
"""Of the 2-D and the 3-D features."""


class HowTo100MCorpus:
    """Long videos in the published layout.

    Args:
        rows: `category/subfolder/video_id` of each video, as `read_list` gives them.
        features: folder of the 2-D and 3-D features.
        audio: folder of the spectrograms; None: the same.
    """

    def __init__(
        self,
        rows: Sequence[str],
        features: str | os.PathLike[str],
        audio: str | os.PathLike[str] | None = None,
    ) -> None:
        self._features = Path(features)
        self._audio = self._features if audio is None else Path(audio)
        self._ids = [row.rsplit("/", 1)[-1] for row in rows]
        self._rows = dict(zip(reversed(self._ids), reversed(rows), strict=True))  # of equal ids the first

    def video_ids(self) -> Sequence[str]:
        """Every video of the list, in its order."""
        return self._ids

    def locate(self, video_id: str) -> LongVideo:
        """Find a video's features, reading the headers of its three files.

        Raises:
            ClipFailure: missing, or decode_error for what is not an .npz file with one array of numbers.
        """
        row = self._rows[video_id]
        audio = find_rows(find_file(self._audio, row, "spec"), "arr_0", width=MEL_BANDS, is_transposed=True)
        flat, deep = (
            find_rows(find_file(self._features, row, kind), "features", width=VISUAL_DIMENSION) for kind in ("2d", "3d")
        )
        return LongVideo(audio, tuple(zip((flat, deep), ROWS_PER_SECOND, strict=True)))

    def digest(self, video_ids: Sequence[str]) -> str:
        """Digest of the list: the files say nothing of what they were computed from."""
        return hashlib.sha256("\n".join(self._rows[video_id] for video_id in video_ids).encode()).hexdigest()
