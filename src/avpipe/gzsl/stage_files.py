"""The files of a training stage: where they lie, what is in them, and whether they belong to a run.

A stage's folder has `checkpoint.pt`, `epochs.csv` and `stage.json`; an interrupted stage leaves `resume.pt`. Stage 2's
may also have what `avpipe.gzsl.scores` says. Nothing here imports torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.io.manifest import read_json, verified
from avpipe.training.seed_files import check_listed, seed_folder

log = logging.getLogger(__name__)

CHECKPOINT, SUMMARY = "checkpoint.pt", "stage.json"


def stage_folder(folder: Path, seed: int, stage: int) -> Path:
    """Where a seed's stage lies among a method's runs."""
    return seed_folder(folder, seed) / f"stage{stage}"


@dataclass(frozen=True)
class StageResult:
    """What a finished stage hands on; `stage.json` has the same fields.

    Attributes:
        stage: 1 or 2.
        method: name of the method.
        seed: of weights, dropout and pairs.
        best_epoch: 0-based epoch of the checkpoint: stage 1's best; stage 2 repeats it.
        beta: calibration constant for the test (mean over the method's calibration modes).
        betas: mode -> its best beta on the validation clips (stage 1's in both stages).
        metrics: mode -> seen, unseen, hm, zsl (0 to 1) and beta of the checkpoint on the clips that it was scored on.
        scored_on: validation clips in stage 1; in stage 2 these are training clips, or it is test clips.
        learning_rates: of every epoch that ran.
        classes: number of training classes; clips: number of training clips.
        fingerprint: digests of data, settings and method, the seed and the stage's version.
    """

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)

    stage: int
    method: str
    seed: int
    best_epoch: int
    beta: float
    betas: dict[str, float]
    metrics: dict[str, dict[str, float]]
    scored_on: str
    learning_rates: list[float]
    classes: int
    clips: int
    fingerprint: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> StageResult:
        """Read a `stage.json`.

        Raises:
            AvpipeError: missing file, or not one of this version.
        """
        try:
            result = TypeAdapter(cls).validate_json(verified(path).read_bytes(), strict=True)
        except (OSError, ValueError) as error:
            raise AvpipeError(f"Cannot read {path} ({error}); remove it and train that stage again.") from error
        if not 0 <= result.best_epoch < len(result.learning_rates):
            raise AvpipeError(
                f"{path} says that epoch {result.best_epoch} of {len(result.learning_rates)} was the best; remove it "
                "and train that stage again."
            )
        return result


def finished(folder: Path, fingerprint: Mapping[str, str]) -> StageResult | None:
    """The stage's result if this very stage has been finished here before."""
    if not (folder / SUMMARY).is_file() or not (folder / CHECKPOINT).is_file():
        return None
    try:
        result = StageResult.read(folder / SUMMARY)
    except AvpipeError as error:
        log.warning("Training again: %s", error)
        return None
    return result if result.fingerprint == fingerprint else None


def summarise_seed(folder: Path, seed: int) -> dict[str, Any]:
    """Both stages' results of a seed and the digest of the checkpoint that is tested."""
    stages = {
        f"stage{stage}": asdict(StageResult.read(stage_folder(folder, seed, stage) / SUMMARY)) for stage in (1, 2)
    }
    return stages | {"checkpoint_sha256": file_sha256(stage_folder(folder, seed, 2) / CHECKPOINT)}


def check_seeds(training: Path, seeds: Sequence[int]) -> dict[int, str]:
    """Check that the checkpoints beside a training.json are those that it lists.

    Returns:
        seed -> digest of its stage-2 checkpoint.

    Raises:
        AvpipeError: one is not there, or another.
    """
    listed = read_json(training)["seeds"]
    found = {seed: listed.get(str(seed), {}).get("checkpoint_sha256") for seed in seeds}
    for seed, sha256 in found.items():
        check_listed(stage_folder(training.parent, seed, 2) / CHECKPOINT, sha256, training)
    return found
