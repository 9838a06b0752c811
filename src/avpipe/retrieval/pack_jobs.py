"""What the workflow's packing jobs do: find a subset's clips in the source and pack them, select their words."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

from avpipe.config.models import Source
from avpipe.errors import AvpipeError
from avpipe.retrieval.build_pack import PackClip, build_pack
from avpipe.retrieval.captions import read_captions
from avpipe.retrieval.packs import read_pack
from avpipe.retrieval.planning import clips_of, digest_of
from avpipe.retrieval.text import select_words

StrPath = str | os.PathLike[str]


def pack_subset(
    *,
    source: Source,
    made_folder: str,
    subset: str,
    digest: str | None,
    stores: Mapping[str, Sequence[str]],
    probes: Sequence[str],
    statuses: Sequence[str],
    min_audio_frames: int,
    window: int,
    pack: StrPath,
    summary: StrPath,
) -> None:
    """Pack the clips of a subset of the source.

    Args:
        source: the dataset's source.
        made_folder: where an embedded dataset lies.
        subset: its name.
        digest: `digest_of` the clips when the run was planned; None: not known then.
        stores, probes, statuses, min_audio_frames, window: as in `build_pack`.
        pack: the pack to write.
        summary: the JSON file to write.

    Raises:
        AvpipeError: the table changed since the run was planned, or as `build_pack`.
    """
    clips = clips_of(source, subset, made_folder)
    if digest is not None and digest_of(clips) != digest:
        raise AvpipeError(
            f"The table of clips changed while the run was starting: {subset} has other clips or captions than "
            "planned. Run the same command again."
        )
    build_pack(
        stores=stores,
        probes=probes,
        statuses=statuses,
        clips=[PackClip(clip.clip_id, clip.captions) for clip in clips],
        min_audio_frames=min_audio_frames,
        window=window,
        target=pack,
        summary=summary,
    )


def select_pack_words(pack: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in a pack's captions, as `avpipe.retrieval.text.select_words` does."""
    clips = read_pack(pack)
    select_words(model, itertools.chain(clips.eval_captions, *clips.captions), target)


def select_window_words(captions: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in captions of whole videos, as `avpipe.retrieval.text.select_words` does."""
    select_words(model, read_captions(captions).texts(), target)
