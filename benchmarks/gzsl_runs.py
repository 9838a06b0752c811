"""A working folder like a checkout, the workflow in it, and what the workflow wrote about its times and results."""

from __future__ import annotations

import csv
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from made_tree import KINDS

from avpipe.gzsl.stage_files import stage_folder
from avpipe.registry import METHODS
from avpipe.schema.gzsl import GzslEvaluation
from avpipe.schema.reading import read_evaluation
from avpipe.training.seed_files import EPOCHS

_ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("Snakefile", "rules", "workflow", "profiles", "config", "envs")
_CONFIGURED = {"UCF": "ucf_gzsl", "ActivityNet": "activitynet_gzsl"}
_CONFIG = "run.yaml"
_SHOWN_LINES = 80  # of the log of a run that failed

Experiment = tuple[str, str, str, str]
"""Dataset, features, method, form."""


@dataclass(frozen=True)
class Choice:
    """What to run: folder names of the datasets, "main" and "cls", methods, forms, and the length."""

    datasets: tuple[str, ...]
    features: tuple[str, ...]
    methods: tuple[str, ...]
    forms: tuple[str, ...]
    epochs: int
    batches: int
    seeds: int


@dataclass(frozen=True)
class Measured:
    """One experiment, as its files say; seconds of stages are means over seeds.

    Attributes:
        batches: in an epoch.
        has_own_batches: whether the method sets that number itself.
        stage_seconds: of stage 1 and of stage 2, all their epochs.
        epoch_seconds: of a stage-1 epoch with its evaluation, the median; the first, which does more, only if alone.
        test_seconds: of the job that tests all seeds, start of the process included.
        best_epochs: of every seed, from 0.
        hm, zsl, chance_zsl: in %.
        peak_mb: largest resident memory of the training job, all seeds.
    """

    batches: int
    has_own_batches: bool
    stage_seconds: tuple[float, float]
    epoch_seconds: float
    test_seconds: float
    best_epochs: tuple[int, ...]
    hm: float
    zsl: float
    chance_zsl: float
    peak_mb: float


def make_project(folder: Path, trees: Path, choice: Choice) -> Path:
    """Copy what Snakemake reads of a checkout into `folder` and write the configuration; returns the folder."""
    folder.mkdir(parents=True)
    for part in _PARTS:
        source = _ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / part)
    datasets = {_CONFIGURED[dataset]: _settings(trees / dataset, dataset, choice) for dataset in choice.datasets}
    (folder / _CONFIG).write_text(yaml.safe_dump({"device": "cpu", "datasets": datasets}))
    return folder


def run_workflow(project: Path, choice: Choice, *, cores: int, threads: int) -> float:
    """Make every eval.json; wall seconds. What Snakemake prints goes to snakemake.log; its end is shown if it fails."""
    targets = [f"results/{_CONFIGURED[dataset]}/eval.json" for dataset in choice.datasets]
    command = [
        sys.executable, "-m", "snakemake", *targets, "--cores", str(cores), "--configfile", _CONFIG,
        "--set-threads", f"train_gzsl={threads}", f"evaluate_gzsl={threads}",
    ]  # fmt: skip
    log = project / "snakemake.log"
    began = time.perf_counter()
    with log.open("w") as stream:
        done = subprocess.run(command, cwd=project, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        end = "\n".join(log.read_text().splitlines()[-_SHOWN_LINES:])
        sys.exit(f"{end}\nThe workflow failed with status {done.returncode}; the end of its log is above.")
    return time.perf_counter() - began


def collect(project: Path, choice: Choice) -> tuple[dict[Experiment, Measured], float]:
    """What was measured in each experiment, and the largest job's resident memory in MB."""
    found = {
        (dataset, features, method, form): _measured(project, choice, dataset, features, method, form)
        for dataset in choice.datasets
        for features in choice.features
        for method in choice.methods
        for form in choice.forms
    }
    tables = (project / "results" / "benchmarks").rglob("*.tsv")
    return found, max(_number(table, "max_rss") for table in tables)


def _settings(tree: Path, dataset: str, choice: Choice) -> dict[str, Any]:
    """The dataset's settings that differ from config/datasets: the source, and what is run for how long."""
    configured = yaml.safe_load((_ROOT / "config" / "datasets" / f"{_CONFIGURED[dataset]}.yaml").read_text("utf-8"))
    wanted = {KINDS[features].name for features in choice.features}
    gzsl = {
        "benchmarks": [each for each in configured["gzsl"]["benchmarks"] if each["features"] in wanted],
        "seeds": list(range(choice.seeds)),
        "forms": list(choice.forms),
        "training": {"epochs": choice.epochs, "batches_per_epoch": choice.batches},
    }
    off = dict.fromkeys(set(METHODS) - set(choice.methods))
    return {"source": {"kind": "published", "path": str(tree.resolve())}, "gzsl": gzsl | {"methods": off}}


def _measured(project: Path, choice: Choice, dataset: str, features: str, method: str, form: str) -> Measured:
    kind, name = KINDS[features], _CONFIGURED[dataset]
    place = Path(name, kind.split, kind.name, method)
    runs = project / "results" / name / "runs" / kind.split / kind.name / method / form
    evaluation = read_evaluation(runs / "evaluation.json", GzslEvaluation)
    stages = [
        [_epoch_seconds(stage_folder(runs, seed, stage) / EPOCHS) for seed in range(choice.seeds)] for stage in (1, 2)
    ]
    epochs = [seconds for seed in stages[0] for seconds in seed[1:] or seed]
    own = METHODS[method].settings().resolved(form).batches_per_epoch
    return Measured(
        batches=own or choice.batches,
        has_own_batches=own is not None,
        stage_seconds=(statistics.mean(map(sum, stages[0])), statistics.mean(map(sum, stages[1]))),
        epoch_seconds=statistics.median(epochs),
        test_seconds=_number(_table(project, "evaluate_gzsl", place, form), "s"),
        best_epochs=tuple(seed.best_epoch for seed in evaluation.seeds),
        hm=statistics.mean(seed.hm or 0.0 for seed in evaluation.seeds),
        zsl=statistics.mean(seed.zsl or 0.0 for seed in evaluation.seeds),
        chance_zsl=evaluation.chance_zsl,
        peak_mb=_number(_table(project, "train_gzsl", place, form), "max_rss"),
    )


def _table(project: Path, rule: str, place: Path, form: str) -> Path:
    return project / "results" / "benchmarks" / rule / place / f"{form}.tsv"


def _number(table: Path, column: str) -> float:
    """A column of a one-line benchmark table; 0 where the job was too short to be looked at."""
    with table.open(newline="") as stream:
        value = next(csv.DictReader(stream, delimiter="\t"))[column]
    return 0.0 if value in ("-", "NA") else float(value)


def _epoch_seconds(path: Path) -> list[float]:
    with path.open(newline="") as stream:
        return [float(row["seconds"]) for row in csv.DictReader(stream)]
