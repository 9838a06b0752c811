"""What a page shows beside its record: the epochs of every training, the distances of its test clips, hours of jobs.

All of it lies beside the results. What is not there, or not whole, is left out of the page and named in the log.
"""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.gzsl.scores import Predictions, Scores, read_predictions, read_scores
from avpipe.gzsl.stage_files import stage_folder
from avpipe.io.manifest import read_json
from avpipe.schema.gzsl import METRICS, GzslEvaluation
from avpipe.schema.reading import read_evaluation
from avpipe.schema.retrieval import RetrievalEvaluation
from avpipe.training.seed_files import EPOCHS, seed_folder

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]
_OWN = ("write_eval", "write_retrieval_eval")  # what writes the page has a time only once it has run before
RunKey = tuple[str, ...]
"""split, features, method and form of zero-shot learning; run and variant of retrieval."""


@dataclass(frozen=True)
class Epochs:
    """What epochs.csv says of a training.

    Attributes:
        losses: term, "loss" the whole -> its mean in each epoch.
        rates: seen, unseen, hm and zsl -> each epoch's, in %; empty where no epoch was scored.
        scored_on: which clips the rates are of; empty where there are none.
        chosen: the epoch of the checkpoint, from 0; None: the last one.
    """

    losses: dict[str, list[float]]
    rates: dict[str, list[float]] = field(default_factory=dict)
    scored_on: str = ""
    chosen: int | None = None


@dataclass(frozen=True)
class Trained:
    """One seed of a method or run.

    Attributes:
        seed: its number.
        stages: of its training, by their numbers; retrieval has one.
        scores: the distances of the test clips, where they are kept.
        predictions: what the test clips are taken for, where that is kept.
    """

    seed: int
    stages: dict[int, Epochs]
    scores: Scores | None = None
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Sources:
    """What there is.

    Attributes:
        runs: the trained seeds of every method or run.
        seconds: rule -> seconds that its jobs took.
    """

    runs: Mapping[RunKey, Sequence[Trained]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


def zero_shot_runs(evaluations: Iterable[StrPath]) -> dict[RunKey, list[Trained]]:
    """The trained seeds beside some evaluation.json."""
    runs: dict[RunKey, list[Trained]] = {}
    for path in map(Path, evaluations):
        found = read_evaluation(path, GzslEvaluation)
        runs[found.split, found.features, found.method, found.form] = _seeds(
            path.with_name("training.json"), _gzsl_seed
        )
    return runs


def retrieval_runs(evaluations: Iterable[StrPath]) -> dict[RunKey, list[Trained]]:
    """The same for retrieval; a run that trains nothing has none. Its trainings lie in folders of its variants."""
    runs: dict[RunKey, list[Trained]] = {}
    for path in map(Path, evaluations):
        found = read_evaluation(path, RetrievalEvaluation)
        training = path.with_name("training.json")
        runs[found.run, found.variant] = _seeds(training, _retrieval_seed) if training.exists() else []
    return runs


def job_seconds(folder: StrPath, dataset: str) -> dict[str, float]:
    """Rule -> seconds of its jobs for a dataset, from Snakemake's benchmark files <folder>/<rule>/<dataset>/….tsv."""
    seconds: dict[str, float] = {}
    for rule in sorted(path for path in Path(folder).glob("*") if path.is_dir() and path.name not in _OWN):
        files = [rule / f"{dataset}.tsv", *sorted((rule / dataset).rglob("*.tsv"))]
        taken = [value for path in files if path.is_file() for value in _column(path, "s")]
        if taken:
            seconds[rule.name] = math.fsum(taken)
    return seconds


def read_epochs(path: Path, chosen: int | None = None) -> Epochs:
    """An epochs.csv.

    Raises:
        OSError, ValueError, KeyError: it is not there, or not one.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path.name} has no epoch")
    terms = [name for name in rows[0] if name == "loss" or name.startswith("loss_")]
    losses = {name.removeprefix("loss_"): [float(row[name]) for row in rows] for name in terms}
    if not rows[0].get("hm"):
        return Epochs(losses, chosen=chosen)
    rates = {name: [100 * float(row[name]) for row in rows] for name in METRICS}
    return Epochs(losses, rates, rows[0]["scored_on"], chosen)


def _seeds(training: Path, read: Any) -> list[Trained]:
    try:
        listed = read_json(training)["seeds"]
    except (AvpipeError, OSError, KeyError, TypeError) as error:
        log.warning("The page has no learning curves of %s: %s", training.parent, error)
        return []
    return [read(training.parent, int(seed), result) for seed, result in listed.items()]


def _gzsl_seed(folder: Path, seed: int, result: Mapping[str, Any]) -> Trained:
    stages: dict[int, Epochs] = {}
    for stage in (1, 2):
        epochs = _epochs(stage_folder(folder, seed, stage), result[f"stage{stage}"]["best_epoch"])
        stages |= {} if epochs is None else {stage: epochs}
    kept = stage_folder(folder, seed, 2), result["checkpoint_sha256"]
    return Trained(seed, stages, read_scores(*kept), read_predictions(*kept))


def _retrieval_seed(folder: Path, seed: int, _: Mapping[str, Any]) -> Trained:
    epochs = _epochs(seed_folder(folder, seed), None)
    return Trained(seed, {} if epochs is None else {1: epochs})


def _epochs(folder: Path, chosen: int | None) -> Epochs | None:
    try:
        return read_epochs(folder / EPOCHS, chosen)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("The page has no learning curve of %s: %r", folder, error)
        return None


def _column(path: Path, name: str) -> list[float]:
    """The numbers of a column; "NA" and what else is none are left out."""
    values = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            try:
                values.append(float(row[name]))
            except (KeyError, TypeError, ValueError):
                continue
    return values
