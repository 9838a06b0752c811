"""Several seeds in one run, the jobs around them, and steps on a GPU."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import BENCHMARK, METHOD, SHORT, terminate_at

from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.gzsl import models, training
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.models.settings import FVAEGANSettings, MethodSettings, TrainingSettings
from avpipe.gzsl.scores import SCORES, Scores, read_predictions, read_scores
from avpipe.gzsl.side_by_side import train_side_by_side
from avpipe.gzsl.splits import Split
from avpipe.gzsl.stage_files import CHECKPOINT, stage_folder
from avpipe.gzsl.testing import evaluate_stage2, hand_over
from avpipe.gzsl.tree import PooledFeatures, write_tree
from avpipe.gzsl.words import write_names, write_words
from avpipe.io.manifest import write_json
from avpipe.jobs.gzsl_methods import Experiment, evaluate_method, train_method
from avpipe.registry import METHODS
from avpipe.schema.gzsl import METRICS, GzslEvaluation
from avpipe.schema.reading import read_evaluation
from avpipe.training import checkpoint, runtime

pytestmark = pytest.mark.slow  # trainings of all methods, of several seeds

SEEDS = (5, 6, 7)


def train(folder: Path, seeds: tuple[int, ...] = SEEDS, settings: MethodSettings = METHOD, **changes: Any) -> None:
    name = changes.pop("name", "avca")
    protocol = changes.pop("protocol", SHORT)
    options = {"device": "cpu", "threads": 1, "folder": folder} | changes
    training.train_seeds(BENCHMARK, name, settings, settings.training(protocol), seeds=seeds, **options)


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the epoch tables, which have a column of seconds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "epochs.csv"
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder


def copied(trained: Path, folder: Path, seeds: tuple[int, ...]) -> None:
    """As after `train(folder, seeds)`: these seeds of the trained folder."""
    for seed in seeds:
        shutil.copytree(trained / f"seed{seed}", folder / f"seed{seed}")


def test_a_seed_is_the_same_alone_or_among_others(trained: Path, tmp_path: Path) -> None:
    for seed in reversed(SEEDS):
        train(tmp_path, (seed,))
    assert files(tmp_path) == files(trained)
    digests = {files(trained)[f"seed{seed}/stage2/checkpoint.pt"] for seed in SEEDS}
    assert len(digests) == len(SEEDS)


def test_side_by_side_as_on_a_gpu_gives_the_same_bits(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of several seeds in turn: each draws from generators of its own, so that none notices the others."""
    monkeypatch.setattr(training, "train_in_sequence", train_side_by_side)
    train(tmp_path)
    assert files(tmp_path) == files(trained)


def test_a_signal_saves_all_that_train_side_by_side(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the second seed's second step: each seed is saved after its next step, and goes on exactly."""
    monkeypatch.setattr(training, "train_in_sequence", train_side_by_side)
    with monkeypatch.context() as patched:
        terminate_at(patched, 5)
        with pytest.raises(SystemExit) as stopped:
            train(tmp_path)
    assert stopped.value.code == runtime.TERMINATED
    states = [checkpoint.load(stage_folder(tmp_path, seed, 1) / "resume.pt") for seed in SEEDS]
    assert [(state["epoch"], state["step"]) for state in states] == [(0, 3), (0, 2), (0, 2)]
    train(tmp_path)
    assert files(tmp_path) == files(trained)


def test_finished_stages_are_kept_and_others_repeated(trained: Path, tmp_path: Path) -> None:
    copied(trained, tmp_path, SEEDS[:2])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoint.pt")}
    (stage_folder(tmp_path, 6, 2) / "stage.json").unlink()
    train(tmp_path)
    kept = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp}
    assert {path.parent.relative_to(tmp_path).as_posix() for path in stamps.keys() - kept} == {"seed6/stage2"}
    assert files(tmp_path) == files(trained)
    train(tmp_path, SEEDS[:1], protocol=SHORT.model_copy(update={"learning_rate": 0.01}))
    assert files(tmp_path)["seed5/stage1/stage.json"] != files(trained)["seed5/stage1/stage.json"]


def test_a_signal_saves_what_runs_and_a_second_call_goes_on(trained: Path, tmp_path: Path) -> None:
    """SIGTERM while the second seed trains: the first is finished, the second resumes, the third begins."""
    sent = threading.Event()

    def send() -> None:
        while not (stage_folder(tmp_path, 5, 1) / "stage.json").exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path)
    thread.join()
    assert stopped.value.code == runtime.TERMINATED and sent.is_set()
    assert not (stage_folder(tmp_path, 7, 2) / CHECKPOINT).exists()
    train(tmp_path)
    assert files(tmp_path) == files(trained)


def test_words_of_each_seed(tmp_path: Path) -> None:
    """The permuted control: a seed with vectors of its own gives what it gives with a benchmark of its own."""
    words = {seed: np.roll(BENCHMARK.words, seed, axis=0) for seed in SEEDS[:2]}
    train(tmp_path / "together", SEEDS[:2], words_of=words.__getitem__)
    for seed in SEEDS[:2]:
        training.train_seeds(
            replace(BENCHMARK, words=words[seed]), "avca", METHOD, METHOD.training(SHORT),
            seeds=[seed], device="cpu", threads=1, folder=tmp_path / "alone",
        )  # fmt: skip
    assert files(tmp_path / "together") == files(tmp_path / "alone")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("form", ["corrected", "published"])
def test_every_method_runs_both_stages_and_is_tested(name: str, form: Any, tmp_path: Path) -> None:
    small = {"fvaegan": {"n_synthetic": 20, "classifier_epochs": 3, "batch_size": 16}}
    settings = METHODS[name].settings(**small.get(name, {})).resolved(form)
    train(tmp_path, (0,), settings, name=name)
    report = evaluate_stage2(BENCHMARK, name, settings, stage2=stage_folder(tmp_path, 0, 2), device="cpu", threads=1)
    modes = models.implementation(name)
    assert modes.word_dim == METHODS[name].word_dim  # which planning checks, without torch
    assert set(report.metrics) == {*modes.calibration_modes, *modes.extra_modes}
    assert all(0 <= getattr(report, key) <= 100 for key in METRICS)
    assert all(getattr(report.metrics[report.score_mode], key) == getattr(report, key) for key in METRICS)
    assert (report.beta_curve is None) == (not modes.is_calibrated)
    again = evaluate_stage2(BENCHMARK, name, settings, stage2=stage_folder(tmp_path, 0, 2), device="cpu", threads=1)
    assert again == report
    scores = handed_over(tmp_path, name, settings)
    assert scores is None if name == "fvaegan" else scores.result() == report


def handed_over(folder: Path, name: str, settings: MethodSettings, benchmark: Benchmark = BENCHMARK) -> Scores | None:
    """What the first seed's training hands to the test."""
    stage2 = stage_folder(folder, 0, 2)
    hand_over(benchmark, name, settings, stage2=stage2, device="cpu", threads=1)
    return read_scores(stage2, file_sha256(stage2 / CHECKPOINT))


def test_handed_over_scores_follow_the_test_clips_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is kept where other clips are tested with it: training does not see those."""
    train(tmp_path, (0,))
    first = handed_over(tmp_path, "avca", METHOD)
    path = stage_folder(tmp_path, 0, 2) / SCORES
    written = path.stat().st_mtime_ns
    handed_over(tmp_path, "avca", METHOD)
    assert path.stat().st_mtime_ns == written
    unseen = BENCHMARK.subsets["stage_2_test_unseen"]
    changed = {**BENCHMARK.subsets, "stage_2_test_unseen": replace(unseen, audio=unseen.audio[::-1].copy())}
    other = replace(BENCHMARK, subsets=changed)
    second = handed_over(tmp_path, "avca", METHOD, other)
    assert first is not None and second is not None and not second.same_as(first)
    options: dict[str, Any] = {"stage2": path.parent, "device": "cpu", "threads": 1}
    assert second.result() == evaluate_stage2(other, "avca", METHOD, **options)
    monkeypatch.setattr("avpipe.gzsl.scores.MOST_BYTES", 10)
    assert handed_over(tmp_path, "avca", METHOD) is None and not path.exists()
    kept = read_predictions(path.parent, file_sha256(path.parent / CHECKPOINT))
    assert kept is not None and read_predictions(path.parent, "another checkpoint") is None
    told = first.predictions()
    assert (kept.classes, kept.seen) == (told.classes, told.seen)
    assert np.array_equal(kept.predicted, told.predicted) and np.array_equal(kept.labels, told.labels)
    rates = [np.mean(kept.predicted[kept.labels == place] == place) for place in range(len(kept.classes))]
    known = [each.gzsl for each in first.result().per_class.values()]
    assert [100 * rate for rate in rates] == pytest.approx(known)


def test_choosing_on_the_test_clips_is_done_when_asked_for_and_only_then(tmp_path: Path) -> None:
    """Published f-VAEGAN-D2 keeps the epoch that does best on what is reported; corrected never looks at it."""
    small = FVAEGANSettings(n_synthetic=20, classifier_epochs=3, batch_size=16)
    protocol = TrainingSettings(epochs=4, batches_per_epoch=6, batch_size=16).resolved("corrected")
    looked: list[int] = []
    for form in ("published", "corrected"):
        settings = small.resolved(form)  # type: ignore[arg-type]
        train(tmp_path / form, (0,), settings, name="fvaegan", protocol=protocol)
        with (stage_folder(tmp_path / form, 0, 2) / "epochs.csv").open(newline="") as stream:
            looked.append(sum(row["hm"] != "" for row in csv.DictReader(stream)))
    published = json.loads((stage_folder(tmp_path / "published", 0, 2) / "stage.json").read_text())
    report = evaluate_stage2(
        BENCHMARK, "fvaegan", small.resolved("published"),
        stage2=stage_folder(tmp_path / "published", 0, 2), device="cpu", threads=1,
    )  # fmt: skip
    # What the stage recorded on the clips it chose on is what the test reports: they are the same clips.
    tested, chosen = report.metrics["both"], published["metrics"]["both"]
    in_percent = {key: value if key == "beta" else 100 * value for key, value in chosen.items()}
    assert tested.to_json() == in_percent | {"ausuc": None}
    assert published["scored_on"] == "test clips"
    assert looked == [4, 0]
    corrected = json.loads((stage_folder(tmp_path / "corrected", 0, 2) / "stage.json").read_text())
    assert corrected["metrics"] == {}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The benchmark of these tests as a published tree."""
    root = tmp_path_factory.mktemp("tree")
    names = BENCHMARK.class_names
    clips = {
        subset: {clip: names[i] for clip, i in zip(part.clip_ids, part.class_ids, strict=True)}
        for subset, part in BENCHMARK.subsets.items()
        if subset != "stage_2_train"
    }
    parts = ("stage_1_train", "stage_1_val_seen", "stage_1_val_unseen")
    clips["stage_2_train"] = {clip: label for part in parts for clip, label in clips[part].items()}
    classes = {subset: tuple(names[i] for i in BENCHMARK.classes[subset]) for subset in BENCHMARK.classes}
    split = Split("main_split", names, classes, {subset: clips[subset] for subset in BENCHMARK.subsets})
    stored = [part for subset, part in BENCHMARK.subsets.items() if subset != "stage_2_train"]
    ids = tuple(clip for part in stored for clip in part.clip_ids)
    write_names(root / "own_w2v_class_names.csv", {name: f"the {name}" for name in names})
    vectors = dict(zip((f"the {name}" for name in names), BENCHMARK.words, strict=True))
    write_words(root / "word_embeddings_own_normed.npy", vectors)
    write_tree(
        root, split, "main_features",
        PooledFeatures(ids, np.concatenate([part.audio for part in stored])),
        PooledFeatures(ids, np.concatenate([part.video for part in stored])),
        words_file=root / "word_embeddings_own_normed.npy", names_file=root / "own_w2v_class_names.csv",
    )  # fmt: skip
    return root


def experiment(tree: Path, **changes: Any) -> Experiment:
    values = {
        "class_split": tree, "split": "main_split", "tree": tree / "features" / "main_features", "method": "avca",
        "form": "corrected", "text": "correct", "hyperparameters": METHOD.model_dump(),
        "training": METHOD.training(SHORT).model_dump(), "seeds": [1, 2],
    }  # fmt: skip
    return Experiment(**(values | changes))


def run(folder: Path, task: Experiment) -> dict[str, Any]:
    train_method(task, device="cpu", threads=1, target=folder / "training.json")
    options = {"training": folder / "training.json", "target": folder / "evaluation.json"}
    evaluate_method(task, device="cpu", threads=1, **options)
    read_evaluation(folder / "evaluation.json", GzslEvaluation)
    return json.loads((folder / "evaluation.json").read_text())


def test_the_record_of_a_method(tree: Path, tmp_path: Path) -> None:
    record = run(tmp_path, experiment(tree))
    assert [seed["seed"] for seed in record["seeds"]] == [1, 2]
    assert record["chance_zsl"] == pytest.approx(100 / 3) and not record["control"]
    assert record["quirks"]["text_alignment"] == "correct" and record["quirks"]["stage2_schedule"] == "val"
    seed = record["seeds"][0]
    curve = seed["beta_curve"]
    assert curve["betas"][0] is None and len(curve["betas"]) == len(curve["hm"]) == curve["steps"] <= 256
    at = np.searchsorted(np.array(curve["betas"][1:]), seed["beta"], side="right")
    assert curve["hm"][at] == pytest.approx(seed["hm"]) and seed["hm"] == seed["metrics"]["video"]["hm"]
    assert seed["ausuc"] == pytest.approx(np.trapezoid(curve["seen"], curve["unseen"]) / 100)
    assert set(seed["metrics"]) == {"video", "audio", "both"} and len(seed["per_class"]) == 12
    # In %: the mean over unseen classes among themselves, and none of the figures is a fraction.
    among_unseen = [each["zsl"] for each in seed["per_class"].values() if each["zsl"] is not None]
    assert seed["zsl"] == pytest.approx(np.mean(among_unseen)) and max(curve["seen"]) > 1


def test_a_checkpoint_that_is_not_the_listed_one_is_refused(tree: Path, tmp_path: Path) -> None:
    task = experiment(tree, seeds=[1])
    run(tmp_path, task)
    path = stage_folder(tmp_path, 1, 2) / CHECKPOINT
    path.write_bytes(path.read_bytes() + b"x")
    options = {"device": "cpu", "threads": 1, "training": tmp_path / "training.json", "target": tmp_path / "e.json"}
    with pytest.raises(AvpipeError, match=r"is another checkpoint than the one that .*training\.json lists; remove"):
        evaluate_method(task, **options)
    path.unlink()
    with pytest.raises(AvpipeError, match="does not exist"):
        evaluate_method(task, **options)


@pytest.fixture(scope="module")
def control(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    """A control, trained and tested."""
    task, folder = experiment(tree, form="permuted", text="permuted"), tmp_path_factory.mktemp("control")
    run(folder, task)
    return task, folder


def test_the_permuted_control_has_other_vectors_for_each_seed(control: tuple[Experiment, Path]) -> None:
    task, folder = control
    assert not np.array_equal(task.words(1), task.words(2))
    assert read_evaluation(folder / "evaluation.json", GzslEvaluation).control


@pytest.mark.parametrize("fault", ["none", "lost", "damaged", "other version", "other checkpoint"])
def test_a_test_is_the_same_from_what_was_handed_over_and_from_the_checkpoint(
    fault: str, control: tuple[Experiment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, finished = control
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / "evaluation.json").read_text())
    path, tested = stage_folder(tmp_path, 1, 2) / SCORES, []
    if fault == "lost":
        path.unlink()
    elif fault == "damaged":
        array = path.with_suffix(".npy")
        array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
    elif fault == "other version":
        monkeypatch.setattr("avpipe.versions.GZSL_EVALUATE", "gzsl_evaluate/0")
    elif fault == "other checkpoint":
        write_json(path, json.loads(path.read_text()) | {"checkpoint_sha256": "0"}, beside=[path.with_suffix(".npy")])
    monkeypatch.setattr(
        "avpipe.gzsl.testing.evaluate_stage2",
        lambda *given, stage2, **more: (
            tested.append(stage2.parent.name) or evaluate_stage2(*given, stage2=stage2, **more)
        ),
    )
    options = {"training": tmp_path / "training.json", "target": tmp_path / "again.json"}
    evaluate_method(task, device="cpu", threads=1, **options)
    assert json.loads((tmp_path / "again.json").read_text()) == record
    assert tested == {"none": [], "other version": ["seed1", "seed2"]}.get(fault, ["seed1"])


def test_a_rate_in_a_tensor_keeps_its_place(tmp_path: Path) -> None:
    """On a GPU the recorded step reads the learning rate from a tensor: changing and resuming must not replace it."""
    from avpipe.gzsl.optimizers import learning_rate, load_optimizer_state, optimizer_state, set_learning_rate

    weight = torch.nn.Parameter(torch.ones(3))
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD([weight], lr=rate)
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == learning_rate(optimizer) == 0.25
    state = optimizer_state(optimizer)
    assert state["param_groups"][0]["lr"] == 0.25 and not isinstance(state["param_groups"][0]["lr"], torch.Tensor)
    set_learning_rate(optimizer, 1.0)
    load_optimizer_state(optimizer, state)
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.25


def test_a_signal_while_the_last_seed_is_finished_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage 1 is written whole, and stage 2 does not begin."""
    real = training.write_stage

    def signalled(*arguments: Any) -> None:
        real(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(training, "write_stage", signalled)
        with pytest.raises(SystemExit):
            train(tmp_path, (5,))
    assert (stage_folder(tmp_path, 5, 1) / "stage.json").exists() and not stage_folder(tmp_path, 5, 2).exists()


def test_a_checkpoint_of_another_method_stage_or_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    """ALE, DEVISE and SJE have equal weights and settings: only the checkpoint itself can tell them apart."""
    settings = METHODS["ale"].settings().resolved("corrected")
    train(tmp_path, (0,), settings, name="ale")
    where: dict[str, Any] = {"device": "cpu", "threads": 1}
    with pytest.raises(AvpipeError, match="is of stage 2 of ale; expected stage 2 of devise"):
        evaluate_stage2(BENCHMARK, "devise", settings, stage2=stage_folder(tmp_path, 0, 2), **where)
    with pytest.raises(AvpipeError, match="is of stage 1 of ale"):
        evaluate_stage2(BENCHMARK, "ale", settings, stage2=stage_folder(tmp_path, 0, 1), **where)
    path = stage_folder(tmp_path, 0, 2) / CHECKPOINT
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    path.write_bytes(raw)
    with pytest.raises(AvpipeError, match="checksum"):
        evaluate_stage2(BENCHMARK, "ale", settings, stage2=stage_folder(tmp_path, 0, 2), **where)
    train(tmp_path, (0,), settings, name="ale")  # trains the damaged stage again
    evaluate_stage2(BENCHMARK, "ale", settings, stage2=stage_folder(tmp_path, 0, 2), **where)


@pytest.mark.parametrize("change", [{"beta": None}, {"best_epoch": -1}, {"best_epoch": "1"}, {"learning_rates": None}])
def test_a_stage_file_that_was_tampered_with_is_not_believed(
    change: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    copied(trained, tmp_path, (5,))
    path = stage_folder(tmp_path, 5, 1) / "stage.json"
    good = path.read_bytes()
    path.write_text(json.dumps(json.loads(good) | change))
    train(tmp_path, (5,))
    assert path.read_bytes() == good


def test_stage_2_wants_stage_1_of_its_own_seed_and_settings(trained: Path, tmp_path: Path) -> None:
    copied(trained, tmp_path, (5,))
    options: dict[str, Any] = {"stage1": stage_folder(tmp_path, 5, 1) / "stage.json", "device": "cpu", "threads": 1}
    with pytest.raises(AvpipeError, match="found one of seed 5\\."):
        training.train_stage(
            BENCHMARK, "avca", METHOD, METHOD.training(SHORT), seed=6, folder=tmp_path / "x", **options
        )
    other = METHOD.model_copy(update={"momentum": 0.9})
    with pytest.raises(AvpipeError, match="and other settings"):
        training.train_stage(BENCHMARK, "avca", other, other.training(SHORT), seed=5, folder=tmp_path / "x", **options)
    with pytest.raises(AvpipeError, match="listed twice"):
        train(tmp_path / "y", (5, 5))
