"""Fingerprints of what each stage makes from fixed input, by stage version.

    python tests/golden/make.py --fix

writes fingerprints.json. A stage whose output changes must get a new version in src/avpipe/versions.py; then this
command records the new fingerprint. An extractor has one fingerprint for each of its steps, from decoding to pooling
(extractor_steps.py, where a new extractor adds its own): look at the first that differs. Where a step changes that
should not have, mend the code instead of recording. Numbers that agree with the recorded ones, within the tolerance of
the test, stay as they are. Made with the versions of requirements.lock on x86-64.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extractor_steps import extractor_steps, make_films
from fingerprint_differences import keep_what_agrees
from retrieval_steps import film_of_the_demo, retrieval_fingerprints

from avpipe import versions
from avpipe.demo.classes import word_vectors
from avpipe.demo.zero_shot import plan_demo, render_clip, write_demo_split
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.models.settings import TrainingSettings
from avpipe.gzsl.splits import read_split
from avpipe.gzsl.testing import evaluate_stage2
from avpipe.gzsl.training import train_stage
from avpipe.gzsl.tree import PooledFeatures, publish_class_split, write_features
from avpipe.gzsl.tree_reading import read_tree
from avpipe.gzsl.words import write_names, write_words
from avpipe.inventory.probing import SCHEMA, Requirements, probe_shard
from avpipe.inventory.shards import SCHEMA as INVENTORY_SCHEMA
from avpipe.inventory.shards import index_shard
from avpipe.io.tables import read_rows
from avpipe.jobs.gzsl import make_words
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video
from avpipe.media.file_mode.convert import convert_to_rate
from avpipe.media.file_mode.trim import trim_clip
from avpipe.registry import EXTRACTORS, METHODS
from avpipe.schema.gzsl import METRICS
from avpipe.sources.local import SourceClip

FILE = Path(__file__).with_name("fingerprints.json")


def parts() -> dict[tuple[str, ...], Callable[[Path], dict[str, Any]]]:
    """Stages whose fingerprints are made together -> what makes them, given an empty folder."""
    media = (versions.MAKE_DEMO, versions.INDEX, versions.PROBE, versions.TRIM, versions.CONVERT_FPS)
    gzsl = (versions.WORD_VECTORS, versions.GZSL_TREE, versions.GZSL_TRAIN, versions.GZSL_EVALUATE)
    retrieval = (
        versions.MAKE_RETRIEVAL_DEMO, versions.PACK, versions.CAPTION_WORDS,
        versions.RETRIEVAL_TRAIN, versions.RETRIEVAL_EVALUATE, versions.RETRIEVAL_INDEX,
    )  # fmt: skip
    return {
        media: media_fingerprints,
        **{(entry.stage,): partial(extractor_fingerprints, name) for name, entry in EXTRACTORS.items()},
        gzsl: gzsl_fingerprints,
        retrieval: with_a_film,
    }


def fingerprints(stages: tuple[str, ...]) -> dict[str, Any]:
    """Stage version -> its fingerprint, of one of the `parts`.

    Text is compared exactly, numbers with the tolerance of the test, steps of extractors each with its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = parts()[stages](Path(folder))
    assert set(found) == set(stages), f"made {sorted(found)}, announced are {sorted(stages)}"
    return found


def media_fingerprints(folder: Path) -> dict[str, Any]:
    """The embedded dataset for zero-shot learning, and what comes before extraction."""
    video = folder / "clip.avi"
    render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
    return {
        versions.MAKE_DEMO: picture_statistics(video, None),
        versions.INDEX: inventory_columns(folder, video),
        versions.PROBE: probe_row(folder, video),
        versions.TRIM: trimmed_statistics(folder, video),
        versions.CONVERT_FPS: converted_statistics(folder, video),
    }


def picture_statistics(video: Path, rate_hz: float | None) -> list[float]:
    """Number of frames, mean and deviation of the first and last one."""
    frames = list(decode_video(video, rate_hz=rate_hz))
    return [
        float(len(frames)),
        *(float(value) for each in (frames[0], frames[-1]) for value in (each.mean(), each.std())),
    ]


def inventory_columns(folder: Path, video: Path) -> str:
    index_shard([SourceClip("a", "A", video.name)], None, folder / "inventory.parquet")
    return json.dumps([INVENTORY_SCHEMA.names, *read_rows(folder / "inventory.parquet")])


def probe_row(folder: Path, video: Path) -> str:
    status = video.stat()
    clip = SourceClip("a", "A", str(video), None, None, status.st_size, status.st_mtime_ns)
    probe_shard([clip], Requirements(True, 0.0, None), folder / "probe.parquet")
    (row,) = read_rows(folder / "probe.parquet")
    changing = {"path", "modified_ns", "source_sha256", "size_bytes"}
    return json.dumps({key: row[key] for key in SCHEMA.names if key not in changing})


def trimmed_statistics(folder: Path, video: Path) -> list[float]:
    trim_clip(Clip("a", video, 0.2, 0.9), folder / "t.mov", timeout_seconds=60)
    return picture_statistics(folder / "t.mov", None)


def converted_statistics(folder: Path, video: Path) -> list[float]:
    convert_to_rate(Clip("a", video), folder / "c.mkv", rate_hz=20, crf=6, timeout_seconds=60)
    return picture_statistics(folder / "c.mkv", None)


def extractor_fingerprints(name: str, folder: Path) -> dict[str, Any]:
    """Steps of one extractor."""
    return {EXTRACTORS[name].stage: extractor_steps(name, make_films(folder))}


def with_a_film(folder: Path) -> dict[str, Any]:
    """The embedded dataset for retrieval, and the stages of retrieval."""
    film = picture_statistics(film_of_the_demo(folder), None)
    return {versions.MAKE_RETRIEVAL_DEMO: film, **retrieval_fingerprints(folder)}


def gzsl_fingerprints(folder: Path) -> dict[str, Any]:
    """Tree, training and evaluation on generated features."""
    write_demo_split(folder)
    write_words(folder / "word_embeddings_demo_normed.npy", word_vectors())
    names = folder / "class-split" / "demo_w2v_class_names.csv"
    ids = tuple(spec.clip_id for spec in plan_demo())
    labels = {spec.clip_id: index for index, spec in enumerate(plan_demo())}
    generator = np.random.default_rng(0)
    audio, video = (generator.standard_normal((len(labels), width)).astype(np.float32) for width in (8, 12))
    root = folder / "gzsl" / "main_split"
    publish_class_split(folder, "main_split", [names], root / "class-split")
    write_features(
        root / "features" / "f",
        read_split(root, "main_split"),
        PooledFeatures(ids, audio),
        PooledFeatures(ids, video),
        words_file=folder / "word_embeddings_demo_normed.npy",
        names_file=names,
    )
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    benchmark = read_tree(root, "f", "main_split")
    (folder / "glove.txt").write_text("red 1 2\ndisc 3 -1\nhigh 0 1\nbeat 0.5 0.5\n")
    write_names(folder / "names.csv", {"RedDisc": "red disc", "HighBeat": "High beat"})
    make_words(model=folder / "glove.txt", names=folder / "names.csv", kind="auto", target=folder / "made.npy")
    runs = {name: run_method(name, benchmark, folder / name) for name in METHODS}
    return {
        versions.WORD_VECTORS: hashlib.sha256((folder / "made.npy").read_bytes()).hexdigest(),
        versions.GZSL_TREE: digest.hexdigest(),
        versions.GZSL_TRAIN: {name: norms for name, (norms, _) in runs.items()},
        versions.GZSL_EVALUATE: {name: scores for name, (_, scores) in runs.items()},
    }


def run_method(name: str, benchmark: Benchmark, folder: Path) -> tuple[list[float], list[float]]:
    """Norms of a method's weights after two short stages, and its scores on the test clips."""
    small = {"avca": {"embeddings_hidden_size": 16, "decoder_hidden_size": 16}, "fvaegan": {"n_synthetic": 20}}
    settings = METHODS[name].settings(**small.get(name, {})).resolved("corrected")
    protocol = TrainingSettings(epochs=2, batches_per_epoch=3, batch_size=16).resolved("corrected")
    training = settings.training(protocol)
    common: dict[str, Any] = {"seed": 0, "device": "cpu", "threads": 1}
    stage1 = train_stage(benchmark, name, settings, training, folder=folder / "1", **common)
    train_stage(benchmark, name, settings, training, stage1=stage1, folder=folder / "2", **common)
    result = evaluate_stage2(benchmark, name, settings, stage2=folder / "2", device="cpu", threads=1)
    state = torch.load(folder / "2" / "checkpoint.pt", weights_only=True)["model"]
    norms = [float(value.double().norm()) for key, value in sorted(state.items()) if value.is_floating_point()]
    return norms, [getattr(result, key) for key in METRICS]


def main() -> int:
    """Write the file where --fix is given; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fix", action="store_true", help="record the fingerprints of the present versions")
    if not parser.parse_args().fix:
        parser.error("nothing to do without --fix; pytest compares")
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = {version: each for stages in parts() for version, each in fingerprints(stages).items()}
    FILE.write_text(as_text(keep_what_agrees(recorded, found)))
    return 0


def as_text(found: dict[str, Any]) -> str:
    """JSON with one step or stage a line, so that a difference shows where it is."""
    lines = []
    for version, fingerprint in found.items():
        text = json.dumps(fingerprint)
        if isinstance(fingerprint, dict):
            steps = [f"  {json.dumps(step)}: {json.dumps(values)}" for step, values in fingerprint.items()]
            text = "{\n" + ",\n".join(steps) + "\n }"
        lines.append(f" {json.dumps(version)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
