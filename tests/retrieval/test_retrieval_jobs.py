"""Jobs of a run from pack to evaluation.json: what is learnt, what is written and kept, and where runs start."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_retrieval import SIZES, WORDS, make_pack, run_settings, word_table

from avpipe.errors import AvpipeError
from avpipe.jobs.retrieval import evaluate_run, train_run
from avpipe.retrieval import models, training
from avpipe.retrieval.initial_weights import Architecture, make_model
from avpipe.retrieval.packs import read_pack, write_pack
from avpipe.retrieval.settings import RunJob
from avpipe.retrieval.text import write_word_table
from avpipe.schema.reading import read_evaluation
from avpipe.schema.retrieval import RetrievalEvaluation
from avpipe.training import checkpoint

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_pack(folder / "train.h5", make_pack(24))
    write_pack(folder / "long.h5", make_pack(192, seed=1))
    write_pack(folder / "test.h5", make_pack(40, seed=2, missing=3))
    write_word_table(folder / "words.h5", word_table())
    return folder


def job(variant: str = "main", seeds: tuple[int, ...] = (1,), **changes: Any) -> RunJob:
    run = run_settings(**changes).model_dump()
    return RunJob("tried", variant, run, audio_frames=96, max_words=5, seeds=seeds)


def train(data: Path, target: Path, given: RunJob, *, start: str = "random", pack: str = "train") -> dict[str, Any]:
    words = data / "words.h5" if given.settings().uses_text else None
    source = {"pack": str(data / f"{pack}.h5"), "captions": None}
    train_run(given, source=source, words=words, start=start, device="cpu", threads=1, target=target)
    return json.loads(target.read_text())


def evaluate(
    data: Path, target: Path, given: RunJob, *, start: str = "random", training: Path | None, **test: Any
) -> dict[str, Any]:
    evaluate_run(
        given,
        packs={"test": data / "test.h5"},
        tests={"test": {"audio_frames": 96, "expected": None, "diagnostic": False, **test}},
        words={"test": data / "words.h5"} if given.settings().uses_text else {},
        start=start,
        training=training,
        device="cpu",
        threads=1,
        target=target,
    )
    read_evaluation(target, RetrievalEvaluation)
    return json.loads(target.read_text())


def seed_files(folder: Path, seed: int = 1) -> tuple[bytes, str, list[dict[str, str]]]:
    folder = folder / f"seed{seed}"
    with (folder / "epochs.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    summary = json.loads((folder / "seed.json").read_text())
    del summary["result"]["seconds"]
    return (folder / "model.pt").read_bytes(), json.dumps(summary), rows


LEARNING = {"epochs": 25, "batch_size": 32, "embedding_dim": 16, "audio_channels": 4, "learning_rate": 3e-3}


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_a_run_learns_what_its_control_cannot(tmp_path, data, name):
    """40 clips, chance of R@10 is 10 in 43. Trained on pictures of other clips, nothing is learnt."""
    found = {}
    for variant in ("main", "permuted") if name == "avlnet" else ("main",):
        given, folder = job(variant, model=name, **LEARNING), tmp_path / variant
        train(data, folder / "training.json", given, pack="long")
        record = evaluate(data, folder / "evaluation.json", given, training=folder / "training.json")
        assert (record["variant"], record["control"]) == (variant, variant == "permuted")
        found[variant] = record["seeds"][0]["tests"]["test"]["language_to_video"]["r10"]
    assert record["chance"]["test"]["r10"] == pytest.approx(1000 / 43)
    assert found["main"] > 60
    assert found.get("permuted", 0) < 40


def test_what_a_run_leaves(tmp_path, data):
    given = job(seeds=(4, 9), batch_size=10)
    listed = train(data, tmp_path / "training.json", given)["seeds"]
    assert list(listed) == ["4", "9"] and listed["4"]["sha256"] != listed["9"]["sha256"]
    four = listed["4"]
    assert (four["epochs"], four["steps"], four["items"], four["items_per_epoch"]) == (3, 6, 24, 20)
    assert four["items_left_over_per_epoch"] == 4 and four["start"] == {"label": "random:4", "sha256": None}
    state = torch.load(tmp_path / "seed4" / "model.pt", weights_only=True)
    torch.manual_seed(0)
    models.build("avlnet", **SIZES).load_state_dict(state, strict=True)
    left = ["epochs.csv", "model.pt", "seed.json", "seed.json.manifest"]
    assert sorted(path.name for path in (tmp_path / "seed4").iterdir()) == left
    _, _, rows = seed_files(tmp_path, 4)
    assert float(rows[-1]["loss"]) == four["loss"] and [row["epoch"] for row in rows] == ["0", "1", "2"]
    record = evaluate(data, tmp_path / "evaluation.json", given, training=tmp_path / "training.json")
    assert [entry["seed"] for entry in record["seeds"]] == [4, 9]
    assert record["regime"] == "from scratch" and record["start"] == {
        "spec": "random",
        "label": "random",
        "sha256": None,
    }
    assert record["seeds"][1]["training"]["sha256"] == listed["9"]["sha256"]
    assert record["quirks"] == {"batch_norm": "by_start", "train_pooling": "clip"}
    assert (record["query"], record["candidates"]) == ("audio", "video")


@pytest.mark.slow
def test_finished_seeds_are_kept_and_others_trained(tmp_path, data, monkeypatch):
    train(data, tmp_path / "training.json", job())
    before = (tmp_path / "seed1" / "model.pt").stat().st_mtime_ns
    trained: list[int] = []
    original = training.train

    def noted(trainer: Any, *others: Any) -> None:
        trained.append(trainer.loop.seed)
        original(trainer, *others)

    monkeypatch.setattr(training, "train", noted)
    train(data, tmp_path / "training.json", job(seeds=(1, 2)))
    assert trained == [2] and (tmp_path / "seed1" / "model.pt").stat().st_mtime_ns == before
    for changes in ({"learning_rate": 1e-2}, {"batch_norm": "frozen"}, {"objective": "pairwise"}):
        trained.clear()
        train(data, tmp_path / "training.json", job(**changes))
        assert trained == [1], changes
    trained.clear()
    (tmp_path / "seed1" / "model.pt").write_bytes(b"damaged")
    train(data, tmp_path / "training.json", job(objective="pairwise"))
    assert trained == [1]


SCRIPT = """
import logging, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from avpipe.retrieval.trainer import RetrievalTrainer
from avpipe.training import loop
from test_retrieval_jobs import job, train
end_epoch = RetrievalTrainer.end_epoch
loop._LOG_EVERY_SECONDS = 0.0
RetrievalTrainer.end_epoch = lambda *run: (time.sleep(0.1), end_epoch(*run))[1]  # or all is over before the signal
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    train(Path(sys.argv[2]), Path(sys.argv[3]), job(epochs=30))
"""


@pytest.mark.slow
def test_sigterm_saves_and_the_next_run_goes_on(tmp_path, data):
    """In a process of its own, ended by a real signal somewhere; its files equal those of an uninterrupted run."""
    target = tmp_path / "stopped" / "training.json"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(HERE), str(data), str(target)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    while "epoch 2/30" not in (line := process.stderr.readline()):
        assert line, "it ended by itself"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    process.stderr.close()
    assert not target.exists()
    state = checkpoint.load(target.parent / "seed1" / "resume.pt")
    assert 0 < state["epoch"] < 30
    train(data, target, job(epochs=30))
    train(data, tmp_path / "whole" / "training.json", job(epochs=30))
    assert seed_files(tmp_path / "stopped") == seed_files(tmp_path / "whole")


def test_zero_shot_is_tested_once(tmp_path, data):
    given = job(seeds=(1, 2), epochs=0, weights="random:5")
    record = evaluate(data, tmp_path / "evaluation.json", given, start="random:5", training=None)
    assert [(entry["seed"], entry["training"]) for entry in record["seeds"]] == [(None, None)]
    assert record["regime"] == "zero-shot" and record["start"] == {
        "spec": "random:5",
        "label": "random:5",
        "sha256": None,
    }
    given = job(seeds=(1, 2), epochs=0)
    record = evaluate(data, tmp_path / "evaluation.json", given, training=None)
    assert [entry["start"]["label"] for entry in record["seeds"]] == ["random:1", "random:2"]
    with pytest.raises(AvpipeError, match="epochs 0"):
        train(data, tmp_path / "training.json", given)


def test_a_text_model_without_word_vectors(tmp_path, data):
    given = job(model="avlnet_text_fused")
    source, target = {"pack": str(data / "train.h5")}, tmp_path / "training.json"
    with pytest.raises(AvpipeError, match="avlnet_text_fused reads captions, and no word vectors"):
        train_run(given, source=source, words=None, start="random", device="cpu", threads=1, target=target)


@pytest.mark.slow
def test_a_run_goes_on_from_another_one(tmp_path, data):
    """From the same seed, or where that was not trained from the first; the statistics are frozen."""
    first = train(data, tmp_path / "first" / "training.json", job(seeds=(1, 2)))["seeds"]
    given = job(seeds=(2, 3), weights="run:made/first")
    start = str(tmp_path / "first" / "training.json")
    second = train(data, tmp_path / "second" / "training.json", given, start=start)["seeds"]
    assert [second[seed]["start"]["sha256"] for seed in "23"] == [first["2"]["sha256"], first["1"]["sha256"]]
    states = [torch.load(tmp_path / place / "seed2" / "model.pt", weights_only=True) for place in ("first", "second")]
    name = "DAVEnet.bn1.running_mean"
    assert torch.equal(states[0][name], states[1][name])
    (tmp_path / "first" / "seed1" / "model.pt").write_bytes(b"other")
    with pytest.raises(AvpipeError, match="another checkpoint than the one that"):
        train(data, tmp_path / "third" / "training.json", given, start=start)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Seven films of 30 s in HowTo100M's layout, one of them without sound, and captions with times."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    captions = {}
    for index in range(7):
        name = f"film{index}"
        place = folder / "cooking" / name
        place.mkdir(parents=True)
        np.savez(place / f"{name}_2d.npz", features=rng.normal(size=(30, 2048)).astype(np.float16))
        np.savez(place / f"{name}_3d.npz", features=rng.normal(size=(45, 2048)).astype(np.float16))
        if index:
            np.savez(place / f"{name}_spec.npz", arr_0=rng.uniform(-80, 0, (40, 3000)).astype(np.float16))
        starts = np.arange(0, 30, 3.0)
        captions[name] = {"start": list(starts), "end": list(starts + 2.5), "text": [WORDS[index]] * 10}
    (folder / "captions.json").write_text(json.dumps(captions))
    (folder / "videos.csv").write_text("path\n" + "".join(f"cooking/film{index}\n" for index in range(7)))
    write_word_table(folder / "words.h5", word_table())
    layout = {"path": str(folder), "audio_path": None, "videos": str(folder / "videos.csv")}
    return {"howto100m": layout, "captions": str(folder / "captions.json"), "words": str(folder / "words.h5")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "drawn", "pooling"),
    [("avlnet", "random", "clip"), ("avlnet_text_tri", "captions", "clip"), ("avlnet", "random", "padded")],
)
def test_pre_training_on_windows_of_whole_videos(tmp_path, data, films, name, drawn, pooling):
    windows = {"drawn": drawn, "per_video": 3, "audio_frames": 96, "min_seconds": 4.0}
    given = job(
        model=name, windows=windows, batch_size=2, epochs=2, objective="pairwise", precision="bfloat16",
        gradient_checkpointing=False, train_pooling=pooling,
    )  # fmt: skip
    for variant in ("main", "permuted"):
        train_run(
            replace(given, variant=variant),
            source={key: films[key] for key in ("howto100m", "captions")},
            words=films["words"] if given.settings().uses_text else None,
            start="random", device="cpu", threads=1, target=tmp_path / variant / "training.json",
        )  # fmt: skip
    listed = [
        json.loads((tmp_path / each / "training.json").read_text())["seeds"]["1"] for each in ("main", "permuted")
    ]
    assert [(each["items"], each["steps"], each["left_out"]) for each in listed] == [(6, 6, {"missing": 1})] * 2
    assert listed[0]["sha256"] != listed[1]["sha256"]
    record = evaluate(data, tmp_path / "evaluation.json", given, training=tmp_path / "main" / "training.json")
    assert record["regime"] == "pre-trained" and record["quirks"]["lacking_video"] == "skip"


ARCHITECTURE = Architecture("avlnet", **SIZES)


def write_weights(path: Path, name: str, **sizes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = models.build(name, **SIZES | sizes).state_dict()
    torch.save(state, path)
    return state


def test_checkpoints_of_dataparallel_and_apex_are_read(tmp_path):
    state = write_weights(tmp_path / "plain.pth", "avlnet")
    parallel = {f"module.{name}": value for name, value in state.items()}
    torch.save(parallel, tmp_path / "parallel.pth")
    torch.save({"net": parallel, "optimizer": {"lr": 1.0}, "amp": {}}, tmp_path / "amp_checkpoint.pt")
    for name in ("plain.pth", "parallel.pth", "amp_checkpoint.pt"):
        model, record = make_model(ARCHITECTURE, str(tmp_path / name), seed=1)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        assert record.sha256 == record.label and len(record.label) == 64


def test_weights_of_another_model_or_size_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    write_weights(path, "avlnet_text_tri")
    with pytest.raises(
        AvpipeError, match=r"weights.pth holds weights of avlnet_text_tri, and the run's model is avlnet"
    ):
        make_model(ARCHITECTURE, str(path), seed=1)
    write_weights(path, "avlnet", embedding_dim=16)
    with pytest.raises(AvpipeError, match="embedding_dim 16, audio_channels 2; the run has embedding_dim 8"):
        make_model(ARCHITECTURE, str(path), seed=1)
    state = write_weights(path, "avlnet")
    torch.save({key: value for key, value in state.items() if "batchnorm1" not in key}, path)
    with pytest.raises(AvpipeError, match=r"missing: DAVEnet.batchnorm1.weight"):
        make_model(ARCHITECTURE, str(path), seed=1)
    for value, found in ((torch.tensor(1.0), r"found \[\]"), (3.0, "found a float")):
        torch.save(state | {"GU_video.fc.bias": value}, path)
        with pytest.raises(AvpipeError, match=rf"1 misshapen: GU_video.fc.bias \({found}, expected \[8\]\)"):
            make_model(ARCHITECTURE, str(path), seed=1)
    torch.save(state | {"DAVEnet.bn1.running_var": -torch.ones(2)}, path)
    with pytest.raises(AvpipeError, match=r"1 with negative variances: DAVEnet\.bn1\.running_var"):
        make_model(ARCHITECTURE, str(path), seed=1)
    with pytest.raises(AvpipeError, match="cannot be opened"):
        make_model(ARCHITECTURE, str(tmp_path / "none.pth"), seed=1)
    with pytest.raises(AvpipeError, match="not a list of trained seeds"):
        make_model(ARCHITECTURE, str(tmp_path / "training.json"), seed=1)


def test_a_retrained_seed_is_not_taken_for_the_listed_one(tmp_path, data):
    given = job()
    train(data, tmp_path / "training.json", given)
    with (tmp_path / "seed1" / "model.pt").open("ab") as file:
        file.write(b"0")
    with pytest.raises(AvpipeError, match="another checkpoint than the one that"):
        evaluate(data, tmp_path / "evaluation.json", given, training=tmp_path / "training.json")
    with pytest.raises(AvpipeError, match=r"does not list the seeds \[7\]"):
        evaluate(data, tmp_path / "evaluation.json", replace(given, seeds=(7,)), training=tmp_path / "training.json")


@pytest.mark.parametrize("model", ["avlnet", "avlnet_text_tri", "avlnet_text_fused"])
def test_every_caption_asks_where_the_settings_say_so(tmp_path, data, model, caplog):
    caplog.set_level("INFO")
    given, captions = job(model=model, epochs=0, weights="random:0"), read_pack(data / "test.h5").captions
    total = sum(map(len, captions))
    found = {
        which: evaluate(data, tmp_path / f"{which}.json", given, start="random:0", training=None, captions=which)
        for which in ("first", "all")
    }
    assert caplog.text.count("%; RANDOM WEIGHTS: tried (random:0)") == 2
    first, every = (found[which]["seeds"][0]["tests"]["test"] for which in ("first", "all"))
    if model == "avlnet":
        assert first == every and first["captions"] is None
        return
    assert first["captions"] == {"rule": "fixed", "used": 40, "total": total}
    assert every["captions"] == {"rule": "all", "used": total, "total": total}
    asked = every["language_to_video"]
    assert (asked["n_ranked"], asked["n_queries"], asked["gallery"]) == (total, total + math.ceil(3 * total / 40), 40)
    assert (first["language_to_video"]["n_queries"], every["video_to_language"]["n_queries"]) == (43, 43)


@pytest.mark.slow
def test_jobs_import_no_torch():
    """Torch must come after the lease of a GPU, and planning must not pay for it."""
    code = "import sys, avpipe.jobs.retrieval; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
