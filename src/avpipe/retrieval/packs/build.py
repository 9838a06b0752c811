"""Packs of one's own clips, put together from feature stores shard by shard, and of published files."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, Reason
from avpipe.features.store import read_clips, read_pooled, read_provenance, read_source_keys
from avpipe.formats.clip_pickles import MEL_BANDS
from avpipe.inventory.accounting import make_account
from avpipe.inventory.probing import ProbedClip, read_probed
from avpipe.io.manifest import write_json
from avpipe.retrieval.packs.checks import EXTRACTED
from avpipe.retrieval.packs.files import pack_writer, read_pack, write_pack
from avpipe.retrieval.packs.pack import FRAMES_PER_SECOND, ClipSource, Pack, PackInfo
from avpipe.retrieval.packs.published import read_clip_pickle
from avpipe.retrieval.store_corpus import STREAMS
from avpipe.schema.retrieval import CaptionCounts, LongerClips, LongestClip, PackSummary

_SHOWN = 5


def build_pack(
    *,
    stores: Mapping[str, Sequence[str]],
    probes: Sequence[str],
    statuses: Sequence[str],
    captions: Mapping[str, tuple[str, ...]],
    min_audio_frames: int,
    window: int,
    target: str | os.PathLike[str],
    summary: str | os.PathLike[str],
    folder: str = "",
) -> None:
    """Write a pack of those clips that have sound and both visual vectors, sorted by id, and its summary.

    Of the source's clips with the same content, whatever their subset, the first by clip id alone is used.

    Spectrograms are read twice, for their lengths and to be written, one clip in memory at a time. Clips without
    features are listed with the reason of the stage that they failed in; short and silent ones are set aside here.

    Args:
        stores: "video_2d", "video_3d" and "audio" -> the feature stores of ResNet-152, ResNeXt-101 and the
            spectrogram for every shard.
        probes: the probe table of every shard.
        statuses: the status tables of the three extractors and of what came before, as in `make_account`.
        captions: wanted clip, a part of the inventory -> its captions, any number.
        min_audio_frames: clips with fewer spectrogram frames are too short.
        window: spectrogram frames that the networks read, for the summary.
        target: the pack to write.
        summary: the JSON file to write, as `summarise_pack` says.
        folder: what paths are told relative to.

    Raises:
        AvpipeError: a clip that is not in the inventory, tables and stores that contradict each other, features of
            different settings, zero or not finite, or no clip that has all.
        OSError: the disk is full.
    """
    wanted, probed = (
        captions.keys(),
        {clip.clip_id: clip for each in probes for clip in read_probed(each, only_ok=False)},
    )
    _require_known(wanted, probed)
    account = make_account(probes, statuses, folder=folder)
    failed = {row["clip_id"]: row for row in account["failed"] if row["clip_id"] in wanted}
    found = _look_through(stores, wanted - failed.keys())
    missing = {clip_id: _missing_clip(clip_id, row["reason"], row["detail"]) for clip_id, row in failed.items()}
    missing |= _set_aside(found, min_audio_frames)
    ids = [clip_id for clip_id in sorted(wanted) if clip_id not in missing]
    if not ids:
        raise _none_left(target, missing)
    keys = json.dumps([(clip_id, found.source_keys[clip_id]) for clip_id in ids])
    info = PackInfo(
        origin=EXTRACTED,
        expected=len(wanted),
        missing=[missing[clip_id] for clip_id in sorted(missing)],
        sha256=hashlib.sha256(keys.encode()).hexdigest(),
        provenance={part: _provenance(part, stores[part]) for part in STREAMS},
    )
    _write(target, {clip_id: captions[clip_id] for clip_id in ids}, probed, stores, found, info)
    write_json(summary, summarise_pack(read_pack(target), window=window).to_json())


def _none_left(target: str | os.PathLike[str], missing: Mapping[str, Mapping[str, str]]) -> AvpipeError:
    reasons = dict(Counter(clip["reason"] for clip in missing.values()))
    return AvpipeError(
        f"{target}: none of the {len(missing)} wanted clips has sound and pictures: {reasons}. Expected one at least; "
        "the dataset's accounting.json has the details."
    )


def import_pack(
    source: str | os.PathLike[str],
    *,
    window: int,
    target: str | os.PathLike[str],
    summary: str | os.PathLike[str],
    expected: int | None = None,
) -> None:
    """Write the pack and summary of a file that is given: a published clip pickle, or a pack.

    Args:
        source: the file.
        window, target, summary: as in `build_pack`.
        expected: clips that the benchmark has; None: as many as the file lists.

    Raises:
        AvpipeError: as `read_clip_pickle` and `read_pack`, or the file has more clips than `expected`.
        OSError: the disk is full.
    """
    is_pack = Path(source).is_file() and h5py.is_hdf5(source)
    pack = read_pack(source) if is_pack else read_clip_pickle(source)
    if expected is not None:
        if expected < len(pack):
            raise AvpipeError(
                f"{source} has {len(pack)} clips, more than the {expected} that are expected of it. Correct `expected` "
                "of this subset, or check the path."
            )
        pack = replace(pack, info=replace(pack.info, expected=expected))
    write_pack(target, pack)
    write_json(summary, summarise_pack(read_pack(target), window=window).to_json())


def summarise_pack(pack: Pack, *, window: int) -> PackSummary:
    """Clips that a pack has and lacks, and how long they are.

    Args:
        pack: the clips.
        window: spectrogram frames that the networks read of a clip.
    """
    info = pack.info
    longest = int(np.argmax(pack.n_frames))
    longer = int((pack.n_frames > window).sum())
    return PackSummary(
        origin=info.origin,
        sha256=info.sha256,
        digest=pack.digest,
        expected=info.expected,
        used=len(pack),
        missing=dict(sorted(Counter(clip["reason"] for clip in info.missing).items())),
        missing_clips=info.missing,
        unlisted=info.expected - len(pack) - len(info.missing),
        silent_clips=[clip_id for index, clip_id in enumerate(pack.ids) if _is_silent(pack, index)],
        total_seconds=int(pack.n_frames.sum()) / FRAMES_PER_SECOND,
        longest=LongestClip(clip_id=pack.ids[longest], seconds=int(pack.n_frames[longest]) / FRAMES_PER_SECOND),
        longer_than_window=LongerClips(window_frames=window, clips=longer, share=longer / len(pack)),
        captions=CaptionCounts(
            total=sum(map(len, pack.captions)), clips_without=sum(not captions for captions in pack.captions)
        ),
        warnings=info.warnings,
        provenance=info.provenance,
    )


def _is_silent(pack: Pack, index: int) -> bool:
    """Whether a spectrogram is all zeros; most are told by their first frame, so little of the file is read."""
    spectrogram = pack.spectrogram(index)
    return not spectrogram[0].any() and not spectrogram.any()


def _require_known(wanted: Set[str], probed: Mapping[str, ProbedClip]) -> None:
    unknown = sorted(wanted - set(probed))
    if unknown:
        raise AvpipeError(
            f"{len(unknown)} of {len(wanted)} wanted clips are not in the source, such as {unknown[:_SHOWN]}. Correct "
            "the table of clips, or run the command again if it has changed."
        )


@dataclass
class _Found:
    """What the stores have of the wanted clips.

    Attributes:
        vectors: "video_2d" and "video_3d" -> clip -> float32 [2048].
        lengths: clip -> spectrogram frames.
        silent: clips whose spectrogram is all zeros.
        source_keys: clip -> digest of the content that all its features were computed from.
        dtype: of the spectrograms.
    """

    vectors: dict[str, dict[str, npt.NDArray[np.float32]]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    source_keys: dict[str, str] = field(default_factory=dict)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float16))


def _look_through(stores: Mapping[str, Sequence[str]], wanted: set[str]) -> _Found:
    """The first of two passes: everything but the spectrograms themselves."""
    found = _Found()
    for clip_id, values, key in _spectrograms(stores, wanted):
        found.lengths[clip_id] = len(values)
        found.source_keys[clip_id] = key
        found.dtype = np.result_type(found.dtype, values)
        if not values.any():
            found.silent.add(clip_id)
    keys = {"audio": found.source_keys}
    for part in ("video_2d", "video_3d"):
        vectors = found.vectors[part] = {}
        keys[part] = {}
        for store in stores[part]:
            ids, pooled = read_pooled(store, STREAMS[part])
            vectors.update({each: row for each, row in zip(ids, pooled, strict=True) if each in wanted})
            keys[part].update({each: key for each, key in read_source_keys(store).items() if each in wanted})
    for part, known in keys.items():
        lacking = sorted(wanted - set(known))
        stale = sorted(each for each in wanted - set(lacking) if known[each] != found.source_keys.get(each))
        for problem, those in (("lack", lacking), ("have features of another version of", stale)):
            if those:
                raise AvpipeError(
                    f"The feature stores of {part} ({stores[part][0]} …) {problem} {len(those)} clips, such as "
                    f"{those[0]!r}, for which the status tables say ok. Run the command again that made the features."
                )
    return found


def _set_aside(found: _Found, min_audio_frames: int) -> dict[str, dict[str, str]]:
    """The clips that have all features and are not used all the same: too short, or silent."""
    missing = {}
    for clip_id, n_frames in found.lengths.items():
        seconds = n_frames / FRAMES_PER_SECOND
        if n_frames < min_audio_frames:
            asked = f"at least {min_audio_frames} are asked for (retrieval.min_audio_frames)"
            detail = f"{n_frames} spectrogram frames ({seconds:g} s), {asked}"
            missing[clip_id] = _missing_clip(clip_id, Reason.TOO_SHORT.value, detail)
        elif clip_id in found.silent:
            missing[clip_id] = _missing_clip(clip_id, Reason.NO_AUDIO.value, f"digital silence of {seconds:g} s")
    return missing


def _missing_clip(clip_id: str, reason: str, detail: str) -> dict[str, str]:
    return {"clip_id": clip_id, "reason": reason, "detail": detail}


def _spectrograms(
    stores: Mapping[str, Sequence[str]], wanted: set[str]
) -> Iterator[tuple[str, npt.NDArray[np.floating], str]]:
    """Id, spectrogram [T, 40] and source key of the wanted clips, shard by shard."""
    for store in stores["audio"]:
        for clip in read_clips(store):
            if clip.clip_id in wanted:
                yield clip.clip_id, clip.streams[STREAMS["audio"]].values, clip.source_key


def _provenance(part: str, stores: Sequence[str]) -> dict[str, Any]:
    """What the features of a part depend on, the same in all shards."""
    first = read_provenance(stores[0])
    for store in stores[1:]:
        if read_provenance(store) != first:
            raise AvpipeError(
                f"{store} and {stores[0]} hold {part} features of different settings or weights; run the command again "
                "that made them."
            )
    return first


def _write(
    target: str | os.PathLike[str],
    captions: Mapping[str, tuple[str, ...]],
    probed: Mapping[str, ProbedClip],
    stores: Mapping[str, Sequence[str]],
    found: _Found,
    info: PackInfo,
) -> None:
    """The second pass."""
    ids = list(captions)

    def stacked(part: str) -> npt.NDArray[np.float32]:
        return np.stack([found.vectors[part][clip_id] for clip_id in ids]).astype(np.float32, copy=False)

    lengths = np.array([found.lengths[clip_id] for clip_id in ids], np.int64)
    places = [probed[clip_id] for clip_id in ids]
    pack = Pack(
        ids=ids,
        video_2d=stacked("video_2d"),
        video_3d=stacked("video_3d"),
        audio=np.empty((0, MEL_BANDS), found.dtype),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        n_frames=lengths,
        captions=list(captions.values()),
        eval_captions=[""] * len(ids),
        sources=[ClipSource(str(each.path), each.start_seconds, each.end_seconds) for each in places],
        info=info,
    )
    rows = {clip_id: row for row, clip_id in enumerate(ids)}
    with pack_writer(target, pack, found.dtype) as put:
        for clip_id, values, _ in _spectrograms(stores, set(rows)):
            put(rows[clip_id], values)
