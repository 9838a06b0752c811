"""HowTo100M: a list of whole videos, and the captions of their speech. What is known: docs/sources.md, HowTo100M."""

from __future__ import annotations

from pathlib import Path

from avpipe.formats.howto100m import read_caption_columns, read_list
from avpipe.sources.annotations.clips import AnnotatedClip, Annotations, Misfit, checked, parsing, youtube_id

EXPECTED = "HowTo100M's list of videos (HowTo100M_1166_videopaths.txt: category/folder/video id)"
EXPECTED_CAPTIONS = "HowTo100M's captions (caption.json)"


def parse(path: Path, captions: Path | None = None) -> Annotations:
    """A clip for each video of the list, which is the whole video; its class is the category, the path's first folder.

    Args:
        path: the list.
        captions: caption.json, which is read once from beginning to end, one video at a time. The captions are counted
            and not kept, since all of HowTo100M has 136 million: `avpipe.retrieval.captions` keeps them compactly.
    """
    rows = read_list(path)
    with parsing(path, EXPECTED):
        clips = []
        for number, row in enumerate(rows, 1):
            category, _, rest = row.rpartition("/")[0].partition("/")
            name = youtube_id(row.rpartition("/")[2], f"video {number}")
            clips.append(AnnotatedClip(name, name, class_name=category if rest else ""))
        notes = [f"{len(clips):,} videos of {len({clip.class_name for clip in clips}):,} categories"]
        found = checked(clips)
    if captions is not None:
        notes.append(_count(captions, {clip.video_id for clip in found.clips}))
    return Annotations(found.clips, tuple(notes))


def _count(captions: Path, listed: set[str]) -> str:
    with_captions: set[str] = set()
    n_captions, others = 0, 0
    with parsing(captions, EXPECTED_CAPTIONS):
        for name, (start, end, text) in read_caption_columns(captions):
            if not len(start) == len(end) == len(text):
                raise Misfit(f"video {name[:80]!r} has {len(start)} starts, {len(end)} ends and {len(text)} texts")
            if name in with_captions:
                raise Misfit(f"video {name!r} is in it twice")
            if name in listed:
                with_captions.add(name)
                n_captions += len(start)
            else:
                others += 1
    return (
        f"{n_captions:,} captions of {len(with_captions):,} videos; {len(listed) - len(with_captions):,} videos have "
        f"none; {others:,} videos with captions are not in the list"
    )
