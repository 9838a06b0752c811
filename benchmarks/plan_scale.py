"""What planning costs with many clips: made-up tables of empty files with a split, planned, and one job's own start.

python benchmarks/plan_scale.py [--sizes 200000:512 1200000:2048] [--folder /tmp/scale]

Prints, for each number of clips and of shards, processor seconds and peak memory of `snakemake -n` and of the Snakemake
that starts a single job on a node; and with several sizes what a clip more costs. The folder is kept and used again if
--folder is given.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import string
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

from avpipe.gzsl.splits import Split, write_class_split

ROOT = Path(__file__).resolve().parents[1]
N_CLASSES = 309  # VGGSound's
LETTERS = string.ascii_letters + string.digits + "-_"


def main() -> None:
    """Make the tables, plan, start a job, print what all took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["200000:512", "1200000:2048"], metavar="CLIPS:SHARDS")
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    planned = []
    print("| clips | shards | plan | one job's start |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        for size in chosen.sizes:
            n_clips, n_shards = map(int, size.split(":"))
            plan, start = measure((chosen.folder or Path(temporary)) / f"{n_clips}-{n_shards}", n_clips, n_shards)
            told = " | ".join(f"{seconds:.1f} s, {megabytes:.0f} MB" for seconds, megabytes in (plan, start))
            print(f"| {n_clips:,} | {n_shards:,} | {told} |", flush=True)
            planned.append((n_clips, plan[0]))
    (fewest, least), (most, longest) = min(planned), max(planned)
    if most > fewest:
        print(f"a clip more, with its share of shards: {(longest - least) / (most - fewest) * 1e6:.0f} microseconds")


def measure(folder: Path, n_clips: int, n_shards: int) -> list[tuple[float, float]]:
    """Processor seconds and peak memory in MB of planning and of one job's start."""
    if not (folder / "scale.yaml").exists():
        make_project(folder, n_clips, n_shards)
    common = [sys.executable, "-m", "snakemake", "-n", "-q", "all", "--nolock"]
    configured = ["--configfile", str(folder / "scale.yaml")]
    job = ["--target-jobs", "probe_clips:dataset=scale,shard=0003", "--allowed-rules", "probe_clips", "--force"]
    return [
        cost([*common, *configured, "--", "results/scale/eval.json"]),
        cost([*common, *configured, "--mode", "subprocess", *job]),
    ]


def make_project(folder: Path, n_clips: int, n_shards: int) -> None:
    """A table of clips with empty files, a split, class vectors and settings."""
    generator = random.Random(0)
    labels = [f"class {number:03d}" for number in range(N_CLASSES)]
    clips: dict[str, str] = {}
    rows = []
    for number in range(n_clips):
        video = "".join(generator.choices(LETTERS, k=10)) + "A"
        path, start = folder / "videos" / f"{number % 256:02x}" / f"{video}.mp4", generator.randrange(600)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        clips[f"{video}_{start:06d}"] = labels[number % N_CLASSES]
        rows.append((f"{video}_{start:06d}", path.relative_to(folder), labels[number % N_CLASSES], start, start + 10))
    with (folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["clip_id", "path", "class", "start_seconds", "end_seconds"])
        writer.writerows(rows)
    write_class_split(split_of(clips, labels), folder)
    vectors = np.random.default_rng(0).standard_normal((N_CLASSES, 300)).astype(np.float32)
    np.save(folder / "words_normed.npy", dict(zip(labels, vectors, strict=True)))
    names = "".join(f"{label},{label}\n" for label in labels)
    (folder / "class-split" / "scale_w2v_class_names.csv").write_text(f"original,manual\n{names}")
    dataset = {
        "source": {"kind": "table", "path": str(folder / "clips.csv")},
        "n_shards": n_shards,
        "weights": {"c3d": "random:0", "vggish": "random:0"},
        "features": {"vggish": {"postprocess": False}},
        "gzsl": {
            "class_split": str(folder / "class-split"),
            "word_vectors": str(folder / "words_normed.npy"),
            "benchmarks": [{"split": "main_split"}],
        },
    }
    (folder / "scale.yaml").write_text(yaml.safe_dump({"datasets": {"scale": dataset}}))


def split_of(clips: dict[str, str], labels: list[str]) -> Split:
    """Half of the classes for training, a quarter each for validation and test; a tenth of seen clips is held out."""
    train, unseen, test = (
        labels[: N_CLASSES // 2],
        labels[N_CLASSES // 2 : N_CLASSES * 3 // 4],
        labels[N_CLASSES * 3 // 4 :],
    )
    chosen: dict[str, dict[str, str]] = {}
    tenths = {clip: number // N_CLASSES % 10 for number, clip in enumerate(clips)}
    rules = {
        "stage_1_train": (train, range(2, 10)),
        "stage_1_val_seen": (train, [1]),
        "stage_1_val_unseen": (unseen, range(1, 10)),
        "stage_2_train": (train + unseen, range(1, 10)),
        "stage_2_test_seen": (train + unseen, [0]),
        "stage_2_test_unseen": (test, range(10)),
    }
    for subset, (classes, parts) in rules.items():
        wanted = set(classes)
        chosen[subset] = {
            clip: label for clip, label in sorted(clips.items()) if label in wanted and tenths[clip] in parts
        }
    classes = {subset: tuple(rule[0]) for subset, rule in rules.items()}
    return Split("main_split", tuple(labels), classes, chosen)


def cost(command: list[str]) -> tuple[float, float]:
    """Run a command: its processor seconds and peak memory in MB."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(output)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
