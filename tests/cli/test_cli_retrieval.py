import hashlib
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_pack import make_pack, make_words, write_wav
from made_retrieval import collect, make_evaluation, make_seed

from avpipe.cli import main
from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.io.manifest import write_json
from avpipe.retrieval.packs import read_pack, write_pack
from avpipe.retrieval.packs.published import write_clip_pickle
from avpipe.retrieval.text import write_word_table

TINY = ["--embedding-dim", "16", "--audio-channels", "2", "--word-dim", "12", "--weights", "random:0"]


@pytest.fixture
def pack(tmp_path):
    write_pack(tmp_path / "pack.h5", make_pack())
    return str(tmp_path / "pack.h5")


@pytest.fixture
def run(capsys):
    """Runs a command line: its status, and what it printed on both streams."""

    def call(*arguments):
        status = main([str(each) for each in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_index_and_search_with_a_video_of_ones_own(tmp_path, pack, run):
    index = tmp_path / "i.h5"
    status, out, _ = run("index", pack, index, "--model", "avlnet", *TINY)
    assert status == 0 and "16 numbers for each clip" in out and "untrained: hits mean nothing" in out
    video = tmp_path / "a 'clip' ü.avi"
    render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
    status, out, _ = run("search", index, video, "--json", "--device", "cpu")
    found = json.loads(out)
    hits, made = found["hits"], found["index"]
    assert found["random_weights"] == ["avlnet (random:0)"]
    assert (made["model"], made["weights_label"], made["embedding_dim"]) == ("avlnet", "random:0", 16)
    assert made["provenance"]["libraries"]["torch"] and str(tmp_path) not in json.dumps(made)
    assert status == 0 and sorted(hit["clip_id"] for hit in hits) == ["c0", "c1", "c2"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]
    status, out, _ = run("search", index, video, "--top", "1", "--start", "0.2", "--device", "cpu")
    number = int(hits[0]["clip_id"][1])
    assert status == 0 and len(out.splitlines()) == 4 and f"stir bowl {number}" in out
    assert f"film{number}.mp4 {2 * number}–" in out


def test_search_with_a_text(tmp_path, pack, run):
    write_word_table(tmp_path / "words.h5", make_words())
    index = tmp_path / "i.h5"
    assert run("index", pack, index, "--model", "avlnet_text_tri", *TINY)[0] == 0
    text = ["--text", "pour milk", "--words", tmp_path / "words.h5", "--device", "cpu"]
    status, out, _ = run("search", index, *text)
    assert status == 0 and len(out.splitlines()) == 6 and "RANDOM WEIGHTS: avlnet_text_tri (random:0)" in out
    status, _, error = run("search", index, "--text", "Zucchini", *text[2:])
    assert status == 1 and "none of its 1 words" in error


def test_a_query_without_sound(tmp_path, pack, run):
    assert run("index", pack, tmp_path / "i.h5", "--model", "avlnet", *TINY)[0] == 0
    render_clip(next(spec for spec in plan_demo() if spec.oddity == "no_sound"), tmp_path / "mute.avi")
    status, _, error = run("search", tmp_path / "i.h5", tmp_path / "mute.avi", "--device", "cpu")
    assert status == 1 and "no_audio" in error and "Give a file that has sound" in error
    write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    status, _, error = run("search", tmp_path / "i.h5", tmp_path / "silent.wav", "--device", "cpu")
    assert status == 1 and error.startswith("avpipe: ") and "digital silence" in error


def test_a_pack_becomes_a_pickle_and_again_the_same_pack(tmp_path, run):
    made = make_pack(captions=[("stir",), ("pour",), ("whisk",)])
    write_pack(tmp_path / "pack.h5", made)
    target = tmp_path / "clips.pkl"
    assert run("pack", "convert", tmp_path / "pack.h5", target, "--layout", "youcook")[:2] == (
        0,
        f"{target}: 3 clips\n",
    )
    with target.open("rb") as file:
        clips = pickle.load(file)
    assert clips[1]["id"] == "c1" and isinstance(clips[1]["audio"], torch.Tensor)
    assert tuple(clips[1]["audio"].shape) == (40, 71)  # 0.7 s
    assert run("pack", "convert", target, tmp_path / "again.h5")[0] == 0
    again = read_pack(tmp_path / "again.h5")
    assert (again.ids, again.captions) == (made.ids, made.captions)
    np.testing.assert_array_equal(again.audio, made.audio)
    np.testing.assert_array_equal(again.video_3d, made.video_3d)


UNTRAINED = {
    part: {"extractor": name, "stage": f"{name}/1", "weights": {"label": label, "sha256": None}}
    for part, name, label in (("video_2d", "resnet152", "random:5"), ("audio", "spectrogram", "none"))
}


def test_random_weights_of_features_follow_them_everywhere(tmp_path, run):
    made = make_pack(captions=[("stir",), ("pour",), ("whisk",)])
    write_pack(tmp_path / "pack.h5", replace(made, info=replace(made.info, provenance=UNTRAINED)))
    said = "RANDOM WEIGHTS: resnet152 (random:5)"
    target = tmp_path / "clips.pkl"
    out = run("pack", "convert", tmp_path / "pack.h5", target, "--layout", "youcook")[1]
    assert said in out
    beside = json.loads((tmp_path / "clips.pkl.json").read_text())
    assert beside["pack"]["provenance"] == UNTRAINED and beside["layout"] == "youcook" and beside["libraries"]["avpipe"]
    assert beside["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert said in run("pack", "convert", target, tmp_path / "again.h5")[1]
    again = read_pack(tmp_path / "again.h5").info.provenance
    assert again == {"file": "clips.pkl", **UNTRAINED}
    shown = run("pack", "show", tmp_path / "again.h5")[1]
    assert said in shown and "resnet152, weights random:5" in shown
    indexed = run("index", tmp_path / "again.h5", tmp_path / "i.h5", "--model", "avlnet", *TINY)[1]
    assert said.replace("resnet", "avlnet (random:0), resnet") in indexed
    # What was said of another file does not count.
    write_clip_pickle(make_pack(captions=[("a",), ("b",), ("c",)]), tmp_path / "other.pkl")
    (tmp_path / "clips.pkl").write_bytes((tmp_path / "other.pkl").read_bytes())
    assert "RANDOM" not in run("pack", "convert", target, tmp_path / "third.h5")[1]
    (tmp_path / "clips.pkl.json").write_text("[")
    status, _, error = run("pack", "convert", target, tmp_path / "third.h5")
    assert status == 1 and "clips.pkl.json" in error and "Delete it" in error


def test_what_was_odd_in_a_pickle_is_said(tmp_path, run):
    rng = np.random.default_rng(0)
    features = {"2d": rng.random(2048, np.float32), "3d": rng.random(2048, np.float32)}
    clips = [{**features, "audio": torch.from_numpy(-80 * rng.random((40, 50), np.float32))}]
    (tmp_path / "clips.pkl").write_bytes(pickle.dumps(clips))
    status, _, error = run("pack", "convert", tmp_path / "clips.pkl", tmp_path / "pack.h5")
    assert status == 0 and "'id'" in error
    status, out, _ = run("pack", "show", tmp_path / "pack.h5")
    assert status == 0 and "published pickle" in out and "'id'" in out


def test_show_says_what_a_pack_holds(pack, run):
    status, out, _ = run("pack", "show", pack, "--window", "100")
    assert status == 0
    assert "3 of 4; missing: no_audio 1" in out and "longest c2, 1.51 s; 2 longer than 1 s; 0 silent" in out
    assert "6; 0 clips have none" in out and read_pack(pack).digest in out


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["index", "{pack}", "i.hdf", "--model", "avlnet", *TINY], "must end in .h5"),
        (["index", "{pack}", "no/such/i.h5", "--model", "avlnet", *TINY], "does not exist"),
        (["index", "{pack}", "{pack}", "--model", "avlnet", *TINY], "is the input"),
        (["index", "{pack}", "{tmp}/i.h5", "--model", "avlnet", *TINY[:-1], "gone.pth"], "gone.pth"),
        (["index", "gone.h5", "{tmp}/i.h5", "--model", "avlnet", *TINY], "gone.h5 does not exist"),
        (["search", "{pack}", "x.wav"], "avpipe pack"),
        (["pack", "convert", "{pack}", "{tmp}/x.pkl"], "--layout is needed"),
        (["pack", "convert", "{pack}", "{tmp}/x.h5", "--layout", "youcook"], "must end in .pkl"),
        (["pack", "convert", "gone.pkl", "{tmp}/x.h5"], "gone.pkl does not exist"),
        (["pack", "show", "gone.h5"], "does not exist"),
    ],
)
def test_mistakes_are_one_line_and_a_status(tmp_path, pack, run, arguments, found):
    status, _, error = run(*(each.format(pack=pack, tmp=tmp_path) for each in arguments))
    assert status == 1 and found in error and error.startswith("avpipe: ") and "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.h5", "pack.h5.manifest"]


def test_a_layout_is_for_writing_pickles(tmp_path, run):
    (tmp_path / "c.pkl").write_bytes(pickle.dumps([]))
    status, _, error = run("pack", "convert", tmp_path / "c.pkl", tmp_path / "x.h5", "--layout", "youcook")
    assert status == 1 and "Leave it out" in error


def test_show_of_a_retrieval_result(tmp_path, run):
    ranks = {"median_rank": 4.0, "n_queries": 20, "n_ranked": 17, "gallery": 20}
    seeds = [make_seed(None, 12.5, backwards=12.5, metrics=ranks, gallery=20, expected=20)]
    chance = {"test": {"r1": 5.0, "r5": 25.0, "r10": 50.0}}
    record = collect(tmp_path, [make_evaluation([], run="zero_shot", seeds=seeds, chance=chance)])
    write_json(tmp_path / "eval.json", record.to_json())
    status, out, _ = run("show", tmp_path / "eval.json")
    assert status == 0 and "MISSED QUERIES: test: 3 of 20" in out and "test: 20 candidates" in out
    (row,) = [line for line in out.splitlines() if "audio → video" in line]
    assert row.split()[-5:] == ["12.50", "25.00", "37.50", "4.00", "–"]
