"""The published class-split folder: where it is, its class lists (txt) and its clip lists (csv), read and written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from avpipe.errors import AvpipeError, listed, repeated
from avpipe.io.atomic import write_text
from avpipe.io.csv_tables import dict_reader
from avpipe.io.manifest import verified
from avpipe.io.reading import reading

FOLDER_NAMES = ("class-split", "class_split", "class_splits")
"""The code that was published reads the first; its README writes the others."""

_COLUMNS = frozenset({"filename", "label", "label_code", "youtube_id", "start_seconds", "split", "category"})
_REQUIRED_COLUMNS = frozenset({"filename", "label"})
_SURPLUS = "(cells beyond the header)"


class ClassNames:
    """Spelling of the classes of a dataset: looks a name up exactly, else without regard to case if that is unique.

    UCF-101 needs it: HandstandPushups in all_class.txt and as a folder is HandStandPushups in lists and file
    names.
    """

    def __init__(self, all_classes: Iterable[str]) -> None:
        self.names = tuple(sorted(all_classes))
        self._exact = frozenset(self.names)
        self._folded: dict[str, list[str]] = {}
        for name in self.names:
            self._folded.setdefault(name.casefold(), []).append(name)

    def find(self, name: str) -> str | None:
        """The dataset's spelling of `name`, or None if it has no such class or several that differ in case only."""
        if name in self._exact:
            return name
        alike = self._folded.get(name.casefold(), [])
        return alike[0] if len(alike) == 1 else None


def find_folder(root: str | os.PathLike[str]) -> Path:
    """The folder with all_class.txt: `root` itself, or its class-split (or class_split, class_splits) folder.

    Raises:
        AvpipeError: there is none.
    """
    root = Path(root)
    for folder in (root, *(root / name for name in FOLDER_NAMES)):
        if (folder / "all_class.txt").is_file():
            return verified(folder, may_be_given=True)
    raise AvpipeError(
        f"{root} has no class-split/all_class.txt. Expected the published layout: class-split/all_class.txt "
        "and class-split/<split>/<subset>.txt and .csv; check the path of the split in the dataset's config."
    )


def read_all_classes(root: str | os.PathLike[str]) -> ClassNames:
    """Every class of the source dataset; a class id is the position in the sorted list.

    Source: docs/methods.md, Class lists.
    """
    path = find_folder(root) / "all_class.txt"
    return ClassNames(_read_lines(path))


def read_class_list(root: str | os.PathLike[str], split: str, subset: str, names: ClassNames) -> tuple[str, ...]:
    """The classes of `<split>/<subset>.txt`, sorted by code point, in the spelling of all_class.txt.

    Raises:
        AvpipeError: the file is absent or empty, or names a class twice or one that is not in all_class.txt.
    """
    path = _split_folder(root, split) / f"{subset}.txt"
    found = {line: names.find(line) for line in _read_lines(path)}
    unknown = [line for line, name in found.items() if name is None]
    if unknown:
        raise AvpipeError(f"{path} lists classes that all_class.txt lacks: {listed(unknown)}; correct one of the two.")
    return tuple(sorted({name for name in found.values() if name is not None}))


def read_clip_list(root: str | os.PathLike[str], split: str, subset: str, names: ClassNames) -> dict[str, str]:
    """clip id -> class of every row of `<split>/<subset>.csv`, in any of the three published column orders.

    Raises:
        AvpipeError: the file is absent; columns are unknown or lacking; a clip occurs twice; a class or its
            label_code does not agree with all_class.txt.
    """
    path = _split_folder(root, split) / f"{subset}.csv"
    reader = dict_reader(io.StringIO(_read_text(path), newline=""), *_COLUMNS, restkey=_SURPLUS)
    with reading(path, "a table of clips (CSV)", "Look for a quote that is not closed."):
        rows = list(reader)
    _check_columns(path, [*(reader.fieldnames or []), *({_SURPLUS} if any(_SURPLUS in row for row in rows) else ())])
    clips: dict[str, str] = {}
    twice: list[str] = []
    unknown: list[str] = []
    miscoded: list[str] = []
    class_ids = {name: str(i) for i, name in enumerate(names.names)}
    for row in rows:
        clip_id, name = row["filename"], names.find((row["label"] or "").strip())
        if clip_id in clips:
            twice.append(clip_id)
        if name is None:
            unknown.append(repr(row["label"]))
        elif row.get("label_code", class_ids[name]) != class_ids[name]:
            miscoded.append(f"{name} has {row['label_code']}, not {class_ids[name]}")
        clips[clip_id] = name or ""
    for problem, offenders in (
        ("rows with the same filename", twice),
        ("classes that all_class.txt lacks", set(unknown)),
        ("label codes that are not the class's position in the sorted all_class.txt", set(miscoded)),
    ):
        if offenders:
            raise AvpipeError(f"{path} has {problem}: {listed(offenders)}; correct the file.")
    return clips


def write_lists(
    root: str | os.PathLike[str],
    split: str,
    all_classes: Sequence[str],
    classes: Mapping[str, Iterable[str]],
    clips: Mapping[str, Mapping[str, str]],
) -> None:
    """Write `root`/class-split in the published layout, UCF's column order, sorted by name."""
    write_class_lists(root, split, all_classes, classes)
    folder = Path(root) / FOLDER_NAMES[0]
    class_ids = {name: i for i, name in enumerate(sorted(all_classes))}
    for subset in classes:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["filename", "label", "label_code"])
        writer.writerows([clip, name, class_ids[name]] for clip, name in sorted(clips[subset].items()))
        write_text(folder / split / f"{subset}.csv", text.getvalue())


def write_class_lists(
    root: str | os.PathLike[str], split: str, all_classes: Sequence[str], classes: Mapping[str, Iterable[str]]
) -> None:
    """Write the txt files of `root`/class-split alone."""
    folder = Path(root) / FOLDER_NAMES[0]
    write_text(folder / "all_class.txt", _lines(all_classes))
    for subset, names in classes.items():
        write_text(folder / split / f"{subset}.txt", _lines(names))


def _lines(names: Iterable[str]) -> str:
    return "".join(f"{name}\n" for name in sorted(names))


def _split_folder(root: str | os.PathLike[str], split: str) -> Path:
    folder = find_folder(root)
    path = folder / split
    if not path.is_dir() or path.parent != folder:
        there = listed(child.name for child in folder.iterdir() if child.is_dir())
        raise AvpipeError(f"{folder} has no split {split!r}; there are: {there}.")
    return path


def _read_lines(path: Path) -> list[str]:
    lines = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    if not lines:
        raise AvpipeError(f"{path} is empty; expected one class name a line.")
    if twice := repeated(lines):
        raise AvpipeError(f"{path} lists classes twice: {listed(twice)}; remove the surplus lines.")
    return lines


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise AvpipeError(
            f"{path} does not exist. The published splits are in https://github.com/ExplainableML/AVCA-GZSL; copies "
            "that leave out large files lack VGGSound's stage_1_train.csv and stage_2_train.csv. For a split of your "
            "own, write the file with the columns filename,label,label_code."
            if path.suffix == ".csv"
            else f"{path} does not exist; expected one class name a line, as in the published splits."
        )
    with reading(path, "text in UTF-8", "Save it as UTF-8."):
        return path.read_text(encoding="utf-8-sig")


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    unknown = [str(column) for column in columns if column not in _COLUMNS]
    absent = _REQUIRED_COLUMNS - set(columns)
    if unknown or absent:
        raise AvpipeError(
            f"{path} has the columns {', '.join(map(str, columns)) or '(none)'}; expected filename and label "
            f"and, as one likes, {', '.join(sorted(_COLUMNS - _REQUIRED_COLUMNS))}. Rename or remove the "
            "others."
        )
