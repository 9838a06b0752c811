"""The published code's clip pickles, read without running them, and written from a pack (specs/avlnet.md §1.1)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.features.spectrogram_frontend import MEL_BANDS
from avpipe.formats.tensor_pickle_writing import PlainArray, write_tensor_pickle
from avpipe.formats.tensor_pickles import MAX_BYTES, read_tensor_pickle
from avpipe.io.memory import release_memory
from avpipe.io.space import require_space
from avpipe.retrieval.packs.checks import PUBLISHED_PICKLE, VISUAL_DIMENSION, check_spectrogram, check_structure
from avpipe.retrieval.packs.pack import ClipSource, Pack, PackInfo

Layout = Literal["youcook", "msrvtt"]

_log = logging.getLogger(__name__)
_KEYS = "a list of dicts with '2d' and '3d' (or '2d_pooled' and '3d_pooled'), 'audio' and 'id'"
_LOWEST, _HIGHEST = -80.5, 0.5  # spectrograms lie in [-80, 0] decibels, float16 ones half a step beyond
_SHOWN = 3
_KEPT = {
    "unnamed": "have no 'id' and were numbered",
    "repeated": "repeat an 'id' and got a number behind it; where they are one clip with several captions, they tie",
    "unpooled": "have visual features that are not pooled; the maximum over their rows was taken, as published",
    "zero": "have visual features that are all zero, which are kept, as in the published code",
    "silent": "have spectrograms that are all zero (digital silence), which are kept, as in the published code",
    "beyond": "have spectrograms with values outside of -80 to 0 decibels",
}


def read_clip_pickle(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> Pack:
    """A pickle of clips as the published loaders take it, in either layout, in the order of the file.

    '2d_pooled' and '3d_pooled' are preferred to '2d' and '3d'. Visual features [frames, 2048] are pooled by their
    maximum. Spectrograms [40, frames] are tensors or arrays and stay float16 if all of them are. Padding that a
    spectrogram has stays, because it cannot be told from sound. Clips without 'id' are numbered; of a repeated 'id'
    the second becomes <id>#2, and so on: the published loaders count each as a clip. Captions and ids that are whole
    numbers are taken as text. Clips that lack sound or a visual vector are listed as missing. What is odd and kept is
    in `info.warnings`.

    Args:
        path: the file.
        max_bytes: largest file accepted; two to three times its size is needed in memory.

    Raises:
        AvpipeError: the pickle is damaged, or names any function or type beyond numbers and containers; no list of
            clips; shapes that are not those above; values that are NaN or infinite, in the pack's type too.
    """
    path = Path(path)
    reading = _Reading(path)
    clips = _checked_list(path, read_tensor_pickle(path, max_bytes=max_bytes))
    release_memory()  # the bytes that the arrays were made of are as large as the arrays
    ids = reading.names(clips)
    complete, missing = reading.sort_out(clips, ids)
    if not complete:
        raise AvpipeError(
            f"{path}: none of its {len(clips)} clips has sound and both visual vectors. Expected {_KEYS}; the first "
            f"clip has {sorted(map(str, clips[0]))}. Rename these keys."
        )
    captions = [_captions(path, ids[number], clips[number]) for number in complete]
    eval_captions = [_eval_caption(path, ids[number], clips[number]) for number in complete]
    video_2d, video_3d, audio, offsets = reading.take_features(clips, ids, complete, max_bytes)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    pack = Pack(
        ids=[ids[number] for number in complete],
        video_2d=video_2d,
        video_3d=video_3d,
        audio=audio,
        offsets=offsets,
        n_frames=np.diff(offsets),
        captions=captions,
        eval_captions=eval_captions,
        sources=[ClipSource()] * len(complete),
        info=PackInfo(PUBLISHED_PICKLE, len(clips), missing, sha256, {"file": path.name}, reading.warnings(len(clips))),
    )
    check_structure(pack, str(path), audio.shape, audio.dtype)
    return pack


def write_clip_pickle(pack: Pack, path: str | os.PathLike[str], layout: Layout = "youcook") -> None:
    """Write a pack as a pickle that the published loaders read; equal packs give equal bytes.

    Visual vectors become float32 numpy arrays [2048], spectrograms float32 tensors [40, frames]. A clip without
    captions gets no 'caption', which only the text models ask for. Memory holds a few clips.

    Args:
        pack: the clips.
        path: the file.
        layout: youcook: '2d', '3d' and one caption; msrvtt: '2d_pooled', '3d_pooled', a list of captions, and
            'eval_caption' where there is one. The published code has a loader for each.

    Raises:
        AvpipeError: several captions for a clip in the layout that has one.
        OSError: the disk is full.
    """
    several = [clip_id for clip_id, captions in zip(pack.ids, pack.captions, strict=True) if len(captions) > 1]
    if several and layout == "youcook":
        raise AvpipeError(
            f"{path}: {len(several)} clips have several captions, such as {several[0]!r}; the layout youcook takes one "
            "for each. Write the layout msrvtt."
        )
    require_space(Path(path).parent, 4 * (int(pack.n_frames.sum()) * MEL_BANDS + 2 * pack.video_2d.size), "clips")
    write_tensor_pickle(path, (_published(pack, index, layout) for index in range(len(pack))))


def _published(pack: Pack, index: int, layout: Layout) -> dict[str, Any]:
    """One clip as the published loaders want it."""
    audio = np.zeros((MEL_BANDS, int(pack.n_frames[index])), np.float32)
    spectrogram = pack.spectrogram(index)
    audio[:, : len(spectrogram)] = spectrogram.T
    suffix = "" if layout == "youcook" else "_pooled"
    clip: dict[str, Any] = {
        "id": pack.ids[index],
        f"2d{suffix}": PlainArray(pack.video_2d[index]),
        f"3d{suffix}": PlainArray(pack.video_3d[index]),
        "audio": audio,
    }
    captions = pack.captions[index]
    if captions:
        clip["caption"] = captions[0] if layout == "youcook" else list(captions)
    if layout == "msrvtt" and pack.eval_captions[index]:
        clip["eval_caption"] = pack.eval_captions[index]
    return clip


def _checked_list(path: Path, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        size = f" of {len(value)}" if isinstance(value, dict | list) else ""
        raise AvpipeError(f"{path} holds a {type(value).__name__}{size}; expected {_KEYS}, one for each clip.")
    wrong = [number for number, clip in enumerate(value) if not isinstance(clip, dict)]
    if wrong:
        found = type(value[wrong[0]]).__name__
        raise AvpipeError(f"{path}: number {wrong[0]} of its list is a {found}; expected {_KEYS}, one for each clip.")
    return [dict(clip) for clip in value]  # the same dict may be in the list twice


@dataclass
class _Reading:
    """What is noticed while a pickle is read: oddity, as in `_KEPT` -> ids of the clips that have it."""

    path: Path
    odd: dict[str, dict[str, None]] = field(default_factory=lambda: {kind: {} for kind in _KEPT})

    def warnings(self, n_clips: int) -> list[str]:
        """One line for each kind of oddity, logged as well."""
        lines = []
        for kind, clips in self.odd.items():
            if clips:
                shown = ", ".join(list(clips)[:_SHOWN])
                lines.append(f"{len(clips)} of {n_clips} clips {_KEPT[kind]} ({shown}{', …' * (len(clips) > _SHOWN)})")
                _log.warning("%s: %s", self.path, lines[-1])
        return lines

    def names(self, clips: Sequence[Mapping[str, Any]]) -> list[str]:
        """A unique id for each clip."""
        given: list[str] = []
        digits = len(str(len(clips) - 1))
        for number, clip in enumerate(clips):
            found = clip.get("id")
            if found is None:
                given.append(f"{number:0{digits}d}")
            elif _is_text(found):
                given.append(str(found))
            else:
                raise AvpipeError(
                    f"{self.path}: the 'id' of clip number {number} is a {type(found).__name__}; expected text or a "
                    "whole number."
                )
        unique = _made_unique(given)
        for clip, name, own in zip(clips, given, unique, strict=True):
            if own != name:
                self.odd["repeated"][own] = None
            if clip.get("id") is None:
                self.odd["unnamed"][own] = None
        return unique

    def sort_out(
        self, clips: Sequence[Mapping[str, Any]], ids: Sequence[str]
    ) -> tuple[list[int], list[dict[str, str]]]:
        """Numbers of the complete clips, and why the others are none."""
        complete, missing = [], []
        for number, clip in enumerate(clips):
            try:
                self._require_parts(clip, ids[number], number)
                complete.append(number)
            except ClipFailure as failure:
                missing.append({"clip_id": ids[number], "reason": failure.reason.value, "detail": failure.detail})
        return complete, missing

    def _require_parts(self, clip: Mapping[str, Any], clip_id: str, number: int) -> None:
        """Raise ClipFailure where there is nothing, and AvpipeError where there is something wrong."""
        audio = clip.get("audio")
        if audio is None:
            raise ClipFailure(Reason.NO_AUDIO, "no 'audio' in the file")
        where = f"{self.path}: 'audio' of clip {clip_id!r} (number {number})"
        if not isinstance(audio, np.ndarray) or audio.dtype.kind != "f" or audio.ndim != 2:
            raise AvpipeError(
                f"{where} is {_kind(audio)}; expected floats [{MEL_BANDS}, frames], a tensor or an array."
            )
        if audio.shape[0] != MEL_BANDS:
            hint = " Transpose it." if audio.shape[1] == MEL_BANDS else ""
            raise AvpipeError(f"{where} has shape {list(audio.shape)}; expected [{MEL_BANDS}, frames].{hint}")
        if not audio.size:
            raise ClipFailure(Reason.TOO_SHORT, "a spectrogram of 0 frames")
        for part in ("2d", "3d"):
            values = _stored(clip, part)
            if values is None or (isinstance(values, np.ndarray) and not values.size):
                raise ClipFailure(Reason.NO_VIDEO, f"no '{part}' or '{part}_pooled' in the file, or nothing in it")

    def take_features(
        self, clips: Sequence[dict[str, Any]], ids: Sequence[str], complete: Sequence[int], max_bytes: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.floating], npt.NDArray[np.int64]]:
        """Both visual vectors, spectrograms and offsets of a pack; arrays are removed from `clips` on the way."""
        spectrograms = [clips[number]["audio"] for number in complete]
        offsets = np.concatenate([[0], np.cumsum([each.shape[1] for each in spectrograms])]).astype(np.int64)
        dtype = np.dtype(np.float16 if all(each.dtype == np.float16 for each in spectrograms) else np.float32)
        del spectrograms
        n_bytes = int(offsets[-1]) * MEL_BANDS * dtype.itemsize
        if n_bytes > max_bytes:  # clips may share one array, so that a small file gives very many numbers
            raise AvpipeError(
                f"{self.path}: its spectrograms have {n_bytes:,} bytes, more than the {max_bytes:,} accepted; raise "
                "max_bytes if meant."
            )
        audio = np.empty((int(offsets[-1]), MEL_BANDS), dtype)
        video_2d, video_3d = (np.empty((len(complete), VISUAL_DIMENSION), np.float32) for _ in range(2))
        for row, number in enumerate(complete):
            clip = clips[number]
            video_2d[row] = self._visual(clip, "2d", ids[number], number)
            video_3d[row] = self._visual(clip, "3d", ids[number], number)
            rows = audio[offsets[row] : offsets[row + 1]]
            with np.errstate(over="ignore"):  # what the pack's type cannot hold becomes infinite and is refused
                rows[:] = clip["audio"].T
            self._check_sound(rows, ids[number], number)
            clip.clear()  # or all spectrograms would be in memory twice
        return video_2d, video_3d, audio, offsets

    def _visual(self, clip: Mapping[str, Any], part: str, clip_id: str, number: int) -> npt.NDArray[np.float32]:
        """A clip's vector, float32 [2048]."""
        values = _stored(clip, part)
        where = f"{self.path}: '{part}' of clip {clip_id!r} (number {number})"
        is_array = isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim in (1, 2)
        if not is_array or values.shape[-1] != VISUAL_DIMENSION:
            raise AvpipeError(
                f"{where} is {_kind(values)}; expected floats [{VISUAL_DIMENSION}], or [frames, {VISUAL_DIMENSION}], "
                "of which the maximum is taken."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            numbers: npt.NDArray[np.float32] = values.astype(np.float32)
        if not np.isfinite(numbers).all():
            at = np.argwhere(~np.isfinite(numbers))[0].tolist()
            raise AvpipeError(
                f"{where} has {values[tuple(at)]} at {at}; expected finite numbers of float32. Remove the clip or "
                "compute its features again."
            )
        if numbers.ndim == 2:
            if len(numbers) > 1:
                self.odd["unpooled"][clip_id] = None
            numbers = numbers.max(axis=0)
        if not numbers.any():
            self.odd["zero"][clip_id] = None
        return numbers

    def _check_sound(self, rows: npt.NDArray[np.floating], clip_id: str, number: int) -> None:
        """Refuse what is no number in a spectrogram [T, 40], and note silence and other units."""
        lowest, highest = check_spectrogram(rows, f"{self.path}, clip {clip_id!r} (number {number})", len(rows))
        if lowest == highest == 0:
            self.odd["silent"][clip_id] = None
        if lowest < _LOWEST or highest > _HIGHEST:
            self.odd["beyond"][clip_id] = None


def _made_unique(names: Sequence[str]) -> list[str]:
    """The names, of which repeated ones get a number behind them that no other name has."""
    taken, times = set(names), Counter[str]()
    unique = []
    for name in names:
        times[name] += 1
        own = name
        while times[name] > 1 and own in taken:
            own = f"{name}#{times[name]}"
            if own in taken:
                times[name] += 1
        taken.add(own)
        unique.append(own)
    return unique


def _stored(clip: Mapping[str, Any], part: str) -> Any:
    """The pooled features where there are any, for MSR-VTT's files have the unpooled ones beside them."""
    pooled = clip.get(f"{part}_pooled")
    return clip.get(part) if pooled is None else pooled


def _is_text(value: Any) -> bool:
    """Whether a value is text, or a whole number: the published loaders take both, by `str`."""
    return isinstance(value, str | int | np.integer) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


def _captions(path: Path, clip_id: str, clip: Mapping[str, Any]) -> tuple[str, ...]:
    found = clip.get("caption")
    captions = [] if found is None else found if isinstance(found, list | tuple) else [found]
    if not all(_is_text(each) for each in captions):
        raise AvpipeError(f"{path}: 'caption' of clip {clip_id!r} is {_kind(found)}; expected text or a list of texts.")
    return tuple(str(each) for each in captions)


def _eval_caption(path: Path, clip_id: str, clip: Mapping[str, Any]) -> str:
    found = clip.get("eval_caption")
    if not (found is None or _is_text(found)):
        raise AvpipeError(f"{path}: 'eval_caption' of clip {clip_id!r} is {_kind(found)}; expected one text.")
    return "" if found is None else str(found)
