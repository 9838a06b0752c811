"""The two-stage protocol on a small separable benchmark: what it learns, what it writes, and exact resume."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.gzsl import training
from avpipe.gzsl.benchmark import SUBSETS, Benchmark, Subset
from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.models.settings import AVCASettings, TrainingSettings
from avpipe.gzsl.testing import evaluate_stage2
from avpipe.training import checkpoint

METHOD = AVCASettings(embeddings_hidden_size=32, decoder_hidden_size=32).resolved("corrected")
SHORT = TrainingSettings(epochs=3, batches_per_epoch=4, batch_size=16).resolved("corrected")
WHERE: dict[str, Any] = {"seed": 5, "device": "cpu", "threads": 1}


def make_benchmark(seed: int = 0, clips: int = 8) -> Benchmark:
    """12 classes; features and class vectors are noisy linear images of the same class code."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(12, 6))
    words = (codes @ rng.normal(size=(6, 300))).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    to_audio, to_video = rng.normal(size=(6, 10)), rng.normal(size=(6, 14))
    sets = dict(zip(SUBSETS, (range(6), range(6), range(6, 9), range(9), range(9), range(9, 12)), strict=True))
    subsets, classes = {}, {}
    for name, ids in sets.items():
        labels = np.repeat(np.array(ids), clips)
        code = codes[labels] + 0.1 * rng.normal(size=(len(labels), 6))
        names = tuple(f"{name}-{i:03d}" for i in range(len(labels)))
        subsets[name] = Subset(
            (code @ to_audio).astype(np.float32), (code @ to_video).astype(np.float32), labels, names
        )
        classes[name] = np.array(ids)
    return Benchmark(tuple(f"class{i:02d}" for i in range(12)), words, classes, subsets)


BENCHMARK = make_benchmark()


def stage1(folder: Path, **changes: Any) -> training.StageResult:
    return training.train_stage(BENCHMARK, "avca", METHOD, SHORT, folder=folder, **{**WHERE, **changes})


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "epochs.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def outputs(folder: Path) -> tuple[bytes, str, list[dict[str, str]]]:
    return (folder / "checkpoint.pt").read_bytes(), (folder / "stage.json").read_text(), table(folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    stage1(folder)
    return folder


def terminate_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Send this process a real SIGTERM during the given optimisation step (counted from 1)."""
    original, count = AVCA.after_step, 0

    def after_step(self: AVCA, batch: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch, **options)

    monkeypatch.setattr(AVCA, "after_step", after_step)


@pytest.mark.slow
def test_learns_and_generalises(tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"epochs": 4, "batches_per_epoch": 40, "batch_size": 32})
    first = training.train_stage(BENCHMARK, "avca", METHOD, settings, folder=tmp_path / "1", **WHERE)
    second = training.train_stage(
        BENCHMARK, "avca", METHOD, settings, stage1=tmp_path / "1" / "stage.json", folder=tmp_path / "2", **WHERE
    )
    report = evaluate_stage2(BENCHMARK, "avca", METHOD, stage2=tmp_path / "2", device="cpu", threads=1)
    losses = [float(row["loss"]) for row in table(tmp_path / "1")]
    assert losses[-1] < losses[0]
    metrics = report.metrics["video"]
    assert metrics.seen > 100 * 3 / 12  # chance is 1 of 12 classes
    assert metrics.zsl > 50  # chance is 1 of 3 unseen classes
    assert set(report.metrics) == {"video", "audio", "both"}
    assert report.beta == first.beta == second.beta
    assert report.best_epoch == first.best_epoch
    assert len(table(tmp_path / "2")) == first.best_epoch + 1
    assert report.clips.to_json() == {"seen": 72, "unseen": 24}
    json.dumps(report.to_json(), allow_nan=False)


def test_files_of_a_stage(uninterrupted: Path) -> None:
    result = training.StageResult.read(uninterrupted / "stage.json")
    rows = table(uninterrupted)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert sum(name.startswith("loss_") for name in rows[0]) == 17
    harmonic = [float(row["hm"]) for row in rows]
    assert result.best_epoch == harmonic.index(max(harmonic))
    assert result.metrics["video"]["hm"] == pytest.approx(max(harmonic), abs=1e-12)
    assert result.beta == pytest.approx(float(rows[result.best_epoch]["beta"]))
    total = sum(float(v) for k, v in rows[0].items() if k.startswith("loss_"))
    assert float(rows[0]["loss"]) == pytest.approx(total, rel=1e-5)  # the sum is made in float32
    content = torch.load(uninterrupted / "checkpoint.pt", weights_only=True)
    assert content["epoch"] == result.best_epoch
    left = {"checkpoint.pt", "epochs.csv", "stage.json", "stage.json.manifest"}
    assert {p.name for p in uninterrupted.iterdir()} == left


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 6, 8, 11])  # within and at the ends of epochs of 4 batches
def test_resume_is_exact(step: int, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        terminate_at(patch, step)
        with pytest.raises(SystemExit) as stop:
            stage1(tmp_path)
    assert stop.value.code == 143
    assert {p.name for p in tmp_path.iterdir()} == {"resume.pt"}
    stage1(tmp_path)
    assert outputs(tmp_path) == outputs(uninterrupted)
    assert not (tmp_path / "resume.pt").exists()


def test_resume_from_saves_while_running(tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed without warning in the last epoch: the state saved after the step before is enough."""
    original, count = AVCA.after_step, 0

    def after_step(self: AVCA, batch: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == 10:
            raise KeyboardInterrupt
        original(self, batch, **options)

    with monkeypatch.context() as patch:
        patch.setattr(AVCA, "after_step", after_step)
        with pytest.raises(KeyboardInterrupt):
            stage1(tmp_path, save_every_seconds=0)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (2, 1)
    stage1(tmp_path)
    assert outputs(tmp_path) == outputs(uninterrupted)


@pytest.mark.slow
def test_stage2_resumes_and_follows_the_recorded_schedule(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = replace(
        training.StageResult.read(uninterrupted / "stage.json"), best_epoch=2, learning_rates=[1e-3, 1e-4, 1e-5]
    )
    settings = SHORT.model_copy(update={"stage2_schedule": "stage1"})

    def run(folder: Path) -> None:
        training.train_stage(BENCHMARK, "avca", METHOD, settings, stage1=first, folder=folder, **WHERE)

    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        terminate_at(patch, 7)
        with pytest.raises(SystemExit):
            run(tmp_path / "parts")
    run(tmp_path / "parts")
    assert outputs(tmp_path / "parts") == outputs(tmp_path / "whole")
    assert [float(row["learning_rate"]) for row in table(tmp_path / "whole")] == [1e-3, 1e-4, 1e-5]


def test_foreign_resume_file_is_ignored_and_named(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        terminate_at(patch, 2)
        with pytest.raises(SystemExit):
            stage1(tmp_path, seed=6)
    with caplog.at_level(logging.WARNING, "avpipe"):
        stage1(tmp_path)
    assert "other seed" in caplog.text
    assert outputs(tmp_path) == outputs(uninterrupted)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stage of which six steps are done."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        terminate_at(patch, 6)
        with pytest.raises(SystemExit):
            stage1(folder)
    return folder


DAMAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "nothing, which is taken up": lambda state: state,
    "no step": lambda state: {name: value for name, value in state.items() if name != "step"},
    "beyond the last epoch": lambda state: state | {"epoch": 99},
    "history too short": lambda state: state | {"history": []},
    "other draws of dropout": lambda state: state | {"dropout_draws": state["epoch_draws"]},
    "a loss NaN": lambda state: state | {"best": state["best"] | {"hm": float("nan")}},
    "weights of zeros": lambda state: state | {"model": {k: torch.zeros_like(v) for k, v in state["model"].items()}},
    "of a version without a checksum": lambda state: {name: value for name, value in state.items() if name != "sha256"},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_resume_file_with_other_content_is_not_taken_up(
    damage: str, tmp_path: Path, interrupted: Path, uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "resume.pt"
    checkpoint.save(path, DAMAGES[damage](checkpoint.load(interrupted / "resume.pt")))
    with caplog.at_level(logging.INFO, "avpipe"):
        stage1(tmp_path)
    is_whole = damage.startswith("nothing")
    assert (f"Starting over: {path} is of another version" in caplog.text) == (not is_whole)
    assert ("Resuming seed 5 in epoch 2/3 after 2 steps." in caplog.text) == is_whole
    assert outputs(tmp_path) == outputs(uninterrupted)


def test_learning_rate_falls_on_a_plateau(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published rule: the fourth consecutive epoch without a better harmonic mean divides the rate by 10."""
    from avpipe.gzsl.models import base

    real = base.evaluate

    def constant(*arguments: Any, **options: Any) -> Any:
        return {mode: replace(r, hm=np.full_like(r.hm, 0.3), best=0) for mode, r in real(*arguments, **options).items()}

    monkeypatch.setattr(base, "evaluate", constant)
    settings = SHORT.model_copy(update={"epochs": 7, "batches_per_epoch": 1})
    result = training.train_stage(BENCHMARK, "avca", METHOD, settings, folder=tmp_path, **WHERE)
    assert result.learning_rates == pytest.approx([1e-3] * 5 + [1e-4] * 2)
    assert result.best_epoch == 0


def test_loss_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = AVCA.losses

    def losses(self: AVCA, batch: Any, **options: Any) -> dict[str, torch.Tensor]:
        terms = original(self, batch, **options)
        return {**terms, "reg_phi_v": terms["reg_phi_v"] * torch.nan}

    monkeypatch.setattr(AVCA, "losses", losses)
    with pytest.raises(AvpipeError, match="not finite in epoch 1: reg_phi_v"):
        stage1(tmp_path)


def test_classes_without_clips_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = {
        name: Subset(
            *(part[subset.class_ids != 3] for part in (subset.audio, subset.video, subset.class_ids)),
            tuple(c for c, i in zip(subset.clip_ids, subset.class_ids, strict=True) if i != 3),
        )
        for name, subset in BENCHMARK.subsets.items()
    }
    with caplog.at_level(logging.WARNING, "avpipe"):
        training.train_stage(replace(BENCHMARK, subsets=gone), "avca", METHOD, SHORT, folder=tmp_path, **WHERE)
    assert "1 of 6 classes of stage_1_train have no clip with features: class03" in caplog.text


def test_class_without_a_vector_is_named(tmp_path: Path) -> None:
    words = BENCHMARK.words.copy()
    words[4] = np.nan
    with pytest.raises(AvpipeError, match="no class vector: class04"):
        training.train_stage(replace(BENCHMARK, words=words), "avca", METHOD, SHORT, folder=tmp_path, **WHERE)


def test_stage2_needs_its_own_stage1(tmp_path: Path) -> None:
    with pytest.raises(AvpipeError, match="Cannot read"):
        training.train_stage(BENCHMARK, "avca", METHOD, SHORT, stage1=tmp_path / "none.json", folder=tmp_path, **WHERE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_a_process_of_its_own(number: int, tmp_path: Path, uninterrupted: Path) -> None:
    """From outside: exit code 143 after the batch at hand, only the resume file, and the same result afterwards."""
    program = textwrap.dedent("""
        import sys, time
        sys.path.insert(0, sys.argv[1])
        import test_training as t
        from pathlib import Path
        from avpipe.gzsl.models.avca import AVCA
        original = AVCA.after_step
        def slow(self, batch, **options):
            print("step", flush=True)
            time.sleep(0.2)
            original(self, batch, **options)
        AVCA.after_step = slow
        t.stage1(Path(sys.argv[2]))
    """)
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline() == "step\n"
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert printed.count("step") <= 1, "one batch may have begun before the signal came"
    assert {p.name for p in tmp_path.iterdir()} == {"resume.pt"}
    stage1(tmp_path)
    assert outputs(tmp_path) == outputs(uninterrupted)
