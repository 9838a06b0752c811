"""The one way to read an annotation: the name of its format, and its files by the names that its parser gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path

from avpipe.errors import AvpipeError
from avpipe.sources.annotations.clips import Annotations

FORMATS = ("activitynet", "crosstask", "howto100m", "msrvtt", "ucf101", "vggsound", "youcook2", "youcook_japanese")
"""Each is a module of this package with a function `parse`."""

ANNOTATION = "annotation"


def read_annotations(format: str, paths: Mapping[str, Path]) -> Annotations:
    """Read a dataset's annotation.

    Args:
        format: one of `FORMATS`.
        paths: name -> file. `annotation` is what the format's `parse` takes first (of CrossTask the unpacked folder),
            the others, which may be left out, are called as its further parameters.

    Raises:
        AvpipeError: there is no such format, it takes other files, or a file is not as it should be.
    """
    if format not in FORMATS:
        raise AvpipeError(f"There is no annotation format {format!r}. Name one of {', '.join(FORMATS)}.")
    parse: Callable[..., Annotations] = import_module(f"{__package__}.{format}").parse
    others = list(signature(parse).parameters)[1:]
    if ANNOTATION not in paths or (unknown := sorted(paths.keys() - {ANNOTATION, *others})):
        found = f"has no file for {ANNOTATION!r}" if ANNOTATION not in paths else f"takes no {', '.join(unknown)}"
        may = f" and may have {', '.join(others)}" if others else " alone"
        raise AvpipeError(f"The annotation format {format} {found}. Name its files: it needs {ANNOTATION}{may}.")
    return parse(paths[ANNOTATION], **{name: path for name, path in paths.items() if name != ANNOTATION})
