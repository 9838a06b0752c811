"""A user's checkout in a temporary folder, and Snakemake in it."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from avpipe.registry import METHODS

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "rules", "workflow", "profiles", "config", "envs")
TARGET = "results/small/eval.json"


@dataclass
class Project:
    """A checkout with a dataset called small; where it has the library in src/, its jobs import that one."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        source = self.folder / "src"
        return dict(os.environ) | ({"PYTHONPATH": str(source)} if source.is_dir() else {})

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments, "--configfile", "small.yaml"]

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; its whole output is in the error where it fails."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, timeout=500,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise AssertionError(f"snakemake {arguments} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, target: str) -> subprocess.Popen[bytes]:
        """Begin a run in a process group of its own, to be killed; nothing of it is printed."""
        return subprocess.Popen(
            self.command(target, "--cores", "2"), cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def run(self, *arguments: str, target: str = TARGET) -> str:
        """Make the target; returns what was printed."""
        done = self.snakemake(target, "--cores", "2", *arguments)
        return done.stdout + done.stderr

    def ran(self, *arguments: str, target: str = TARGET) -> set[str]:
        """Make the target; the message of every job that ran."""
        return jobs_in(self.run(*arguments, target=target))

    def planned(self, *arguments: str, target: str = TARGET) -> set[str]:
        """What a run would do now: the message of every job."""
        done = self.snakemake(target, "-n", *arguments)
        return jobs_in(done.stdout + done.stderr)

    def copy(self, folder: Path) -> Project:
        """The whole project elsewhere, with results, provenance and time stamps."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def settings(self) -> dict:
        return yaml.safe_load((self.folder / "small.yaml").read_text())

    def change_settings(self, **values) -> None:
        """Change keys of the dataset's gzsl section."""
        settings = self.settings()
        settings["datasets"]["small"]["gzsl"] |= values
        (self.folder / "small.yaml").write_text(yaml.safe_dump(settings))

    def digests(self) -> dict[str, str]:
        """sha256 of every result but logs, timings, epoch tables (which have a column of seconds) and the page."""
        results = self.folder / "results"
        return {
            str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(results.rglob("*"))
            if path.is_file()
            and path.relative_to(results).parts[0] not in ("logs", "benchmarks")
            and path.name not in ("epochs.csv", "report.html", "report.html.manifest")
        }


def jobs_in(output: str) -> set[str]:
    """The messages of all jobs in Snakemake's output."""
    return set(re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE))


def new_project(folder: Path, settings: dict) -> Project:
    """Copy the parts of a checkout that Snakemake reads and write the dataset's settings."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / part)
    (folder / "small.yaml").write_text(yaml.safe_dump({"datasets": {"small": settings}}))
    return Project(folder)


def small_settings(**gzsl) -> dict:
    """Settings of a dataset that trains in seconds, with random weights."""
    return {
        "source": {"kind": "class_folders", "path": "videos"},
        "n_shards": 2,
        "max_failure_rate": 0.2,
        "weights": {"c3d": "random:0", "vggish": "random:0"},
        "features": {"c3d": {"stride_frames": 32, "batch_size": 4}, "vggish": {"postprocess": False}},
        "gzsl": {
            "class_split": "split",
            "word_vectors": "words_normed.npy",
            "benchmarks": [{"split": "main_split"}, {"split": "other_split"}],
            "seeds": [3],
            "methods": dict.fromkeys(set(METHODS) - {"avca", "ale"}),
            "training": {"epochs": 3, "batches_per_epoch": 4, "batch_size": 16},
            **gzsl,
        },
    }


def write_split(folder: Path, name: str, clips: dict[str, list[str]], roles: dict[str, str]) -> None:
    """Write a class split in the published layout: the last clip of a seen class is held out for testing.

    Args:
        folder: the class-split folder.
        name: of the split.
        clips: class -> clip ids.
        roles: class -> train, val_unseen or test_unseen; a class without a role is not used.
    """
    subsets = {
        f"stage_{subset}": []
        for subset in ("1_train", "1_val_seen", "1_val_unseen", "2_train", "2_test_seen", "2_test_unseen")
    }
    for label, role in roles.items():
        ids = sorted(clips[label])
        if role == "train":
            assigned = {"stage_1_train": ids[:-2], "stage_1_val_seen": ids[-2:-1], "stage_2_test_seen": ids[-1:]}
            assigned["stage_2_train"] = ids[:-1]
        elif role == "val_unseen":
            assigned = {"stage_1_val_unseen": ids[:-1], "stage_2_train": ids[:-1], "stage_2_test_seen": ids[-1:]}
        else:
            assigned = {"stage_2_test_unseen": ids}
        for subset, members in assigned.items():
            subsets[subset] += [(clip, label) for clip in members]
    (folder / name).mkdir(parents=True, exist_ok=True)
    all_classes = sorted(clips)
    (folder / "all_class.txt").write_text("\n".join(all_classes) + "\n")
    for subset, rows in subsets.items():
        (folder / name / f"{subset}.txt").write_text("\n".join(sorted({label for _, label in rows})) + "\n")
        with (folder / name / f"{subset}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["filename", "label", "label_code"])
            writer.writerows([clip, label, all_classes.index(label)] for clip, label in sorted(rows))


def write_words(folder: Path, classes: list[str]) -> None:
    """Random class vectors and the table of their names, in the published layout."""
    generator = np.random.default_rng(0)
    vectors = {f"word of {label}": generator.standard_normal(300).astype(np.float32) for label in classes}
    np.save(folder / "words_normed.npy", {name: row / np.linalg.norm(row) for name, row in vectors.items()})
    names = "".join(f"{label},word of {label}\n" for label in classes)
    (folder / "split" / "small_w2v_class_names.csv").write_text("original,manual\n" + names)
