"""The files of a trained seed: where they lie, what is in them, and whether they belong to a run.

Beside a run's training.json each seed has a folder `seed<seed>` with `model.pt` (a bare state dict under the
published names, which the published code loads), `epochs.csv` and `seed.json`; an interrupted run leaves `resume.pt`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.formats.weights import file_sha256
from avpipe.io import atomic
from avpipe.training import checkpoint

MODEL, EPOCHS, SUMMARY, RESUME = "model.pt", "epochs.csv", "seed.json", "resume.pt"


def seed_folder(folder: Path, seed: int) -> Path:
    """Where a seed's files lie among a run's."""
    return folder / f"seed{seed}"


def seed_model(training: Path, seed: int, sha256: str) -> Path:
    """The checkpoint of a seed beside a training.json.

    Raises:
        AvpipeError: it is not there, or another than training.json lists.
    """
    path = seed_folder(training.parent, seed) / MODEL
    if not path.is_file() or file_sha256(path) != sha256:
        what = "is another checkpoint than" if path.is_file() else "does not exist, though it is"
        raise AvpipeError(f"{path} {what} the one that {training} lists; remove {training} and run again.")
    return path


def finished(folder: Path, fingerprint: checkpoint.Fingerprint) -> dict[str, Any] | None:
    """The result of a seed if this very training has been finished in its folder before."""
    try:
        stored = json.loads((folder / SUMMARY).read_text("utf-8"))
        is_same = stored["fingerprint"] == fingerprint and stored["result"]["sha256"] == file_sha256(folder / MODEL)
    except (OSError, ValueError, KeyError, TypeError, AvpipeError):
        return None  # nothing, or not whole: it is trained again and replaced
    result: dict[str, Any] = stored["result"]
    return result if is_same else None


def write_seed(
    folder: Path,
    state_dict: Mapping[str, Tensor],
    history: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    fingerprint: checkpoint.Fingerprint,
) -> None:
    """Write a seed's three files, `seed.json` last, then drop the resume file; the model's sha256 joins the result."""
    checkpoint.save(folder / MODEL, state_dict)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    atomic.write_text(folder / EPOCHS, table.getvalue())
    summary = {"fingerprint": fingerprint, "result": {"sha256": file_sha256(folder / MODEL), **result}}
    atomic.write_json(folder / SUMMARY, summary)
    (folder / RESUME).unlink(missing_ok=True)
