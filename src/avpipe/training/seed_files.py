"""The files of a training with one seed: where they lie, how they are written, and whether a model is the listed one.

A job lists its seeds in a training.json; beside it each seed has a folder. The task decides what else lies in there.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.io import atomic
from avpipe.io.manifest import write_json

if TYPE_CHECKING:
    from avpipe.training.loop import Row

EPOCHS, RESUME = "epochs.csv", "resume.pt"


def seed_folder(folder: Path, seed: int) -> Path:
    """Where a seed's files lie among a run's."""
    return folder / f"seed{seed}"


def write_results(folder: Path, model: str, history: list[Row], summary: tuple[str, Any]) -> None:
    """Write epochs.csv and the summary, when the model is there already; then the resume file is not needed any more.

    Args:
        folder: of the seed.
        model: name of the model's file, which joins the manifest of the summary.
        history: a row for each epoch, all with the same columns.
        summary: name and content of the JSON file that says what was trained: it comes last, so that there is none
            where a training was not written whole.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    atomic.write_text(folder / EPOCHS, table.getvalue())
    name, content = summary
    write_json(folder / name, content, beside=[folder / model])
    (folder / RESUME).unlink(missing_ok=True)


def check_listed(model: Path, sha256: str | None, training: Path) -> None:
    """Check that a seed's model is the one that a training.json lists.

    Args:
        model: the file.
        sha256: the checksum that is listed.
        training: the training.json.

    Raises:
        AvpipeError: it is not there, or another.
    """
    if not model.is_file() or file_sha256(model) != sha256:
        what = "is another checkpoint than" if model.is_file() else "does not exist, though it is"
        raise AvpipeError(f"{model} {what} the one that {training} lists; remove {training} and run again.")
