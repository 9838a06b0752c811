"""The files of a feature tree: where each lies; `avpipe.formats.class_files` reads them.

Source: docs/methods.md, Feature files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.gzsl.class_split import ClassNames

MODALITIES = ("audio", "video")
AVERAGED = (
    "Expected one vector a clip, in .h5 files. Take the averaged features of the same name (cls_features, "
    "main_features), or extract features from videos."
)
"""What to do with features that are not averaged over time."""
_LONGEST_NAME_BYTES = 255  # of Linux file systems


def safe_name(name: str, suffix: str = "") -> str:
    """`name` + `suffix` if it can be the name of one file, unchanged.

    Raises:
        AvpipeError: it is empty, `.` or `..`, has a path separator or a control character, or is too long.
    """
    bad = name in ("", ".", "..") or any(c in "/\\" or ord(c) < 32 for c in name)
    if bad or len(os.fsencode(name + suffix)) > _LONGEST_NAME_BYTES:
        raise AvpipeError(
            f"The name {name[:80]!r} cannot be the name of a file; expected no '/', '\\' or control "
            f"character and at most {_LONGEST_NAME_BYTES - len(suffix)} bytes. Rename the class, split or "
            "feature set."
        )
    return name + suffix


def find_class_files(folder: Path, names: ClassNames, wanted: Iterable[str]) -> dict[str, Path]:
    """class -> its .h5 file; capitals may differ where no other class claims the file, other files are ignored.

    Raises:
        AvpipeError: the folder or the file of a wanted class is absent.
    """
    if not folder.is_dir():
        raise AvpipeError(f"{folder} does not exist; expected a feature tree in the published layout (build it first).")
    files = {path.stem: path for path in folder.iterdir() if path.suffix == ".h5" and path.is_file()}
    by_class: dict[str, Path] = {}
    for stem in sorted(files):
        name = names.find(stem)
        if name is not None and (name == stem or name not in files):
            by_class.setdefault(name, files[stem])
    lacking = sorted(set(wanted) - by_class.keys())
    if lacking:
        raise AvpipeError(
            f"{folder} has no .h5 file for {len(lacking)} of its classes: {', '.join(lacking[:10])}. Build "
            "the tree again, or fetch the features that belong to this split."
        )
    return by_class


def refuse_features_over_time(folder: Path) -> None:
    """Refuse a tree of pickles with features that are not averaged over time, as TCaF reads them.

    Raises:
        AvpipeError: audio/ or video/ has a folder with .pkl files and none of .h5.
    """
    for modality in MODALITIES:
        pickles = sorted((folder / modality).glob("*/*.pkl"))
        if pickles and not any((folder / modality).glob("*/*.h5")):
            raise AvpipeError(
                f"{folder} has a .pkl for each class, such as {pickles[0].relative_to(folder)}: features over time, "
                f"which TCaF reads (…_non_averaged). {AVERAGED}"
            )


def only_file(folder: Path, pattern: str) -> Path:
    """The one file in `folder` that matches `pattern`.

    Raises:
        AvpipeError: none or several do.
    """
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if len(found) != 1:
        raise AvpipeError(f"{folder} has {len(found)} files {pattern}; expected exactly one.")
    return found[0]
