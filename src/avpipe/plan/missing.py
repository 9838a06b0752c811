"""What a run needs from outside and does not find, in words."""

from __future__ import annotations

import os
from pathlib import Path

from avpipe.plan.project import Project

WITHOUT_WEIGHTS = "random:<seed> to try the chain without them"


class Problem(str):
    """Something that is missing, in words, with the path where it was looked for, if one is set."""

    file = Path()


def missing_path(what: str, path: str | None, key: str, obtain: str) -> list[str]:
    """A problem if `path` does not exist: what it is, where it was looked for, which key to set, where to get it."""
    # os.path takes whatever a person may have written, such as a path that is too long; Path raises.
    if path and os.path.exists(path):  # noqa: PTH110
        return []
    looked = f"looked for {os.path.abspath(path)}; put it there or" if path else "no path is set;"  # noqa: PTH100
    where = f"; to be had from {obtain}" if obtain else ""
    problem = Problem(f"{what}: {looked} set {key}{where}")
    problem.file = Path(path or "")
    return [problem]


def missing_weights(project: Project, dataset: str, key: str, what: str, otherwise: str) -> list[str]:
    """A problem if the weights file of a key does not exist; `otherwise`: what can be done without it."""
    path = project.weights_file(dataset, key)
    if path.startswith("random:"):
        return []
    own = getattr(project.config.datasets[dataset].weights, key)
    place = f"datasets.{dataset}.weights.{key}" if own else f"weights.{key}"
    published = project.published(key)
    return missing_path(what, path, place, "; or ".join([*([published.where()] if published else []), otherwise]))
