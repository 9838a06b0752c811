"""ActivityNet 1.3: segments of videos with labels. Counts and irregularities: docs/sources.md, ActivityNet."""

from __future__ import annotations

from pathlib import Path

from avpipe.sources.annotations.clips import (
    AnnotatedClip,
    Annotations,
    checked,
    entry,
    parsing,
    read_json,
    seconds,
    segment,
    youtube_id,
)

EXPECTED = "ActivityNet's annotation (activity_net.v1-3.min.json)"


def parse(path: Path) -> Annotations:
    """A clip for each annotation of the training and validation videos, numbered in the order of the file.

    Segments are never sorted, and repeats are kept: a clip's number is its name in the splits.
    """
    with parsing(path, EXPECTED):
        clips: list[AnnotatedClip] = []
        without_labels = 0
        for name, video in entry(read_json(path), "database", dict, "the file").items():
            place = f"video {name[:40]!r}"
            subset = entry(video, "subset", str, place)
            annotations = entry(video, "annotations", list, place)
            if subset == "testing":
                without_labels += 1
                continue
            length = seconds(entry(video, "duration", (int, float), place), place)
            for number, each in enumerate(annotations):
                start, end = segment(each, f"{place}, annotation {number}")
                label = entry(each, "label", str, f"{place}, annotation {number}")
                clips.append(
                    AnnotatedClip(
                        f"{youtube_id(name, place)}_{number}",
                        name,
                        class_name=label.replace(" ", ""),
                        subset=subset,
                        start_seconds=start,
                        end_seconds=end,
                        video_seconds=length,
                    )
                )
        return checked(clips, _notes(clips, without_labels))


def _notes(clips: list[AnnotatedClip], without_labels: int) -> list[str]:
    empty = sum(clip.is_empty for clip in clips)
    late = sum((clip.end_seconds or 0) > (clip.video_seconds or 0) for clip in clips)
    notes = [f"{without_labels} videos for testing have no labels and give no clips"] if without_labels else []
    notes += [f"{empty} segments end where they start and are too short"] if empty else []
    return notes + ([f"{late} segments end after their video and are cut at its end"] if late else [])
