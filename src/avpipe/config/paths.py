"""Names and paths in the configuration."""

from __future__ import annotations

import os

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What the name of a dataset, split or feature set may look like: names become folders."""


def expand_home(path: str | None) -> str | None:
    """A path with `~` replaced by the home folder, as a shell does."""
    return None if path is None else os.path.expanduser(path)  # noqa: PTH111 - Path would change "" into "."


def check_input(path: str | None) -> str | None:
    """Like `expand_home`, for a path that becomes an input of a rule, where Snakemake gives braces a meaning."""
    if path is not None and ("{" in path or "}" in path):
        raise ValueError("Snakemake takes { and } for wildcards; rename the file or folder, or set a link to it")
    return expand_home(path)
