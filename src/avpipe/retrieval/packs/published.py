"""The published code's clip pickles as packs, and packs as such pickles (docs/methods.md, Clip pickles)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avpipe.errors import AvpipeError
from avpipe.formats.clip_pickles import MEL_BANDS, read_clips
from avpipe.formats.pickle_writing import PlainArray, write_pickle
from avpipe.io.atomic import write_json
from avpipe.io.reading import reading
from avpipe.io.space import require_space
from avpipe.retrieval.packs.checks import PUBLISHED_PICKLE, check_structure
from avpipe.retrieval.packs.pack import ClipSource, Pack, PackInfo

Layout = Literal["youcook", "msrvtt"]


def read_clip_pickle(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> Pack:
    """A pickle of clips as the published loaders take it, in either layout, in the order of the file.

    What `write_clip_pickle` wrote beside it joins the provenance, if it is of this very file.
    `avpipe.formats.clip_pickles.read_clips` says what is read, and what is kept with a warning in `info.warnings`.

    Args:
        path: the file.
        max_bytes: as for `avpipe.formats.pickles.read_pickle`; two to three times the file's size is needed in memory.

    Raises:
        AvpipeError: as `read_clips`, or ids that no pack may have.
    """
    clips = read_clips(path, max_bytes=max_bytes)
    pack = Pack(
        ids=clips.ids,
        video_2d=clips.video_2d,
        video_3d=clips.video_3d,
        audio=clips.audio,
        offsets=clips.offsets,
        n_frames=np.diff(clips.offsets),
        captions=clips.captions,
        eval_captions=clips.eval_captions,
        sources=[ClipSource()] * len(clips.ids),
        info=PackInfo(
            PUBLISHED_PICKLE,
            clips.listed,
            clips.missing,
            clips.sha256,
            _provenance(Path(path), clips.sha256),
            clips.warnings,
        ),
    )
    check_structure(pack, str(path), clips.audio.shape, clips.audio.dtype)
    return pack


def write_clip_pickle(pack: Pack, path: str | os.PathLike[str], layout: Layout = "youcook") -> None:
    """Write a pack as a pickle that the published loaders read; equal packs give equal bytes.

    Visual vectors become float32 numpy arrays [2048], spectrograms float32 tensors [40, frames]. A clip without
    captions gets no 'caption', which only the text models ask for. Memory holds a few clips. A pickle has no place
    for what its numbers rest on: that goes into <path>.json.

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
    write_pickle(path, (_published(pack, index, layout) for index in range(len(pack))))
    with Path(path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    rests_on = {"pack_digest": pack.digest, "pack": asdict(pack.info), "libraries": {"avpipe": version("avpipe")}}
    write_json(f"{os.fspath(path)}.json", {"sha256": sha256, "layout": layout, **rests_on})


def _provenance(path: Path, sha256: str) -> dict[str, Any]:
    """The file's name, and what the JSON file beside it says of its features; a file changed since has none."""
    beside = Path(f"{path}.json")
    if beside.is_file():
        with reading(beside, "what a clip pickle rests on (JSON)", "Delete it, or write the pickle again."):
            made = json.loads(beside.read_text("utf-8"))
            parts = made["pack"]["provenance"] if made["sha256"] == sha256 else {}
            return {"file": path.name} | {name: part for name, part in parts.items() if isinstance(part, dict)}
    return {"file": path.name}


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
