"""Checkpoints in the published form: the command's figures against models and a metric written apart, and refusals."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avpipe.cli import main
from avpipe.config.catalogue import read_catalogue
from avpipe.errors import AvpipeError
from avpipe.formats.released_files import supported
from avpipe.gzsl import models
from avpipe.gzsl.benchmark import SUBSETS, Benchmark
from avpipe.gzsl.models.settings import TrainingSettings
from avpipe.gzsl.released import evaluate_released
from avpipe.gzsl.splits import Split
from avpipe.gzsl.training import train_stage
from avpipe.gzsl.tree import PooledFeatures, write_tree
from avpipe.gzsl.tree_reading import read_features
from avpipe.gzsl.words import write_names, write_words
from avpipe.io.manifest import manifest_path
from avpipe.registry import METHODS
from avpipe.schema.gzsl import ReleasedReport
from avpipe.schema.reading import read_summary
from avpipe.sources.file_sets import fetch_set
from avpipe.weights import random_state_dict

pytestmark = pytest.mark.slow

RECORDED = Path(__file__).parents[2].parent / "shared" / "parity" / "avca" / "avca_core_main.npz"
CLASSES = tuple(f"class{i:02d}" for i in range(12))
PARTS = {
    "stage_1_train": range(6),
    "stage_1_val_seen": range(6),
    "stage_1_val_unseen": range(6, 9),
    "stage_2_test_seen": range(9),
    "stage_2_test_unseen": range(9, 12),
}
FILE_NAMES = {"avca": "AVCA", "apn": "APN", "cjme": "CJME", "avgzslnet": "AVGZSLNet"}
BEST = 3  # stage A's epoch, from 0
FIGURES = ("seen", "unseen", "hm", "zsl")


def make_tree(root: Path, audio: int = 10, video: int = 14, clips: int = 6, without: tuple[str, ...] = ()) -> Path:
    """A small published tree; the word2vec names of classes 4 and 5, and of 7 and 8, sort the other way round."""
    rng = np.random.default_rng(1)
    members = {
        subset: {f"{subset}-{c}-{i}": CLASSES[c] for c in ids for i in range(clips)} for subset, ids in PARTS.items()
    }
    members["stage_2_train"] = {k: v for part in list(PARTS)[:3] for k, v in members[part].items()}
    listed = {subset: tuple(sorted(set(rows.values()))) for subset, rows in members.items()}
    split = Split("cls_split", CLASSES, {s: listed[s] for s in SUBSETS}, {s: members[s] for s in SUBSETS})
    ids = sorted({clip for rows in members.values() for clip in rows} - set(without))
    label = {clip: int(name[-2:]) for rows in members.values() for clip, name in rows.items()}
    codes = rng.normal(size=(12, 6))
    arrays = []
    for width in (audio, video):
        noisy = codes[[label[clip] for clip in ids]] + 0.3 * rng.normal(size=(len(ids), 6))
        arrays.append(PooledFeatures(tuple(ids), (noisy @ rng.normal(size=(6, width))).astype(np.float32)))
    root.mkdir(parents=True, exist_ok=True)
    order = [0, 1, 2, 3, 5, 4, 6, 8, 7, 9, 10, 11]
    names = {name: f"word {rank:02d}" for name, rank in zip(CLASSES, order, strict=True)}
    vectors = (codes @ rng.normal(size=(6, 300))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = {"words_file": root / "word_embeddings_own_normed.npy", "names_file": root / "own_w2v_class_names.csv"}
    write_names(files["names_file"], names)
    write_words(files["words_file"], dict(zip(names.values(), vectors, strict=True)))
    write_tree(root, split, "cls_features", *arrays, **files)
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("released") / "UCF")


def small(method: str) -> dict[str, int]:
    hidden = {"avca": 24, "cjme": 20, "avgzslnet": 20}.get(method)
    sizes = {"embeddings_hidden_size": hidden} if hidden else {}
    if method == "avca":
        sizes |= {"depth_transformer": 2}
    return sizes | ({"decoder_hidden_size": 16} if method in ("avca", "avgzslnet") else {})


def published_state(method: str, seed: int, audio: int = 10, video: int = 14) -> dict[str, torch.Tensor]:
    """Random weights as the published program saves them: there pos_emb1D is a parameter."""
    state = random_state_dict(models.build(method, audio_dim=audio, video_dim=video, **small(method)), seed)
    if method == "avca":
        state["pos_emb1D"] = torch.nn.Parameter(state["pos_emb1D"])
    return state


def save(path: Path, state: Any, epoch: Any, **more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    optimizer = {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}]}
    torch.save({"epoch": epoch, "model": state, "optimizer": optimizer, "metric": "score", **more}, path)


def trained_states(method: str, tree: Path, folder: Path) -> list[dict[str, torch.Tensor]]:
    """Both stages' weights after a short training, which leaves models that favour seen classes: beta is not 0."""
    benchmark = read_features(tree, tree / "features" / "cls_features", "cls_split", alignment="published")
    protocol = TrainingSettings(epochs=1, batches_per_epoch=60, batch_size=32).resolved("published")
    settings = METHODS[method].settings(**small(method)).resolved("published")
    where: dict[str, Any] = {"seed": 2, "device": "cpu", "threads": 1}
    train_stage(benchmark, method, settings, protocol, folder=folder / "1", **where)
    first = folder / "1" / "stage.json"
    train_stage(benchmark, method, settings, protocol, stage1=first, folder=folder / "2", **where)
    return [torch.load(folder / stage / "checkpoint.pt", weights_only=True)["model"] for stage in "12"]


def make_runs(folder: Path, method: str, **widths: int) -> tuple[Path, Path]:
    """Both runs' folders as the published program leaves them, with a pickle that must not be opened."""
    a, b, name = folder / "val", folder / "all", FILE_NAMES.get(method, "DeviseModel")
    save(a / f"{name}_score.pt", published_state(method, 0, **widths), BEST + 1)
    save(a / f"{name}_loss.pt", published_state(method, 50, **widths), 1, metric="loss")
    for epoch in range(5):
        path = b / "checkpoints" / f"{name}_score_ckpt_{epoch}.pt"
        save(path, published_state(method, 100 + epoch, **widths), epoch + 1)
    for run in (a, b):
        (run / "args.pkl").write_bytes(b"cposix\nsystem\n(S'touch hacked'\ntR.")
    return a, b


def arguments(method: str, a: Path, b: Path, tree: Path, *more: str) -> list[str]:
    features = str(tree / "features" / "cls_features")
    stages = ["--stage-a", str(a), "--stage-b", str(b)]
    data = ["--features", features, "--class-split", str(tree), "--split", "cls_split", "--device", "cpu"]
    return ["evaluate-released", "--method", method, *stages, *data, *more]


def evaluated(method: str, a: Path, b: Path, tree: Path, **more: Any) -> dict[str, Any]:
    features = tree / "features" / "cls_features"
    return evaluate_released(method, a, b, features=features, class_split=tree, split="cls_split", **more).to_json()


# The models once more, in evaluation mode, from the names in the file alone (docs/methods.md, Zero-shot learning), in
# float64.


def published_net(x: torch.Tensor, s: dict[str, torch.Tensor], name: str, *, last: str) -> torch.Tensor:
    """Linear-BN-ReLU(-Linear(-BN)(-ReLU)) with the entries that there are."""

    def norm(x: torch.Tensor, i: int) -> torch.Tensor:
        mean, var = s[f"{name}.fc.{i}.running_mean"], s[f"{name}.fc.{i}.running_var"]
        return F.batch_norm(x, mean, var, s[f"{name}.fc.{i}.weight"], s[f"{name}.fc.{i}.bias"], eps=1e-5)

    x = norm(F.linear(x, s[f"{name}.fc.0.weight"], s[f"{name}.fc.0.bias"]), 1).relu()
    if f"{name}.fc.4.weight" in s:
        x = F.linear(x, s[f"{name}.fc.4.weight"], s[f"{name}.fc.4.bias"])
        x = norm(x, 5) if last == "norm" else x
    return x if last == "linear" else x.relu()


def transformer(x: torch.Tensor, s: dict[str, torch.Tensor]) -> torch.Tensor:
    depth = 1 + max(int(key.split(".")[2]) for key in s if key.startswith("cross_attention"))
    for layer in range(depth):
        p = f"cross_attention.layers.{layer}."
        y = F.layer_norm(x, (300,), s[p + "0.norm.weight"], s[p + "0.norm.bias"])
        qkv = F.linear(y, s[p + "0.fn.to_qkv.weight"]).view(len(x), 2, 3, 3, 100).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(len(x), 2, 300)
        x = x + F.linear(mixed, s[p + "0.fn.to_out.0.weight"], s[p + "0.fn.to_out.0.bias"])
        y = F.layer_norm(x, (300,), s[p + "1.norm.weight"], s[p + "1.norm.bias"])
        y = F.gelu(F.linear(y, s[p + "1.fn.net.0.weight"], s[p + "1.fn.net.0.bias"]))
        x = x + F.linear(y, s[p + "1.fn.net.3.weight"], s[p + "1.fn.net.3.bias"])
    return x


def distances(method: str, s: dict[str, torch.Tensor], a: Any, v: Any, w: Any, norm_inputs: bool) -> dict[str, Any]:
    """mode -> Euclidean distances, those of modes that only calibrate among them."""
    s = {key: value.detach().double() for key, value in s.items()}
    a, v, w = (torch.tensor(x, dtype=torch.float64) for x in (a, v, w))
    if method == "avca":
        phi = [published_net(x, s, f"{m}_enc", last="norm") for m, x in (("A", a), ("V", v))]
        t = transformer(torch.stack(phi, 1) + s["pos_emb1D"], s)
        theta = [published_net(phi[i] + t[:, i], s, f"{m}_proj", last="norm") for i, m in enumerate("AV")]
        classes = published_net(w, s, "W_proj", last="norm")
    elif method in ("cjme", "avgzslnet"):
        last = "relu" if method == "cjme" else "linear"
        nets = [f"triplet_net.embedding_net{i}" for i in (1, 2, 3)]
        *theta, classes = (published_net(x, s, net, last=last) for x, net in zip((a, v, w), nets, strict=True))
    else:
        x = torch.cat((v, a), 1)
        x = F.normalize(x) if norm_inputs else x
        matrix = s["ALE_vector"].flatten(1) if method == "apn" else s["bilinear.weight"]
        return {"both": torch.cdist(x @ matrix.t(), w).numpy()}
    by_audio, by_video = (torch.cdist(each, classes) for each in theta)
    both = by_audio + by_video
    if method == "cjme":
        p = "attention_model."
        mean, var = s[p + "0.running_mean"], s[p + "0.running_var"]
        y = F.batch_norm(torch.cat((a, v), 1), mean, var, s[p + "0.weight"], s[p + "0.bias"], eps=1e-5)
        gate = (F.linear(y, s[p + "1.weight"], s[p + "1.bias"]).sigmoid() >= 0.5).double()
        both = (1 - gate) * by_audio + gate * by_video
    return {"audio": by_audio.numpy(), "video": by_video.numpy(), "both": both.numpy()}


def metric(d: Any, labels: Any, seen: Any, beta: float) -> dict[str, float]:
    """docs/methods.md, Metric, one class after the other."""
    guess, zsl_guess = (d + beta * seen).argmin(1), np.where(seen, np.inf, d).argmin(1)
    right = [(guess[labels == c] == c).mean() for c in range(len(seen))]
    zsl = [(zsl_guess[labels == c] == c).mean() for c in np.flatnonzero(~seen)]
    s, u = (np.mean([right[c] for c in np.flatnonzero(seen == is_seen)]) for is_seen in (True, False))
    return {"seen": s, "unseen": u, "hm": 2 * u * s / (u + s + 2.22e-16), "zsl": np.mean(zsl)}


def clips_of(benchmark: Benchmark, seen: str, unseen: str) -> tuple[Any, ...]:
    classes = sorted({*benchmark.classes[seen], *benchmark.classes[unseen]})
    parts = [benchmark.subsets[seen], benchmark.subsets[unseen]]
    audio, video = (np.concatenate([getattr(part, name) for part in parts]) for name in ("audio", "video"))
    labels = np.array([classes.index(c) for part in parts for c in part.class_ids])
    return audio, video, benchmark.words[classes], labels, np.isin(classes, benchmark.classes[seen])


def expected(method: str, tree: Path, a: Any, b: Any, *, text: Any = "published", norm: bool = False) -> dict[str, Any]:
    benchmark = read_features(tree, tree / "features" / "cls_features", "cls_split", alignment=text)
    *inputs, labels, seen = clips_of(benchmark, "stage_1_val_seen", "stage_1_val_unseen")
    grid = [0.2 * i for i in range(16)]
    best = {}
    for mode, d in distances(method, a, *inputs, norm).items():
        curve = [metric(d, labels, seen, beta) for beta in grid]
        at = int(np.argmax([point["hm"] for point in curve]))
        best[mode] = curve[at] | {"beta": grid[at]}
    calibrating = ["audio", "video", "both"] if method in ("cjme", "avgzslnet") else [mode_of(method)]
    beta = float(np.mean([best[mode]["beta"] for mode in calibrating]))
    *inputs, labels, seen = clips_of(benchmark, "stage_2_test_seen", "stage_2_test_unseen")
    test = {mode: metric(d, labels, seen, beta) for mode, d in distances(method, b, *inputs, norm).items()}
    return {"beta": beta, "validation": best, "test": test}


def mode_of(method: str) -> str:
    return "video" if method == "avca" else "both"


def check(report: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Accuracies, in % in a report, are ratios of small counts: equal but for the order of sums. Betas are float32."""
    assert report["beta"] == pytest.approx(wanted["beta"], abs=1e-6)
    for found, direct in ((report["released"]["validation"], "validation"), (report["metrics"], "test")):
        assert set(found) == set(wanted[direct])
        for mode, figures in found.items():
            assert {k: figures[k] / 100 for k in FIGURES} == pytest.approx(
                {k: wanted[direct][mode][k] for k in FIGURES}, abs=1e-9
            ), mode


@pytest.mark.slow
@pytest.mark.parametrize("method", supported())
def test_the_figures_are_those_of_a_direct_computation(
    method: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = make_runs(tmp_path, method)
    first, second = trained_states(method, tree, tmp_path / "trained")
    name = FILE_NAMES.get(method, "DeviseModel")
    save(a / f"{name}_score.pt", first, BEST + 1)
    save(b / "checkpoints" / f"{name}_score_ckpt_{BEST}.pt", second, BEST + 1)
    assert main(arguments(method, a, b, tree, "--out", "eval.json")) == 0
    report = read_summary(tmp_path / "eval.json", ReleasedReport).to_json()
    wanted = expected(method, tree, first, second)
    check(report, wanted)
    if method in ("avca", "apn", "cjme", "avgzslnet"):
        assert wanted["beta"] > 0.1  # a beta that was not handed on would be seen
    if method in ("cjme", "avgzslnet"):
        assert len({figures["beta"] for figures in wanted["validation"].values()}) > 1  # so would one that is no mean
    other = expected(method, tree, first, published_state(method, 100 + BEST + 1))
    assert wanted["test"] != other["test"]  # another epoch's checkpoint would be seen
    printed = capsys.readouterr().out
    mode = mode_of(method)
    for stage, name in (("validation (stage A)", "validation"), ("test (stage B)", "test")):
        row = next(line for line in printed.splitlines() if line.startswith(stage)).removeprefix(stage).split()
        assert row[:4] == [f"{100 * wanted[name][mode][key]:.2f}" for key in FIGURES]
    assert f"beta: {wanted['beta']:.4g}" in printed and "epoch 3 (from 0)" in printed
    assert "published alignment" in printed and "avpipe did not train them" in printed
    assert not (tmp_path / "hacked").exists()


def test_the_record(tree: Path, tmp_path: Path) -> None:
    a, b = make_runs(tmp_path, "avca")
    report = evaluated("avca", a, b, tree)
    released = report["released"]
    assert (released["stage_a"], released["stage_b"]) == ("AVCA_score.pt", "AVCA_score_ckpt_3.pt")
    assert len(released["stage_a_sha256"]) == 64 and released["stage_a_sha256"] != released["stage_b_sha256"]
    assert released["epoch"] == report["best_epoch"] == BEST and report["seed"] is None
    assert released["settings"] == small("avca")
    assert report["clips"] == {"seen": 54, "unseen": 18}
    direct = evaluated("avca", a / "AVCA_score.pt", b / "checkpoints" / "AVCA_score_ckpt_3.pt", tree)
    assert direct == report
    json.dumps(report, allow_nan=False)


def test_text_alignment_is_published_unless_asked_otherwise(tree: Path, tmp_path: Path) -> None:
    a, b = make_runs(tmp_path, "apn")
    states = published_state("apn", 0), published_state("apn", 100 + BEST)
    published, correct = evaluated("apn", a, b, tree), evaluated("apn", a, b, tree, text="correct")
    check(correct, expected("apn", tree, *states, text="correct"))
    assert published["metrics"] != correct["metrics"]
    assert any("4 of the 12 classes" in notice for notice in published["released"]["notices"])
    assert any("not the figures" in notice for notice in correct["released"]["notices"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ale", "devise", "sje", "apn"])
def test_inputs_are_normalised_for_cls_features(method: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "UCF", 128, 4096, clips=3)
    a, b = make_runs(tmp_path, method, audio=128, video=4096)
    first, second = (published_state(method, seed, 128, 4096) for seed in (0, 100 + BEST))
    report = evaluated(method, a, b, tree)
    check(report, expected(method, tree, first, second, norm=True))
    assert report["released"]["settings"] == {"norm_inputs": True}
    assert any("norm_inputs is true" in notice for notice in report["released"]["notices"])
    plain = evaluated(method, a, b, tree, flags={"norm_inputs": False})
    check(plain, expected(method, tree, first, second, norm=False))
    assert not any("norm_inputs" in notice for notice in plain["released"]["notices"])


def test_the_names_of_the_published_program_load(tmp_path: Path) -> None:
    if not RECORDED.exists():
        pytest.skip(f"no recorded numbers at {RECORDED}")
    with np.load(RECORDED) as stored:
        state = {k.removeprefix("init/"): torch.tensor(v) for k, v in stored.items() if k.startswith("init/")}
    tree = make_tree(tmp_path / "UCF", 512, 512, clips=3)
    state["pos_emb1D"] = torch.nn.Parameter(state["pos_emb1D"])
    save(tmp_path / "val" / "AVCA_score.pt", state, 1)
    save(tmp_path / "all" / "checkpoints" / "AVCA_score_ckpt_0.pt", state, 1)
    report = evaluated("avca", tmp_path / "val", tmp_path / "all", tree)
    check(report, expected("avca", tree, state, state))
    sizes = {"embeddings_hidden_size": 512, "decoder_hidden_size": 512, "depth_transformer": 1}
    assert report["released"]["settings"] == sizes


def test_missing_clips_and_other_doubts_are_said(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "UCF", without=("stage_2_test_unseen-10-0", "stage_1_val_seen-2-1"))
    a, b = make_runs(tmp_path, "avca")
    (a / "AVCA_score.pt").unlink()
    save(a / "AVCA_loss.pt", published_state("avca", 0), BEST + 1, metric="loss")
    notices = "\n".join(evaluated("avca", a / "AVCA_loss.pt", b, tree)["released"]["notices"])
    assert "stage_2_test_unseen: features of 17 of the 18 clips that the split lists, of 0 others" in notices
    assert "stage_1_val_seen: features of 35 of the 36 clips" in notices
    assert "stage_2_test_seen" not in notices
    assert "AVCA_loss.pt was kept for its loss" in notices
    (tree / "class-split" / "cls_split" / "stage_1_val_seen.csv").write_text("nonsense\n")
    notices = "\n".join(evaluated("avca", a / "AVCA_loss.pt", b, tree)["released"]["notices"])
    assert "clips of stage_1_val_seen were not compared with the split's" in notices


def test_a_class_without_clips_is_said(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "UCF")
    features = tree / "features" / "cls_features"
    for modality in ("audio", "video"):
        for subset, name in (("stage_2_test_unseen", "class10"), ("stage_1_val_unseen", "class07")):
            empty_class_file(features / modality / subset / f"{name}.h5", 10 if modality == "audio" else 14)
    manifest_path(features).unlink()  # it is somebody else's tree
    a, b = make_runs(tmp_path, "ale")
    report = evaluated("ale", a, b, tree)
    assert report["classes_without_clips"] == ["class10"]
    notices = "\n".join(report["released"]["notices"])
    assert "Classes of the validation split without clips, left out of the means: class07" in notices
    assert "Classes of the test split without clips, left out of the means: class10" in notices


def empty_class_file(path: Path, width: int) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.zeros((0, width), np.float32))
        file.create_dataset("video_urls", data=np.array([], dtype="S80"))


def test_a_prefix_of_data_parallel_is_taken_off(tree: Path, tmp_path: Path) -> None:
    a, b = make_runs(tmp_path, "avgzslnet")
    plain = evaluated("avgzslnet", a, b, tree)
    state = {f"module.{name}": value for name, value in published_state("avgzslnet", 0).items()}
    save(a / "AVGZSLNet_score.pt", state, BEST + 1)
    assert evaluated("avgzslnet", a, b, tree)["metrics"] == plain["metrics"]


def damage(change: str, a: Path, b: Path) -> None:
    """One fault in the two runs of AVCA."""
    score, tested = a / "AVCA_score.pt", b / "checkpoints" / f"AVCA_score_ckpt_{BEST}.pt"
    state = published_state("avca", 0)
    if change == "two scores":
        shutil.copy(score, a / "APN_score.pt")
    elif change == "no score":
        score.unlink()
    elif change == "no stage a":
        shutil.rmtree(a)
    elif change == "no epoch":
        tested.unlink()
    elif change == "no checkpoints":
        shutil.rmtree(tested.parent)
    elif change == "empty checkpoints":
        shutil.rmtree(tested.parent)
        tested.parent.mkdir()
    elif change == "two of the epoch":
        shutil.copy(tested, tested.with_name(f"AVCA_loss_ckpt_{BEST}.pt"))
    elif change == "truncated":
        os.truncate(score, score.stat().st_size // 2)
    elif change == "not a checkpoint":
        torch.save(state, score)
    elif change == "list":
        torch.save([1], score)
    elif change == "epoch 0":
        save(score, state, 0)
    elif change == "epoch text":
        save(score, state, "4")
    elif change == "no tensors":
        save(score, {"A_enc.fc.0.weight": 1.0}, BEST + 1)
    elif change == "renamed":
        save(tested, state, BEST + 2)
    elif change == "keys":
        del state["D.fc.0.bias"]
        save(tested, {**state, "E.x": state["D.fc.1.bias"], "W_proj.fc.0.bias": torch.zeros(3)}, BEST + 1)
    elif change == "lost":
        save(tested, {k: v for k, v in state.items() if not k.startswith("A_enc.fc.0")}, BEST + 1)
    elif change == "nan":
        state["D.fc.0.bias"][0] = torch.nan
        save(tested, state, BEST + 1)
    elif change == "shallow":
        shallow = {k: v for k, v in state.items() if not k.startswith(("A_enc.fc.4", "A_enc.fc.5"))}
        save(score, shallow, BEST + 1)
    elif change == "no transformer":
        save(score, {k: v for k, v in state.items() if not k.startswith("cross_attention")}, BEST + 1)
    elif change == "other sizes":
        other = models.build("avca", audio_dim=10, video_dim=14, **{**small("avca"), "embeddings_hidden_size": 8})
        save(tested, other.state_dict(), BEST + 1)
    elif change == "other features":
        save(score, published_state("avca", 0, 512, 512), BEST + 1)
    elif change == "other method":
        save(score, published_state("cjme", 0), BEST + 1)
    else:
        raise ValueError(change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ("two scores", ["2 files *_score.pt", "APN_score.pt", "AVCA_score.pt"]),
        ("no score", ["0 files *_score.pt", "AVCA_loss.pt"]),
        ("no stage a", ["does not exist", "Expected a run's folder"]),
        ("no epoch", ["has only epochs 0, 1, 2, 4", "*_ckpt_3.pt", "--retrain_all"]),
        ("no checkpoints", ["checkpoints does not exist", "epoch 3 (from 0)"]),
        ("empty checkpoints", ["has no file *_ckpt_<epoch>.pt"]),
        ("two of the epoch", ["2 checkpoints of epoch 3", "AVCA_loss_ckpt_3.pt"]),
        ("truncated", ["AVCA_score.pt", "cannot be read as weights"]),
        ("not a checkpoint", ["AVCA_score.pt holds a dict with", "epoch (from 1)"]),
        ("list", ["AVCA_score.pt holds list"]),
        ("epoch 0", ["has the epoch 0"]),
        ("epoch text", ["has the epoch '4'"]),
        ("no tensors", ["a model that is not names and tensors"]),
        ("renamed", ["of epoch 4 (from 0)", "of 3"]),
        ("keys", ["1 missing: D.fc.0.bias", "1 unexpected: E.x", "W_proj.fc.0.bias (found [3], expected [64])"]),
        ("lost", ["AVCA_score_ckpt_3.pt", "2 missing: A_enc.fc.0.weight, A_enc.fc.0.bias"]),
        ("nan", ["AVCA_score_ckpt_3.pt", "not finite: D.fc.0.bias"]),
        ("shallow", ["A_enc was trained without a hidden layer (hidden size 0)", "not supported"]),
        ("no transformer", ["depth_transformer 0"]),
        ("other sizes", ["'embeddings_hidden_size': 24", "'embeddings_hidden_size': 8", "two runs of one model"]),
        ("other features", ["trained on audio features of width 512", "have 10", "main_features"]),
        ("other method", ["no checkpoint of avca", "those of cjme"]),
    ],
)
def test_trouble_is_one_message_and_a_status(
    change: str, messages: list[str], tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_runs(tmp_path, "avca")
    damage(change, a, b)
    assert main(arguments("avca", a, b, tree, "--out", str(tmp_path / "eval.json"))) == 1
    error = capsys.readouterr().err
    assert error.startswith("avpipe: ") and "Traceback" not in error
    for message in messages:
        assert message in error
    assert not (tmp_path / "eval.json").exists()


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("fvaegan", [], "has no such checkpoints"),
        ("avcb", [], "is unknown"),
        ("avca", ["--set", "norm_inputs=true"], "Expected no setting at all"),
        ("ale", ["--set", "dropout=0.1"], "Expected norm_inputs"),
        ("ale", ["--set", "norm_inputs=3"], "expected true or false"),
        ("avca", ["--out", "no/such/folder/eval.json"], "does not exist"),
        ("avca", ["--split", "own_split"], "own_split"),
        ("avca", ["--features", "gone"], "gone"),
    ],
)
def test_wrong_arguments(
    method: str, more: list[str], message: str, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_runs(tmp_path, "avca")
    assert main(arguments(method, a, b, tree, *more)) == 1
    error = capsys.readouterr().err
    assert error.startswith("avpipe: ") and message in error


def test_one_run_is_not_both_stages(tree: Path, tmp_path: Path) -> None:
    _, b = make_runs(tmp_path, "avca")
    save(b / "AVCA_score.pt", published_state("avca", 0), BEST + 1)
    with pytest.raises(AvpipeError, match="given as both stages"):
        evaluated("avca", b, b, tree)


def test_blocks_without_batch_normalisation_are_refused(tree: Path, tmp_path: Path) -> None:
    a, b = make_runs(tmp_path, "cjme")
    state = published_state("cjme", 0)
    block = "triplet_net.embedding_net2.fc."
    plain = {k: v for k, v in state.items() if not k.startswith(block + "1")}
    plain = {k.replace(block + "4", block + "3"): v for k, v in plain.items()}
    save(a / "CJME_score.pt", plain, BEST + 1)
    with pytest.raises(AvpipeError, match=r"embedding_net2 was trained without batch normalisation"):
        evaluated("cjme", a, b, tree)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("stage", ["a", "b"])
def test_nothing_in_a_file_is_executed(stage: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = make_runs(tmp_path, "avca")
    path = a / "AVCA_score.pt" if stage == "a" else b / "checkpoints" / f"AVCA_score_ckpt_{BEST}.pt"
    save(path, published_state("avca", 0), BEST + 1, optimizer=Hostile())
    with pytest.raises(AvpipeError, match=rf"{path.name}.*cannot be read as weights"):
        evaluated("avca", a, b, tree)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.slow
def test_runs_from_the_published_archive(tree: Path, tmp_path: Path) -> None:
    """model.zip, where its page says to put it by hand, unpacked as the table of files says."""
    a, b = make_runs(tmp_path / "made", "devise")
    files = read_catalogue(Path(__file__).parents[2] / "config" / "files.yaml")["avca_models"]
    files = files.model_copy(update={"folder": str(tmp_path / "avca_models")})
    with pytest.raises(AvpipeError, match=r"1xyxfnHjG1GF7VtcJRHGmI7dZ-qdoRrYI.* save it as .*/avca_models/model\.zip"):
        fetch_set(files)
    shutil.make_archive(str(tmp_path / "avca_models" / "model"), "zip", tmp_path / "made")
    fetch_set(files)
    unpacked = tmp_path / "avca_models" / "unpacked"
    assert (
        evaluated("devise", unpacked / "val", unpacked / "all", tree)["metrics"]
        == evaluated("devise", a, b, tree)["metrics"]
    )
