"""What must hold of a pack: arrays that fit together, unique ids, numbers that are numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from avpipe.errors import AvpipeError
from avpipe.formats.clip_pickles import MEL_BANDS, VISUAL_DIMENSION

if TYPE_CHECKING:
    from avpipe.retrieval.packs.pack import Pack

PUBLISHED_PICKLE = "published pickle"
EXTRACTED = "extracted"

_UNPRINTABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
_SHOWN = 5


def check_structure(pack: Pack, name: str, audio_shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check the shapes and types of a pack's arrays, its ids and offsets; no spectrogram is read.

    Args:
        pack: the pack.
        name: its file, for messages.
        audio_shape, dtype: of its spectrograms, which may still be to come.

    Raises:
        AvpipeError: something does not fit.
    """
    n = len(pack.ids)
    if n == 0:
        raise AvpipeError(f"{name} has no clip with sound and both visual vectors; expected one at least.")
    for part, numbers in (("audio_offsets", pack.offsets), ("audio_frames", pack.n_frames)):
        found = np.asarray(numbers)
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise AvpipeError(f"{name}: {part} is {found.dtype} {list(found.shape)}; expected whole numbers, one axis.")
    lengths = {
        "ids": n,
        "video_2d": len(pack.video_2d),
        "video_3d": len(pack.video_3d),
        "audio_offsets": len(pack.offsets) - 1,
        "audio_frames": len(pack.n_frames),
        "captions": len(pack.captions),
        "eval_captions": len(pack.eval_captions),
        "sources": len(pack.sources),
    }
    if set(lengths.values()) != {n}:
        raise AvpipeError(f"{name}: its parts are of {lengths} clips; expected one number for all. Make it again.")
    for part, vectors in (("video_2d", pack.video_2d), ("video_3d", pack.video_3d)):
        if vectors.shape != (n, VISUAL_DIMENSION) or vectors.dtype != np.float32:
            raise AvpipeError(
                f"{name}: {part} is {vectors.dtype} {list(vectors.shape)}; expected float32 [{n}, {VISUAL_DIMENSION}], "
                "one vector per clip pooled over time."
            )
    if len(audio_shape) != 2 or audio_shape[1] != MEL_BANDS or dtype.newbyteorder("<").str not in ("<f4", "<f2"):
        raise AvpipeError(
            f"{name}: spectrograms are {dtype} {list(audio_shape)}; expected float32 or float16 [frames, {MEL_BANDS}]."
        )
    _check_ids(pack.ids, name)
    _check_captions(pack, name)
    _check_offsets(pack, name, audio_shape[0])


def _check_ids(ids: list[str], name: str) -> None:
    no_text = [clip_id for clip_id in ids if not isinstance(clip_id, str)]
    if no_text:
        raise AvpipeError(f"{name}: {len(no_text)} ids are no text, such as {no_text[:_SHOWN]}; expected text.")
    repeated = [clip_id for clip_id, times in Counter(ids).items() if times > 1]
    if repeated:
        raise AvpipeError(
            f"{name}: {len(repeated)} ids occur more than once, such as {repeated[:_SHOWN]}; expected unique ids."
        )
    odd = [clip_id for clip_id in ids if not clip_id or _UNPRINTABLE.search(clip_id)]
    if odd:
        raise AvpipeError(
            f"{name}: {len(odd)} ids are empty or hold control characters, such as {odd[:_SHOWN]}; rename these clips."
        )


def _check_captions(pack: Pack, name: str) -> None:
    for clip_id, captions, eval_caption in zip(pack.ids, pack.captions, pack.eval_captions, strict=True):
        is_list = isinstance(captions, tuple | list) and all(isinstance(caption, str) for caption in captions)
        if not is_list or not isinstance(eval_caption, str):
            raise AvpipeError(
                f"{name}: clip {clip_id!r} has the captions {captions!r:.80} and the caption to test with "
                f"{eval_caption!r:.80}; expected a tuple of texts and a text."
            )


def _check_offsets(pack: Pack, name: str, n_rows: int) -> None:
    lengths = np.diff(pack.offsets)
    if pack.offsets[0] != 0 or pack.offsets[-1] != n_rows:
        raise AvpipeError(
            f"{name}: its clips take the spectrogram rows {pack.offsets[0]} to {pack.offsets[-1]}, but there are "
            f"{n_rows}. Make it again."
        )
    wrong = np.flatnonzero((lengths < 1) | (pack.n_frames < lengths))
    if len(wrong):
        first = wrong[0]
        raise AvpipeError(
            f"{name}: clip {pack.ids[first]!r} has {lengths[first]} spectrogram frames stored of "
            f"{pack.n_frames[first]}, and {len(wrong)} clips are like it; expected at least one, and no more than "
            "there were."
        )


def check_visual(pack: Pack, name: str) -> None:
    """Check the values of a pack's visual vectors.

    Raises:
        AvpipeError: a value is no number, or a vector of an extracted pack is zero; published ones may be.
    """
    for part, vectors in (("2d", pack.video_2d), ("3d", pack.video_3d)):
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            row = vectors[wrong[0]]
            at = int(np.flatnonzero(~np.isfinite(row))[0])
            raise AvpipeError(
                f"{name}: {part} of clip {pack.ids[wrong[0]]!r} (number {wrong[0]}) has {row[at]} at {at}, and "
                f"{len(wrong)} clips are like it; expected finite numbers. Compute these features again."
            )
        zero = np.flatnonzero(~vectors.any(axis=1))
        if len(zero) and pack.info.origin == EXTRACTED:
            raise AvpipeError(
                f"{name}: {len(zero)} clips have {part} features that are all zero, such as {pack.ids[zero[0]]!r}, "
                "which the networks do not give; compute the features again."
            )
