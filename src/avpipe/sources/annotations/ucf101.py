"""UCF-101: the official lists; class and clip are in each file's path. Counts and traps: docs/sources.md, UCF-101."""

from __future__ import annotations

import re
from pathlib import Path

from avpipe.sources.annotations.clips import AnnotatedClip, Annotations, Misfit, checked, parsing, read_lines

EXPECTED = "a list of UCF-101 (<class>/v_<class>_gNN_cNN.avi, and a number in lists for training)"
_NAME = re.compile(r"v_([A-Za-z]+)_g\d\d_c\d\d")
# Some copies spell the file names of this class with a small letter, the benchmark's csv files do not.
_SPELT_OTHERWISE = {"HandstandPushups": "HandStandPushups"}


def parse(path: Path, test: Path | None = None) -> Annotations:
    """The clips of a list (trainlist01.txt) and of a second one (testlist01.txt), each a subset named after its file.

    Both lists of a split have every clip of the dataset.
    """
    clips: list[AnnotatedClip] = []
    odd = 0
    for each in (path, test):
        if each is not None:
            with parsing(each, EXPECTED):
                for number, line in enumerate(read_lines(each), 1):
                    clip = _clip(line, each.stem, f"line {number}")
                    odd += clip.class_name != clip.clip_id.split("_")[1]
                    clips.append(clip)
    with parsing(path, EXPECTED):
        return checked(clips, [f"{odd} files are not named after their folder"] if odd else [])


def _clip(line: str, subset: str, place: str) -> AnnotatedClip:
    path = line.split(" ")[0]
    folder, slash, name = path.partition("/")
    stem = name.removesuffix(".avi")
    found = _NAME.fullmatch(stem)
    if not slash or found is None or not folder.isalpha() or stem == name:
        raise Misfit(f"{place} is {line[:80]!r}")
    clip_id = spelt(stem)
    return AnnotatedClip(clip_id, clip_id, class_name=folder, subset=subset)


def spelt(stem: str) -> str:
    """A file's name without suffix in the spelling of the benchmark's csv files."""
    found = _NAME.fullmatch(stem)
    name = found[1] if found else ""
    return stem.replace(name, _SPELT_OTHERWISE[name]) if name in _SPELT_OTHERWISE else stem
