"""YouCook2: segments of cooking videos with a sentence each. Counts and irregularities: docs/sources.md, YouCook2."""

from __future__ import annotations

from pathlib import Path

from avpipe.sources.annotations.clips import (
    AnnotatedClip,
    Annotations,
    Misfit,
    checked,
    entry,
    parsing,
    read_json,
    read_table,
    seconds,
    segment,
    youtube_id,
)

EXPECTED = "YouCook2's annotation (youcookii_annotations_trainval.json)"
EXPECTED_TEST = "the list of YouCook2's retrieval test (columns end, start, task, text, video_id)"
EXPECTED_RECIPES = "YouCook2's list of recipes (label_foodtype.csv: number, name)"
TEST = "test"


def parse(path: Path, test: Path | None = None, recipes: Path | None = None) -> Annotations:
    """A clip for each annotation, named <video>_<position>.

    Args:
        path: the annotation.
        test: the list of the retrieval test, whose clips get the subset `test`; the others keep theirs.
        recipes: names of the recipe types, which become the classes; without them their numbers do.
    """
    names = _recipe_names(recipes)
    in_test = _test_clips(test)
    with parsing(path, EXPECTED):
        clips, other_address = [], []
        for name, video in entry(read_json(path), "database", dict, "the file").items():
            place = f"video {name[:40]!r}"
            youtube_id(name, place)
            if not entry(video, "video_url", str, place).endswith(name):
                other_address.append(name)
            clips += _clips(name, video, names, in_test, place)
        notes = [f"the address of {name} is that of another video; its key counts" for name in other_address]
        if (in_annotation := sum(clip.subset == TEST for clip in clips)) < len(in_test):
            raise Misfit(f"{len(in_test) - in_annotation} clips of the list {test} are not in it")
        return checked(clips, notes)


def _clips(
    name: str, video: object, names: dict[str, str], in_test: set[tuple[str, float, float, str]], place: str
) -> list[AnnotatedClip]:
    subset, recipe = entry(video, "subset", str, place), entry(video, "recipe_type", str, place)
    if names and recipe not in names:
        raise Misfit(f"{place} has the recipe type {recipe[:80]!r}, which the list of recipes lacks")
    length = seconds(entry(video, "duration", (int, float), place), place)
    clips = []
    for number, each in enumerate(entry(video, "annotations", list, place)):
        where = f"{place}, annotation {number}"
        if entry(each, "id", int, where) != number:
            raise Misfit(f"{where} has the id {each['id']}, expected its position")
        start, end = segment(each, where)
        sentence = entry(each, "sentence", str, where).strip()
        is_test = (name, start, end, sentence) in in_test
        clips.append(
            AnnotatedClip(
                f"{name}_{number}",
                name,
                class_name=names.get(recipe, recipe),
                subset=TEST if is_test else subset,
                captions=(sentence,),
                start_seconds=start,
                end_seconds=end,
                video_seconds=length,
            )
        )
    return clips


def _recipe_names(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    with parsing(path, EXPECTED_RECIPES):
        return {
            row["number"]: row["name"].strip() for _, row in read_table(path, ("number", "name"), has_last_end=True)
        }


def _test_clips(path: Path | None) -> set[tuple[str, float, float, str]]:
    if path is None:
        return set()
    with parsing(path, EXPECTED_TEST):
        found = set()
        for place, row in read_table(path, has_last_end=True):
            if missing := {"end", "start", "text", "video_id"} - row.keys():
                raise Misfit(f"the header lacks {', '.join(sorted(missing))}")
            name = youtube_id(row["video_id"], place)
            found.add((name, seconds(row["start"], place), seconds(row["end"], place), row["text"].strip()))
        return found
