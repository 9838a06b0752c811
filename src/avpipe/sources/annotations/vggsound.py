"""VGGSound: ten seconds of each video from a start on. Counts and irregularities: docs/sources.md, VGGSound."""

from __future__ import annotations

from pathlib import Path

from avpipe.sources.annotations.clips import (
    AnnotatedClip,
    Annotations,
    Misfit,
    checked,
    parsing,
    read_table,
    youtube_id,
)

EXPECTED = "VGGSound's list (vggsound.csv: video id, start, label, split)"
CLIP_SECONDS = 10
SUBSETS = ("train", "test")


def parse(path: Path) -> Annotations:
    """A clip for each row; several may be of one video."""
    with parsing(path, EXPECTED):
        clips = []
        for place, row in read_table(path, ("video_id", "start", "label", "split")):
            name, start = youtube_id(row["video_id"], place), row["start"]
            if not (start.isascii() and start.isdigit() and len(start) <= 6) or not row["label"]:
                raise Misfit(f"{place} has the start {start[:80]!r} and the label {row['label'][:80]!r}")
            if row["split"] not in SUBSETS:
                raise Misfit(f"{place} has the split {row['split'][:80]!r}, expected {' or '.join(SUBSETS)}")
            clips.append(
                AnnotatedClip(
                    f"{name}_{int(start):06d}",
                    name,
                    class_name=row["label"],
                    subset=row["split"],
                    start_seconds=float(start),
                    end_seconds=float(start) + CLIP_SECONDS,
                )
            )
        subsets = sorted({clip.subset for clip in clips})
        counts = ", ".join(f"{sum(clip.subset == name for clip in clips):,} {name}" for name in subsets)
        return checked(clips, [f"{len(clips):,} rows: {counts}"])
