"""Which word vector each class gets, in the three alignments."""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.gzsl.benchmark import SUBSETS
from avpipe.gzsl.class_split import read_all_classes
from avpipe.gzsl.own_split import spoken_names
from avpipe.gzsl.splits import read_classes
from avpipe.gzsl.tree import publish_class_split
from avpipe.gzsl.words import class_vectors, odd_vectors, read_names, read_tables, read_words, write_names, write_words

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "gzsl"
WORDS_OF = {"UCF": "ucf", "ActivityNet": "activity", "VGGSound": "vggsound"}
# docs/methods.md, Class vectors: subset -> classes with another class's vector, and all used classes.
PUBLISHED_WRONG = {
    "UCF": {"stage_1_train": 23, "stage_1_val_unseen": 8, "stage_2_test_unseen": 5, "used": 36},
    "ActivityNet": {"stage_2_test_unseen": 1, "used": 8},
    "VGGSound": {"stage_1_train": 84, "stage_2_test_unseen": 42, "used": 177},
}

CLASSES = ("Ant", "Bee", "Cow", "Dog")
NAMES = {"Ant": "wood ant", "Bee": "bee", "Cow": "cow", "Dog": "big dog"}  # sorted: bee, big dog, cow, wood ant
WORDS = {name: np.full(3, i + 1, np.float32) for i, name in enumerate(NAMES.values())}


def test_correct_alignment_gives_each_class_its_own():
    vectors = class_vectors(WORDS, NAMES, CLASSES)
    assert vectors.dtype == np.float32 and vectors[:, 0].tolist() == [1, 2, 3, 4]


def test_published_alignment_is_the_order_of_sorted_word2vec_names():
    assert class_vectors(WORDS, NAMES, CLASSES, "published")[:, 0].tolist() == [2, 4, 3, 1]


def test_class_that_the_table_spells_with_other_capitals():
    names = {"ant" if name == "Ant" else name: word for name, word in NAMES.items()}
    assert class_vectors(WORDS, names, CLASSES)[:, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(20))
def test_permuted_alignment_moves_every_used_class_and_no_other(seed):
    classes = tuple(f"c{i:02}" for i in range(12))
    words = {name: np.full(2, i or 99, np.float32) for i, name in enumerate(classes)}
    names = {name: name for name in classes}
    used = classes[2:]
    vectors = class_vectors(words, names, classes, "permuted", used=used, seed=seed)[:, 0]
    assert vectors[:2].tolist() == [99, 1]
    assert sorted(vectors[2:]) == list(range(2, 12))
    assert not (vectors[2:] == np.arange(2, 12)).any()
    again = class_vectors(words, names, classes, "permuted", used=used[::-1], seed=seed)[:, 0]
    assert (again == vectors).all()
    assert (class_vectors(words, names, classes, "permuted", used=used, seed=seed + 100)[:, 0] != vectors).any()


def test_permutation_of_one_class_is_refused():
    with pytest.raises(AvpipeError, match="two or more"):
        class_vectors(WORDS, NAMES, CLASSES, "permuted", used=["Ant"])


def test_missing_vector_matters_for_used_classes_only():
    words = {name: vector for name, vector in WORDS.items() if name != "cow"}
    vectors = class_vectors(words, NAMES, CLASSES, used=["Ant", "Bee"])
    assert np.isnan(vectors[2]).all() and np.isfinite(vectors[[0, 1, 3]]).all()
    with pytest.raises(AvpipeError, match=r"none for the classes Cow \(1\)"):
        class_vectors(words, NAMES, CLASSES, used=["Ant", "Cow"])
    with pytest.raises(AvpipeError, match=r"none for the classes Cow \(1\)"):
        class_vectors(WORDS, {k: v for k, v in NAMES.items() if k != "Cow"}, CLASSES)


def test_published_alignment_needs_a_row_per_class():
    with pytest.raises(AvpipeError, match="3 rows for 4 classes"):
        class_vectors(WORDS, {k: v for k, v in NAMES.items() if k != "Cow"}, CLASSES, "published")


def test_written_words_read_equal_and_numpy_1_can_read_them(tmp_path):
    write_words(tmp_path / "a.npy", WORDS)
    write_words(tmp_path / "b.npy", WORDS)
    data = (tmp_path / "a.npy").read_bytes()
    assert data == (tmp_path / "b.npy").read_bytes()
    got = read_words(tmp_path / "a.npy")
    by_numpy = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    for words in (got, by_numpy):
        assert list(words) == list(WORDS) and all((words[name] == WORDS[name]).all() for name in WORDS)
    modules = {
        str(argument).split()[0]
        for opcode, argument, _ in pickletools.genops(data[data.index(b"\n") + 1 :])
        if opcode.name == "GLOBAL"
    }
    assert modules == {"numpy.core.multiarray", "numpy"}  # numpy 1 has no numpy._core


@pytest.mark.parametrize(
    "words",
    [
        {"a": np.ones(3, np.float32), "b": np.ones(4, np.float32)},
        {"a": np.full(3, np.nan, np.float32)},
        {"a": np.ones((1, 3), np.float32)},
        {},
    ],
)
def test_vectors_must_be_finite_and_of_one_length(tmp_path, words):
    write_words(tmp_path / "a.npy", words)
    with pytest.raises(AvpipeError, match="expected"):
        read_words(tmp_path / "a.npy")


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_the_names_of_broken_vectors_are_given(tmp_path, broken):
    write_words(tmp_path / "a.npy", {"good": np.ones(3), "bad": np.array([1.0, broken, 0.0])})
    with pytest.raises(AvpipeError, match=r"other than finite numbers for bad \(1\)"):
        read_words(tmp_path / "a.npy")


@pytest.mark.parametrize("alignment", ["correct", "published", "permuted"])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-40])
def test_vectors_of_zeros_are_refused_where_they_are_used(alignment, size):
    words = WORDS | {"cow": np.full(3, size, np.float32)}
    with pytest.raises(AvpipeError, match=r"classes Cow \(1\) are zero.*expected vectors of length 1"):
        class_vectors(words, NAMES, CLASSES, alignment)
    assert class_vectors(words, NAMES, CLASSES, alignment, used=["Ant", "Bee"]).shape == (4, 3)


UNIT = np.eye(4, dtype=np.float32)
CLOSE = np.array([1.0, 0.02, 0.0, 0.0], np.float32) / np.float32(1.0002)  # cosine with the first axis 0.9998


@pytest.mark.parametrize(
    ("row", "vector", "phrases"),
    [
        (1, 7 * UNIT[1], ["of another length than 1, which every method expects: Bee (7) (1)"]),
        (1, 0.99 * UNIT[1], ["of another length than 1, which every method expects: Bee (0.99) (1)"]),
        (1, UNIT[0], ["the same for two classes, which nothing can tell apart: Ant and Bee (1)"]),
        (3, UNIT[2], ["the same for two classes, which nothing can tell apart: Cow and Dog (1)"]),
        (1, CLOSE, ["nearly the same for two classes (cosine above 0.999): Ant and Bee (1)"]),
        (1, -CLOSE, []),
        (1, np.float32(0.6) * UNIT[0] + np.float32(0.8) * UNIT[1], []),
    ],
)
def test_odd_vectors_are_named(row, vector, phrases):
    vectors = UNIT.copy()
    vectors[row] = vector
    assert odd_vectors(vectors, CLASSES, CLASSES) == phrases
    unused = [name for name in CLASSES if name != CLASSES[row]]
    vectors[row] = np.nan  # as the vector of a class that the split does not use
    assert odd_vectors(vectors, CLASSES, unused) == []


def test_odd_vectors_of_several_kinds_and_three_equal_ones():
    vectors = np.stack([2 * UNIT[0], UNIT[1], UNIT[1], UNIT[1]])
    lengths, equal = odd_vectors(vectors, CLASSES, CLASSES)
    assert "Ant (2) (1)" in lengths and "Bee and Cow, Bee and Dog, Cow and Dog (3)" in equal


def test_an_array_is_no_dict_of_words(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3)))
    with pytest.raises(AvpipeError, match=r"holds a ndarray; expected a dict"):
        read_words(tmp_path / "a.npy")


def test_names_survive_commas_and_are_checked(tmp_path):
    names = {"a, b": 'x "y"', "c": "z, é"}
    write_names(tmp_path / "n.csv", names)
    assert read_names(tmp_path / "n.csv") == names
    (tmp_path / "n.csv").write_text("original,manual,category\na,x,animals\nb,x,music\n")
    with pytest.raises(AvpipeError, match=r"twice in column manual: x \(1\)"):
        read_names(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("class,word\na,x\n")
    with pytest.raises(AvpipeError, match="expected original and manual"):
        read_names(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_text("original,manual\na,x\nb\n")
    with pytest.raises(AvpipeError, match="without original or manual: line 3"):
        read_names(tmp_path / "n.csv")
    (tmp_path / "n.csv").write_bytes(b"original,manual\n\xe9,x\n")
    with pytest.raises(AvpipeError, match="was not read"):
        read_names(tmp_path / "n.csv")
    with pytest.raises(AvpipeError, match="does not exist"):
        read_names(tmp_path / "none.csv")


@pytest.mark.parametrize("dataset", PUBLISHED_WRONG)
@pytest.mark.skipif(not SHARED.is_dir(), reason="the published word vectors are not at hand")
def test_published_alignment_is_wrong_for_exactly_the_recorded_classes(dataset):
    folder = SHARED / dataset / "class-split"
    words = read_words(SHARED / "w2v_features" / f"word_embeddings_{WORDS_OF[dataset]}_normed.npy")
    names = read_names(next(folder.glob("*_w2v_class_names.csv")))
    all_classes = read_all_classes(SHARED / dataset)
    correct = class_vectors(words, names, all_classes.names)
    assert odd_vectors(correct, all_classes.names, all_classes.names) == []
    published = class_vectors(words, names, all_classes.names, "published")
    wrong = {all_classes.names[i] for i in np.flatnonzero((correct != published).any(axis=1))}
    classes = read_classes(SHARED / dataset, "main_split", all_classes)
    classes["used"] = tuple(set().union(*classes.values()))
    assert {s: len(wrong & set(classes[s])) for s in PUBLISHED_WRONG[dataset]} == PUBLISHED_WRONG[dataset]
    if dataset == "UCF":  # an example that the specification names
        row = all_classes.names.index("CliffDiving")
        assert (published[row] == words["Cricket Bowling"]).all()


BELOW = {"Archery": "archery", "Diving": "diving", "YoYo": "yo yo"}


class TestTablesOverTables:
    """A table with a few classes lies over the names that the others have."""

    def tables(self, folder, *names):
        paths = [folder / f"{number}.csv" for number in range(len(names))]
        for path, each in zip(paths, names, strict=True):
            write_names(path, each)
        return paths

    def test_two_rows_change_two_classes(self, tmp_path):
        paths = self.tables(tmp_path, BELOW, {"Diving": "jump", "YoYo": "toy"})
        assert read_tables(paths) == {"Archery": "archery", "Diving": "jump", "YoYo": "toy"}

    def test_capitals_may_differ_and_the_last_table_wins(self, tmp_path):
        paths = self.tables(tmp_path, BELOW, {"yoyo": "toy"}, {"YOYO": "string toy"})
        assert read_tables(paths) == BELOW | {"YoYo": "string toy"}

    def test_a_class_of_no_other_table_comes_with_it_and_no_table_is_no_name(self, tmp_path):
        assert read_tables(self.tables(tmp_path, BELOW, {"New": "new"})) == BELOW | {"New": "new"}
        assert read_tables([]) == {}

    def test_two_classes_cannot_come_to_have_one_name(self, tmp_path):
        with pytest.raises(AvpipeError, match=r"0\.csv and .*1\.csv together give .*Archery, Diving .*'archery'"):
            read_tables(self.tables(tmp_path, BELOW, {"Diving": "archery"}))

    @pytest.mark.parametrize("own", [{"Play_Golf": "golf"}, {"PlayGolf": "golf"}, {"playgolf": "golf"}])
    def test_one_of_two_classes_that_are_called_alike_is_renamed(self, own):
        assert sorted(spoken_names(["PlayGolf", "Play_Golf"], own).values()) == ["Play Golf", "golf"]
        with pytest.raises(AvpipeError, match=r"with a row for one of them.*datasets\.<name>\.gzsl\.word_names"):
            spoken_names(["PlayGolf", "Play_Golf"])

    def test_a_split_is_published_with_the_names_laid_over(self, tmp_path):
        source = tmp_path / "class-split"
        (source / "main_split").mkdir(parents=True)
        (source / "all_class.txt").write_text("Archery\nDiving\nYoYo\n")
        for subset in SUBSETS:
            labels = {"stage_1_val_unseen": "Diving", "stage_2_test_unseen": "YoYo"}.get(subset, "Archery")
            labels += "\nDiving" * (subset in ("stage_2_train", "stage_2_test_seen"))
            (source / "main_split" / f"{subset}.txt").write_text(labels + "\n")
        table, own = self.tables(tmp_path, BELOW, {"Diving": "jump"})
        table = table.rename(source / "ucf_w2v_class_names.csv")
        publish_class_split(source, "main_split", [table, own], tmp_path / "made" / "class-split")
        made = tmp_path / "made" / "class-split" / table.name
        assert read_names(made) == BELOW | {"Diving": "jump"}


@pytest.mark.parametrize("vector", [[1.0, [2.0]], ["x" * 9, 1.0], {"a": 1}, None, [[1.0], [2.0, 3.0]]])
def test_class_vectors_that_are_no_rows_of_numbers_are_refused(tmp_path: Path, vector: object) -> None:
    contents = np.empty((), object)
    contents[()] = {"Bow": np.ones(2, np.float32), "Jump": vector}
    np.save(tmp_path / "words.npy", contents)
    with pytest.raises(AvpipeError, match=r"words\.npy"):
        read_words(tmp_path / "words.npy")
