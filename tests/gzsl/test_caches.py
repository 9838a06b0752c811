"""The published pickles, both ways: genuine ones are read, and the published way of reading takes ours."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tree import CLASSES, small_split, write_small

from avpipe.errors import AvpipeError
from avpipe.formats.avca_pickles import NamedFeatures, read_feature_pickle, write_feature_pickle
from avpipe.gzsl.benchmark import SUBSETS, Benchmark, Subset
from avpipe.gzsl.caches import CACHE_PARTS, cached_words, read_caches, write_caches
from avpipe.gzsl.splits import read_split
from avpipe.gzsl.tree_reading import read_tree
from avpipe.gzsl.words import read_names, read_words

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the published splits are not at hand")
UCF = {
    "words": SHARED / "w2v_features/word_embeddings_ucf_normed.npy",
    "names": SHARED / "UCF/class-split/ucf_w2v_class_names.csv",
}
# Word2vec names whose order is not that of the classes, as UCF's: "Weight Lifting" is CleanAndJerk.
NAMES = {"Bow, long": "zither", 'Cat "meow"': "a cat", "Dog's": "meadow", "Éclair": "bun"}
WORDS = {name: np.full(5, i + 1, np.float32) for i, name in enumerate(NAMES.values())}


def small_benchmark(tmp_path: Path) -> Benchmark:
    root, *_ = write_small(tmp_path)
    return read_tree(root, "main_features", "main_split")


def write_as_published(folder: Path, change=lambda caches: None, protocol=5) -> dict:
    """The caches of the small split as torch and pickle write them, clips in no order, after `change`."""
    split, rng, caches = small_split(), np.random.default_rng(0), {}
    rows = {clip: rng.standard_normal(10).astype(np.float32) for part in SUBSETS for clip in split.clips[part]}
    text = {
        "data": torch.stack([torch.from_numpy(WORDS[name]) for name in sorted(WORDS)]),
        "target": torch.LongTensor([[*NAMES.values()].index(name) for name in sorted(WORDS)]),
        "url": np.array([]),
    }
    for cache, parts in CACHE_PARTS.items():
        clips = [(clip, CLASSES.index(name)) for part in parts for clip, name in split.clips[part].items()][::-1]
        target, url = torch.LongTensor([label for _, label in clips]), np.array([clip for clip, _ in clips])
        data = torch.FloatTensor(np.stack([rows[clip] for clip, _ in clips]))
        caches[cache] = {
            "audio": {"data": data[:, :4].clone(), "target": target.clone(), "url": url.copy()},
            "video": {"data": data[:, 4:].clone(), "target": target.clone(), "url": url.copy()},
            "text": dict(text),
        }
    change(caches)
    folder.mkdir(exist_ok=True)
    for cache, contents in caches.items():
        (folder / f"{cache}main_split.pkl").write_bytes(pickle.dumps(contents, protocol))
    return caches


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_genuine_caches_are_read(tmp_path, protocol):
    caches = write_as_published(tmp_path, protocol=protocol)
    got = read_caches(tmp_path, "main_split")
    assert list(got) == ["training", "val", "test"]
    for cache, contents in got.items():
        theirs = caches[cache]
        assert contents.audio.dtype == contents.video.dtype == np.float32 and contents.class_ids.dtype == np.int64
        assert np.array_equal(contents.audio, theirs["audio"]["data"].numpy())
        assert np.array_equal(contents.video, theirs["video"]["data"].numpy())
        assert contents.class_ids.tolist() == theirs["audio"]["target"].tolist()
        assert contents.clip_ids == tuple(theirs["audio"]["url"])
    words = cached_words(got["val"], NAMES, CLASSES)
    assert words.keys() == WORDS.keys() and all((words[name] == WORDS[name]).all() for name in WORDS)


def test_train_val_may_lack_or_have_another_order(tmp_path):
    def shuffle(caches):
        for part in ("audio", "video"):
            order = [3, 1, 0, 2, 7, 6, 5, 4]
            caches["train_val"][part] = {key: values[order] for key, values in caches["train_val"][part].items()}

    write_as_published(tmp_path, shuffle)
    assert len(read_caches(tmp_path, "main_split")["training"].clip_ids) == 4
    (tmp_path / "train_valmain_split.pkl").unlink()
    assert len(read_caches(tmp_path, "main_split")["training"].clip_ids) == 4


def spoil(cache, *keys):
    """A change that adds 1 to the first element of a tensor."""

    def change(caches):
        part = caches[cache]
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = part[keys[-1]].clone()
        part[keys[-1]].view(-1)[0] += 1

    return change


def replace(cache, part, key, value):
    return lambda caches: caches[cache][part].__setitem__(key, value)


def without_clip(name: str):
    def change(caches):
        for cache in caches.values():
            for part in ("audio", "video"):
                keep = np.flatnonzero(cache[part]["url"] != name)
                cache[part] = {key: values[keep] for key, values in cache[part].items()}

    return change


def repeat_clip(cache: str, index: int, *, into: str | None = None, change: float = 0.0):
    """Append a row of a cache to itself, or to another, and to train_val where it belongs there."""

    def apply(caches):
        for part in ("audio", "video"):
            source = caches[cache][part]
            row = (source["data"][[index]] + change, source["target"][[index]], source["url"][[index]])
            for name in dict.fromkeys((into or cache, *(["train_val"] if (into or cache) != "test" else []))):
                target = caches[name][part]
                caches[name][part] = {
                    "data": torch.cat([target["data"], row[0]]),
                    "target": torch.cat([target["target"], row[1]]),
                    "url": np.append(target["url"], row[2]),
                }

    return apply


def rename_clip(old: str, new: str):
    def change(caches):
        for cache in caches.values():
            for part in ("audio", "video"):
                cache[part]["url"] = np.array([new if url == old else url for url in cache[part]["url"]])

    return change


BAD_CACHES = {
    "other url": (
        replace("val", "audio", "url", np.array(list("abcd"))),
        r"valmain_split\.pkl was not read: audio and video differ",
    ),
    "other target": (spoil("test", "video", "target"), r"testmain_split\.pkl was not read: audio and video differ"),
    "too few rows": (
        replace("val", "audio", "data", torch.ones(3, 4)),
        r"valmain.*\(3, 4\); expected numbers \[4, d\]",
    ),
    "no url": (
        lambda caches: caches["val"]["audio"].pop("url"),
        r"valmain_split\.pkl.* it has no audio with data",
    ),
    "no text": (lambda caches: caches["val"].pop("text"), r"valmain_split\.pkl.* it has no text with data"),
    "other width": (
        replace("test", "audio", "data", torch.ones(5, 3)),
        r"testmain.*widths \(3, 6\).*training.*\(4, 6\)",
    ),
    "other text": (spoil("test", "text", "data"), r"testmain_split\.pkl has other text rows"),
    "train_val with other features": (spoil("train_val", "video", "data"), r"train_valmain_split\.pkl has 8 clips"),
    "training renewed alone": (spoil("training", "audio", "data"), r"train_valmain_split\.pkl has 8 clips"),
    "half a class id": (replace("val", "audio", "target", torch.full((4,), 0.5)), "expected 4 whole numbers"),
    "a list": (lambda caches: caches.__setitem__("val", [1]), r"valmain_split\.pkl was not read: it has no audio"),
}


@pytest.mark.parametrize(("change", "message"), BAD_CACHES.values(), ids=BAD_CACHES)
def test_caches_that_contradict_themselves_are_refused_by_file(tmp_path, change, message):
    write_as_published(tmp_path, change)
    with pytest.raises(AvpipeError, match=message):
        read_caches(tmp_path, "main_split")


def test_absent_and_hostile_caches(tmp_path):
    write_as_published(tmp_path)
    with pytest.raises(AvpipeError, match=r"lacks trainingcls_split\.pkl.*it has .*trainingmain_split\.pkl"):
        read_caches(tmp_path, "cls_split")
    (tmp_path / "testmain_split.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(AvpipeError, match=r"testmain_split\.pkl was not read: it names the global os\.system"):
        read_caches(tmp_path, "main_split")


def test_text_rows_of_another_name_table_are_refused(tmp_path):
    write_as_published(tmp_path)
    cache = read_caches(tmp_path, "main_split")["test"]
    other = dict(zip(NAMES, reversed(NAMES.values()), strict=True))
    with pytest.raises(AvpipeError, match="classes written beside them differ"):
        cached_words(cache, other, CLASSES)


def load_as_published(folder: Path, cache: str, class_names, names: dict[str, str], used: list[int]):
    """What the published loader makes of a cache: text rows by class id.

    Source: docs/methods.md, What each stage reads; Class vectors.
    """
    contents = pickle.loads((folder / f"{cache}main_split.pkl").read_bytes())
    audio, video, text = contents["audio"], contents["video"], contents["text"]
    assert torch.equal(audio["target"], video["target"]) and np.array_equal(audio["url"], video["url"])
    real = {word: name for name, word in names.items()}
    assert text["target"].tolist() == [class_names.index(real[word]) for word in sorted(real)]
    mask = np.where(np.isin(audio["target"], used))[0]
    tensors = (audio["data"][mask], video["data"][mask], audio["target"][mask], text["data"][sorted(used)])
    assert [tensor.type() for tensor in tensors] == [
        f"torch.{kind}Tensor" for kind in ("Float", "Float", "Long", "Float")
    ]
    return (*(tensor.numpy() for tensor in tensors), audio["url"][mask])


def test_our_caches_give_the_published_loader_the_right_arrays(tmp_path):
    benchmark = small_benchmark(tmp_path)
    write_caches(benchmark, NAMES, WORDS, tmp_path / "caches", "main_split")
    for cache, parts in CACHE_PARTS.items():
        used = sorted({int(class_id) for part in parts for class_id in benchmark.classes[part]})
        audio, video, target, text, url = load_as_published(tmp_path / "caches", cache, CLASSES, NAMES, used)
        subsets = [benchmark.subsets[part] for part in parts]
        assert np.array_equal(audio, np.concatenate([subset.audio for subset in subsets]))
        assert np.array_equal(video, np.concatenate([subset.video for subset in subsets]))
        assert np.array_equal(target, np.concatenate([subset.class_ids for subset in subsets]))
        assert tuple(url) == tuple(clip for subset in subsets for clip in subset.clip_ids)
        assert type(url) is np.ndarray and url.dtype.kind == "U"
        assert np.array_equal(text, np.stack([WORDS[sorted(WORDS)[class_id]] for class_id in used]))


def test_written_caches_are_read_equal_and_their_bytes_are_the_same_again(tmp_path):
    benchmark = small_benchmark(tmp_path)
    for folder in ("a", "b"):
        write_caches(benchmark, NAMES, dict(reversed(WORDS.items())), tmp_path / folder, "main_split")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(f"{cache}main_split.pkl" for cache in CACHE_PARTS)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    got = read_caches(tmp_path / "a", "main_split")["training"]
    expected = benchmark.subsets["stage_1_train"]
    for field in ("audio", "video", "class_ids"):
        assert np.array_equal(getattr(got, field), getattr(expected, field))
    assert got.clip_ids == expected.clip_ids
    assert cached_words(got, NAMES, CLASSES).keys() == WORDS.keys()


def test_caches_need_a_vector_for_every_class(tmp_path):
    benchmark = small_benchmark(tmp_path)
    with pytest.raises(AvpipeError, match=r"3 word vectors, but none for bun \(1\)"):
        write_caches(benchmark, NAMES, {w: WORDS[w] for w in WORDS if w != "bun"}, tmp_path, "main_split")
    with pytest.raises(AvpipeError, match="3 rows for 4 classes"):
        write_caches(benchmark, {n: NAMES[n] for n in CLASSES[:3]}, WORDS, tmp_path, "main_split")


VIDEO, AUDIO = torch.arange(12.0).reshape(3, 4), torch.arange(6.0).reshape(3, 2)
LABELS = torch.LongTensor([2, 0, 1])
FILES = ["data/x/v_A_g01_c01.avi", "C:\\x\\b.mp4.part", "c"]
FORMS = {
    "dict": {"video": VIDEO, "labels": LABELS, "audio": AUDIO, "filenames": ["v_A_g01_c01", "b", "c"]},
    "dict with an array of names": {
        "video": VIDEO,
        "labels": LABELS.float(),
        "audio": AUDIO.double(),
        "filenames": np.array(["v_A_g01_c01", "b", "c"]),
    },
    "list": [VIDEO, LABELS, AUDIO, FILES],
    "rows of tensors": [[VIDEO[i], LABELS[i], AUDIO[i], FILES[i]] for i in range(3)],
    "rows of arrays": [(VIDEO[i].numpy(), int(LABELS[i]), AUDIO[i].numpy(), FILES[i]) for i in range(3)],
    "rows of lists": [[VIDEO[i].tolist(), int(LABELS[i]), AUDIO[i].tolist(), FILES[i]] for i in range(3)],
}


def dump(tmp_path: Path, value) -> Path:
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(value))
    return tmp_path / "features.pkl"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_feature_pickle_is_read_alike(tmp_path, form):
    got = read_feature_pickle(dump(tmp_path, FORMS[form]))
    assert got.clip_ids == ("v_A_g01_c01", "b", "c") and got.merged == 0
    assert got.class_ids.tolist() == [2, 0, 1] and got.class_ids.dtype == np.int64
    assert np.array_equal(got.video, VIDEO) and np.array_equal(got.audio, AUDIO)
    assert got.video.dtype == got.audio.dtype == np.float32


def test_four_rows_are_not_taken_for_the_list_of_four(tmp_path):
    got = read_feature_pickle(dump(tmp_path, [[[1.0], 0, [2.0], f"{name}.avi"] for name in "abcd"]))
    assert got.clip_ids == ("a", "b", "c", "d") and got.video.shape == (4, 1)


def test_equal_rows_are_merged_and_counted_and_differing_ones_named(tmp_path):
    rows = [[VIDEO[i].tolist(), int(LABELS[i]), AUDIO[i].tolist(), f"{'abc'[i]}.avi"] for i in (0, 1, 0, 2, 0)]
    got = read_feature_pickle(dump(tmp_path, rows))
    assert got.clip_ids == ("a", "b", "c") and got.merged == 2
    assert got.class_ids.tolist() == LABELS.tolist() and np.array_equal(got.video, VIDEO)
    rows[2][1] = 7  # another label alone
    with pytest.raises(AvpipeError, match=r"more than once, with different labels or features: a \(1\)"):
        read_feature_pickle(dump(tmp_path, rows))


BAD_PICKLES = {
    "too few names": (FORMS["dict"] | {"filenames": ["a", "b"]}, "expected 2 whole numbers"),
    "too few features": (FORMS["dict"] | {"video": VIDEO[:2]}, r"video is float32 \(2, 4\); expected numbers \[3, d\]"),
    "names that are numbers": (FORMS["dict"] | {"filenames": [1, 2, 3]}, "not a list of names"),
    "no features": (FORMS["dict"] | {"audio": torch.empty(3, 0)}, "audio is float32"),
    "rows of different lengths": ([[[1.0], 0, [2.0], "a"], [[1.0, 2.0], 0, [2.0], "b"]], "inhomogeneous shape"),
    "another dict": ({"video": VIDEO}, "holds a dict of another form"),
    "a tensor": (VIDEO, "holds a ndarray of another form"),
    "nothing": ([], "holds a list of another form"),
}


@pytest.mark.parametrize(("value", "message"), BAD_PICKLES.values(), ids=BAD_PICKLES)
def test_other_pickles_are_refused(tmp_path, value, message):
    with pytest.raises(AvpipeError, match=rf"features\.pkl.*{message}"):
        read_feature_pickle(dump(tmp_path, value))


def test_written_feature_pickle_is_what_the_splitting_scripts_read(tmp_path):
    features = NamedFeatures(("b", "a"), np.array([1, 0]), np.ones((2, 3), np.float32), np.eye(2, dtype=np.float32))
    write_feature_pickle(tmp_path / "x.pkl", features)
    theirs = pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert {key: type(value) for key, value in theirs.items()} == {
        "video": torch.Tensor,
        "labels": torch.Tensor,
        "audio": torch.Tensor,
        "filenames": list,
    }
    assert all(theirs[key].device == torch.device("cpu") for key in ("video", "labels", "audio"))
    assert np.array(theirs["filenames"])[np.where(theirs["labels"] == 0)[0]].tolist() == ["a"]
    ours = read_feature_pickle(tmp_path / "x.pkl")
    assert ours.clip_ids == features.clip_ids and ours.class_ids.tolist() == [1, 0]
    assert np.array_equal(ours.video, features.video) and np.array_equal(ours.audio, features.audio)


@pytest.mark.slow
@needs_shared
def test_caches_of_the_size_of_ucf_are_written_and_read(tmp_path):
    """3,174 + 1,820 + 1,822 clips of 128 + 4,096 numbers; 116 MB, and train_val with 84 MB again."""
    split = read_split(SHARED / "UCF", "main_split")
    ids = {name: class_id for class_id, name in enumerate(split.all_classes)}
    rng, subsets = np.random.default_rng(0), {}
    for subset in SUBSETS:
        clips = sorted(split.clips[subset].items(), key=lambda clip: (clip[1], clip[0]))
        audio, video = (rng.random((len(clips), d), np.float32) for d in (128, 4096))
        subsets[subset] = Subset(audio, video, np.array([ids[c] for _, c in clips]), tuple(clip for clip, _ in clips))
    classes = {subset: np.array([ids[name] for name in split.classes[subset]]) for subset in SUBSETS}
    words, names = read_words(UCF["words"]), read_names(UCF["names"])
    benchmark = Benchmark(split.all_classes, np.empty((101, 300), np.float32), classes, subsets)
    write_caches(benchmark, names, words, tmp_path, "main_split")
    got = read_caches(tmp_path, "main_split")
    assert [len(cache.clip_ids) for cache in got.values()] == [3174, 1820, 1822]
    assert np.array_equal(got["test"].video[555:], subsets["stage_2_test_unseen"].video)
    used = [int(class_id) for part in CACHE_PARTS["test"] for class_id in classes[part]]
    _, video, target, text, url = load_as_published(tmp_path, "test", split.all_classes, names, used)
    assert np.array_equal(video, got["test"].video) and target.tolist() == got["test"].class_ids.tolist()
    assert tuple(url) == got["test"].clip_ids
    # docs/methods.md, Class vectors: the published loader gives PlayingFlute the vector of "Playing Guitar".
    row = sorted(used).index(ids["PlayingFlute"])
    assert np.array_equal(text[row], words["Playing Guitar"])
    recovered = cached_words(got["val"], names, split.all_classes)
    assert recovered.keys() == words.keys() and all(np.array_equal(recovered[w], words[w]) for w in words)
