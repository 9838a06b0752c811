"""The files of a trained seed: what is in them, and whether they belong to a run.

Beside a run's training.json each seed has a folder `seed<seed>` with `model.pt` (a bare state dict under the
published names, which the published code loads), `epochs.csv` and `seed.json`; an interrupted run leaves `resume.pt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.formats.weights import file_sha256
from avpipe.training import checkpoint
from avpipe.training.loop import Row
from avpipe.training.seed_files import check_listed, seed_folder, write_results

MODEL, SUMMARY = "model.pt", "seed.json"


def seed_model(training: Path, seed: int, sha256: str) -> Path:
    """The checkpoint of a seed beside a training.json.

    Raises:
        AvpipeError: it is not there, or another than training.json lists.
    """
    path = seed_folder(training.parent, seed) / MODEL
    check_listed(path, sha256, training)
    return path


def finished(folder: Path, fingerprint: checkpoint.Fingerprint) -> bool:
    """Whether this very training has been finished in the seed's folder before."""
    try:
        stored = json.loads((folder / SUMMARY).read_text("utf-8"))
        is_same = stored["fingerprint"] == fingerprint and stored["result"]["sha256"] == file_sha256(folder / MODEL)
    except (OSError, ValueError, KeyError, TypeError, AvpipeError):
        return False  # nothing, or not whole: it is trained again and replaced
    return bool(is_same)


def write_seed(
    folder: Path,
    state_dict: Mapping[str, Tensor],
    history: list[Row],
    result: Mapping[str, Any],
    fingerprint: checkpoint.Fingerprint,
) -> None:
    """Write a seed's three files, `seed.json` last, then drop the resume file; the model's sha256 joins the result."""
    checkpoint.save(folder / MODEL, state_dict)
    result = {"sha256": file_sha256(folder / MODEL), **result}
    write_results(folder, history, (SUMMARY, {"fingerprint": fingerprint, "result": result}))
