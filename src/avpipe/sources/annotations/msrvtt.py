"""MSR-VTT: short videos, already cut, with twenty sentences each. Splits and traps: docs/sources.md, MSR-VTT."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from avpipe.sources.annotations.clips import (
    AnnotatedClip,
    Annotations,
    Misfit,
    checked,
    entry,
    parsing,
    read_json,
    read_lines,
    read_table,
)

EXPECTED = "MSR-VTT's annotation (videodatainfo_2017.json or MSRVTT_data.json)"
EXPECTED_LIST = "a list of MSR-VTT's videos (video0, video1, …)"
EXPECTED_TEST = "the list of MSR-VTT's retrieval test (columns video_id and sentence)"
_VIDEO = re.compile(r"video(0|[1-9]\d{0,4})")


def parse(
    path: Path, training: Path | None = None, validation: Path | None = None, test: Path | None = None
) -> Annotations:
    """A clip for each video.

    Args:
        path: the annotation.
        training, validation: lists of videos, a published split in place of the annotation's own: a video in neither
            is left out, none may be in both.
        test: the list of the retrieval test with one sentence for each video, which takes the place of the twenty;
            these videos get the subset `test`.
    """
    lists = {"training": training, "validation": validation}
    chosen = {name: set(read_list(each)) for name, each in lists.items() if each is not None}
    sentences = _test_sentences(test)
    with parsing(path, EXPECTED):
        content = read_json(path)
        captions: defaultdict[str, list[str]] = defaultdict(list)
        for number, each in enumerate(entry(content, "sentences", list, "the file")):
            place = f"sentence {number}"
            captions[entry(each, "video_id", str, place)].append(entry(each, "caption", str, place).strip())
        clips = []
        for number, each in enumerate(entry(content, "videos", list, "the file")):
            place = f"video {number}"
            name = _video(entry(each, "video_id", str, place), place)
            own = [entry(each, "split", str, place)]
            places = [subset for subset, members in chosen.items() if name in members] if chosen else own
            if name in sentences:
                places = ["test"]
            if len(places) > 1:
                raise Misfit(f"{name} is in several subsets: {', '.join(places)}")
            if places:
                said = (sentences[name],) if name in sentences else tuple(captions[name])
                category = str(entry(each, "category", int, place))
                clips.append(AnnotatedClip(name, name, class_name=category, subset=places[0], captions=said))
        wordless = sum(not clip.captions for clip in clips)
        return checked(clips, [f"{wordless} videos have no sentence"] if wordless else [])


def read_list(path: Path) -> list[str]:
    """The videos of a list: one a line, or the column video_id of a csv file.

    Raises:
        AvpipeError: something else is in it, or a video twice.
    """
    with parsing(path, EXPECTED_LIST):
        lines = read_lines(path)
        if lines[:1] == ["video_id"]:
            lines = [row["video_id"].strip() for _, row in read_table(path, has_last_end=True)]
        videos = [_video(line, f"line {number}") for number, line in enumerate(lines, 1)]
        if not videos or len(set(videos)) != len(videos):
            raise Misfit("it is empty" if not videos else "a video is in it twice")
        return videos


def _test_sentences(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    with parsing(path, EXPECTED_TEST):
        found: dict[str, str] = {}
        for place, row in read_table(path, has_last_end=True):
            if missing := {"video_id", "sentence"} - row.keys():
                raise Misfit(f"the header lacks {', '.join(sorted(missing))}")
            name = _video(row["video_id"], place)
            if name in found:
                raise Misfit(f"{place} has {name} a second time")
            found[name] = row["sentence"].strip()
        return found


def _video(name: str, place: str) -> str:
    if not _VIDEO.fullmatch(name):
        raise Misfit(f"{place} has the video {name[:80]!r}, expected video<number>")
    return name
