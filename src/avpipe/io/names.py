"""Paths as results name them: without the folders of the machine that made them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

# From the slash that begins an absolute path up to its last part.
_FOLDERS = re.compile(r"""(?:(?<![^\s"'(\[{=,;])|(?<=file:))/+(?:[^\s/]+/+)*(?=[^\s/'",;)])""")


def relative_name(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """A path relative to a folder that it lies in; its last part where it lies elsewhere, unless it is relative."""
    path = Path(path)
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return path.name if path.is_absolute() else str(path)


def without_folders(value: Any) -> Any:
    """Plain values with only the last part left of every absolute path in their texts; keys of dicts stay."""
    if isinstance(value, str):
        return _without_folders(value) if "/" in value else value
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    return [without_folders(each) for each in value] if isinstance(value, list | tuple) else value


def _without_folders(text: str) -> str:
    # A text that is a path may have blanks in it.
    return Path(text).name if text.startswith("/") and ": " not in text else _FOLDERS.sub("", text)
