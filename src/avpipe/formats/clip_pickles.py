"""The published code's pickles of clips for retrieval, read without running them (docs/methods.md, Clip pickles)."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.formats.pickles import read_pickle
from avpipe.io.memory import release_memory
from avpipe.registry import EXTRACTORS

MEL_BANDS = EXTRACTORS["spectrogram"].streams["audio"]
VISUAL_DIMENSION = EXTRACTORS["resnet152"].streams["video"]
"""Of each of the two visual streams, ResNet-152's and ResNeXt-101's."""

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


@dataclass(frozen=True)
class PublishedClips:
    """The complete clips of a pickle, n of them, in the order of the file.

    Attributes:
        ids: unique names.
        video_2d, video_3d: float32 [n, 2048].
        audio: float32 or float16 [sum of T, 40], the spectrograms one after the other.
        offsets: int64 [n + 1]; clip i owns the rows offsets[i]:offsets[i + 1] of `audio`.
        captions: of each clip, as many as there are.
        eval_captions: the caption to test with, or "".
        listed: clips of the file, the incomplete ones too.
        missing: the incomplete ones: `clip_id`, `reason` (an `avpipe.errors.Reason`), `detail`.
        sha256: of the file.
        warnings: one line for each oddity that was found and kept.
    """

    ids: list[str]
    video_2d: npt.NDArray[np.float32]
    video_3d: npt.NDArray[np.float32]
    audio: npt.NDArray[np.floating]
    offsets: npt.NDArray[np.int64]
    captions: list[tuple[str, ...]]
    eval_captions: list[str]
    listed: int
    missing: list[dict[str, str]]
    sha256: str
    warnings: list[str]


def read_clips(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> PublishedClips:
    """A pickle of clips as the published loaders take it, in either layout, in the order of the file.

    '2d_pooled' and '3d_pooled' are preferred to '2d' and '3d'. Visual features [frames, 2048] are pooled by their
    maximum. Spectrograms [40, frames] are tensors or arrays and stay float16 if all of them are. Padding that a
    spectrogram has stays, because it cannot be told from sound. Clips without 'id' are numbered; of a repeated 'id'
    the second becomes <id>#2, and so on: the published loaders count each as a clip. Captions and ids that are whole
    numbers are taken as text. Clips that lack sound or a visual vector are listed as missing. What is odd and kept is
    in `warnings`.

    Args:
        path: the file.
        max_bytes: as for `avpipe.formats.pickles.read_pickle`; two to three times the file's size is needed in memory.

    Raises:
        AvpipeError: the pickle is damaged, or names any function or type beyond numbers and containers; no list of
            clips; shapes that are not those above; values that are NaN or infinite, in the pack's type too.
    """
    path = Path(path)
    clips = _clips_of(path, read_pickle(path, max_bytes=max_bytes))
    release_memory()  # the bytes that the arrays were made of are as large as the arrays
    _name(clips)
    complete, missing = [], []
    for clip in clips:
        try:
            clip.require_features()
            complete.append(clip)
        except ClipFailure as failure:
            missing.append({"clip_id": clip.clip_id, "reason": failure.reason.value, "detail": failure.detail})
    if not complete:
        raise AvpipeError(
            f"{path}: none of its {len(clips)} clips has sound and both visual vectors. Expected {_KEYS}; the first "
            f"clip has {sorted(map(str, clips[0].parts))}. Rename these keys."
        )
    captions = [clip.captions() for clip in complete]
    eval_captions = [clip.text("eval_caption", "one text") for clip in complete]
    video_2d, video_3d, audio, offsets = _take_features(complete)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return PublishedClips(
        ids=[clip.clip_id for clip in complete],
        video_2d=video_2d,
        video_3d=video_3d,
        audio=audio,
        offsets=offsets,
        captions=captions,
        eval_captions=eval_captions,
        listed=len(clips),
        missing=missing,
        sha256=sha256,
        warnings=_warnings(path, clips),
    )


def check_spectrogram(values: npt.NDArray[np.floating], name: str, n_frames: int) -> tuple[float, float]:
    """Check one clip's spectrogram.

    Args:
        values: [T, 40].
        name: file and clip, for messages.
        n_frames: expected T.

    Returns:
        Its lowest and highest value.

    Raises:
        AvpipeError: another shape, or values that are NaN or infinite.
    """
    if values.shape != (n_frames, MEL_BANDS):
        raise AvpipeError(f"{name}: a spectrogram of shape {list(values.shape)}; expected [{n_frames}, {MEL_BANDS}].")
    lowest, highest = float(values.min()), float(values.max())
    if not np.isfinite([lowest, highest]).all():
        frame, band = np.argwhere(~np.isfinite(values))[0]
        raise AvpipeError(
            f"{name}: its spectrogram has {values[frame, band]} in frame {frame}, band {band}; expected decibels. "
            "Compute it again."
        )
    return lowest, highest


@dataclass
class _Clip:
    """An entry of the list, its number there, and what is odd about it (keys of `_KEPT`)."""

    path: Path
    number: int
    parts: dict[str, Any]
    clip_id: str = ""
    odd: set[str] = field(default_factory=set)

    def where(self, part: str) -> str:
        """A part of the clip, for messages."""
        name = f"{self.clip_id!r} (number {self.number})" if self.clip_id else f"number {self.number}"
        return f"{self.path}: {part!r} of clip {name}"

    def text(self, part: str, expected: str) -> str:
        """A text, or a whole number as the text that the published loaders make of it by `str`; "" where it lacks."""
        return "" if self.parts.get(part) is None else self._texts(part, [self.parts[part]], expected)[0]

    def captions(self) -> tuple[str, ...]:
        """One text or several."""
        found = self.parts.get("caption")
        several = [] if found is None else found if isinstance(found, list | tuple) else [found]
        return self._texts("caption", several, "text or a list of texts")

    def _texts(self, part: str, values: Sequence[Any], expected: str) -> tuple[str, ...]:
        if not all(isinstance(each, str | int | np.integer) and not isinstance(each, bool) for each in values):
            raise AvpipeError(f"{self.where(part)} is {_kind(self.parts[part])}; expected {expected}.")
        return tuple(str(each) for each in values)

    def stored(self, part: str) -> Any:
        """The pooled features where there are any, for MSR-VTT's files have the unpooled ones beside them."""
        pooled = self.parts.get(f"{part}_pooled")
        return self.parts.get(part) if pooled is None else pooled

    def require_features(self) -> None:
        """Raise ClipFailure where there is nothing, and AvpipeError where sound is something else."""
        audio = self.parts.get("audio")
        if audio is None:
            raise ClipFailure(Reason.NO_AUDIO, "no 'audio' in the file")
        if not isinstance(audio, np.ndarray) or audio.dtype.kind != "f" or audio.ndim != 2:
            expected = f"floats [{MEL_BANDS}, frames], a tensor or an array"
            raise AvpipeError(f"{self.where('audio')} is {_kind(audio)}; expected {expected}.")
        if audio.shape[0] != MEL_BANDS:
            hint = " Transpose it." if audio.shape[1] == MEL_BANDS else ""
            found = f"{self.where('audio')} has shape {list(audio.shape)}"
            raise AvpipeError(f"{found}; expected [{MEL_BANDS}, frames].{hint}")
        if not audio.size:
            raise ClipFailure(Reason.TOO_SHORT, "a spectrogram of 0 frames")
        for part in ("2d", "3d"):
            values = self.stored(part)
            if values is None or (isinstance(values, np.ndarray) and not values.size):
                raise ClipFailure(Reason.NO_VIDEO, f"no '{part}' or '{part}_pooled' in the file, or nothing in it")

    def visual(self, part: str) -> npt.NDArray[np.float32]:
        """A vector, float32 [2048]."""
        values = self.stored(part)
        is_array = isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim in (1, 2)
        if not is_array or values.shape[-1] != VISUAL_DIMENSION:
            expected = f"floats [{VISUAL_DIMENSION}], or [frames, {VISUAL_DIMENSION}], of which the maximum is taken"
            raise AvpipeError(f"{self.where(part)} is {_kind(values)}; expected {expected}.")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            numbers: npt.NDArray[np.float32] = values.astype(np.float32)
        if not np.isfinite(numbers).all():
            at = np.argwhere(~np.isfinite(numbers))[0].tolist()
            raise AvpipeError(
                f"{self.where(part)} has {values[tuple(at)]} at {at}; expected finite numbers of float32. Remove the "
                "clip or compute its features again."
            )
        if numbers.ndim == 2:
            if len(numbers) > 1:
                self.odd.add("unpooled")
            numbers = numbers.max(axis=0)
        if not numbers.any():
            self.odd.add("zero")
        return numbers

    def put_sound(self, rows: npt.NDArray[np.floating]) -> None:
        """Write the spectrogram to rows [T, 40]; what is no number is refused, silence and other units are noted."""
        with np.errstate(over="ignore"):  # what the rows' type cannot hold becomes infinite and is refused
            rows[:] = self.parts["audio"].T
        lowest, highest = check_spectrogram(
            rows, f"{self.path}, clip {self.clip_id!r} (number {self.number})", len(rows)
        )
        if lowest == highest == 0:
            self.odd.add("silent")
        if lowest < _LOWEST or highest > _HIGHEST:
            self.odd.add("beyond")


def _clips_of(path: Path, value: Any) -> list[_Clip]:
    if not isinstance(value, list) or not value:
        size = f" of {len(value)}" if isinstance(value, dict | list) else ""
        raise AvpipeError(f"{path} holds a {type(value).__name__}{size}; expected {_KEYS}, one for each clip.")
    for number, parts in enumerate(value):
        if not isinstance(parts, dict):
            found = f"{path}: number {number} of its list is a {type(parts).__name__}"
            raise AvpipeError(f"{found}; expected {_KEYS}, one for each clip.")
    return [_Clip(path, number, dict(parts)) for number, parts in enumerate(value)]  # one dict may be there twice


def _name(clips: Sequence[_Clip]) -> None:
    """Give each clip a unique id."""
    digits = len(str(len(clips) - 1))
    given = [
        f"{clip.number:0{digits}d}" if clip.parts.get("id") is None else clip.text("id", "text or a whole number")
        for clip in clips
    ]
    for clip, name, own in zip(clips, given, _made_unique(given), strict=True):
        clip.clip_id = own
        if own != name:
            clip.odd.add("repeated")
        if clip.parts.get("id") is None:
            clip.odd.add("unnamed")


def _take_features(
    clips: Sequence[_Clip],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """Both visual vectors, spectrograms and offsets; arrays are removed from the clips on the way."""
    lengths = [clip.parts["audio"].shape[1] for clip in clips]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    is_half = all(clip.parts["audio"].dtype == np.float16 for clip in clips)
    audio = np.empty((int(offsets[-1]), MEL_BANDS), np.float16 if is_half else np.float32)
    video_2d, video_3d = (np.empty((len(clips), VISUAL_DIMENSION), np.float32) for _ in range(2))
    for row, clip in enumerate(clips):
        video_2d[row], video_3d[row] = clip.visual("2d"), clip.visual("3d")
        clip.put_sound(audio[offsets[row] : offsets[row + 1]])
        clip.parts.clear()  # or all spectrograms would be in memory twice
    return video_2d, video_3d, audio, offsets


def _warnings(path: Path, clips: Sequence[_Clip]) -> list[str]:
    """One line for each kind of oddity, logged as well."""
    lines = []
    for kind, what in _KEPT.items():
        ids = [clip.clip_id for clip in clips if kind in clip.odd]
        if ids:
            shown = ", ".join(ids[:_SHOWN]) + ", …" * (len(ids) > _SHOWN)
            lines.append(f"{len(ids)} of {len(clips)} clips {what} ({shown})")
            _log.warning("%s: %s", path, lines[-1])
    return lines


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


def _kind(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
