"""Class vectors from word2vec, GloVe and fastText files, compared with what gensim reads from the same files."""

from __future__ import annotations

import codecs
import gzip
import json
import pickle
import re
import tracemalloc

import numpy as np
import pytest

from avpipe.errors import AvpipeError
from avpipe.formats import word_vectors
from avpipe.formats.word_vectors import model_kind, read_entries, vector_length
from avpipe.gzsl import word_models
from avpipe.gzsl.word_models import write_class_vectors
from avpipe.gzsl.words import read_words, write_names

SENTENCES = [
    ["playing", "guitar", "Playing", "the", "violin"],
    ["tai_chi", "in", "the", "Park", "yo", "Yo"],
    ["éclair", "baking", "the", "guitar", "solo", "guitars"],
] * 5
NAMES = {"PlayingGuitar": "Playing Guitar", "TaiChi": "Tai Chi", "Eclair": "Éclair", "Solo": "solo, (VIOLIN)"}
TOKENS = {  # what each name is made of, by the documented order of spellings
    "Playing Guitar": ["Playing", "guitar"],
    "Tai Chi": ["tai_chi"],
    "Éclair": ["éclair"],
    "solo, (VIOLIN)": ["solo", "violin"],
}
FLOAT32_ROUNDING = {"rtol": 0, "atol": 3e-7}  # of components below 1: means are added in another order than gensim's


def class_vectors_from_model(*given, **options):
    """The vectors alone, without the account."""
    return word_models.class_vectors_from_model(*given, **options)[0]


@pytest.fixture(scope="module")
def vectors():
    """Tiny word2vec vectors, as gensim's KeyedVectors."""
    from gensim.models import Word2Vec

    return Word2Vec(SENTENCES, vector_size=12, min_count=1, seed=1, workers=1, epochs=1).wv


@pytest.fixture(scope="module")
def models(vectors, tmp_path_factory):
    """The same vectors in every format that is no fastText .bin: name -> file."""
    folder = tmp_path_factory.mktemp("models")
    vectors.save_word2vec_format(folder / "binary.bin", binary=True)
    vectors.save_word2vec_format(folder / "text.txt")
    vectors.save_word2vec_format(folder / "glove.txt", write_header=False)
    binary = (folder / "binary.bin").read_bytes()
    (folder / "linefeeds.bin").write_bytes(_with_line_feeds(binary, vectors))
    text = (folder / "text.txt").read_text(encoding="utf-8")
    (folder / "fasttext.vec").write_text(re.sub(r"(?<=\d)\n(?!\Z)", " \n", text).replace(" \n", "\n", 1), "utf-8")
    for name in ("binary.bin", "text.txt", "glove.txt"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    return {path.name: path for path in folder.iterdir()}


def _with_line_feeds(binary, vectors):
    """The original word2vec program ends each vector with a line feed, gensim does not."""
    rows = [f"{word} ".encode() + vectors[word].tobytes() + b"\n" for word in vectors.index_to_key]
    return binary[: binary.index(b"\n") + 1] + b"".join(rows)


@pytest.fixture(scope="module")
def fasttext(tmp_path_factory):
    """A tiny fastText model with subwords in Facebook's format: the file, and what gensim reads from it."""
    from gensim.models import FastText
    from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

    path = tmp_path_factory.mktemp("fasttext") / "tiny.bin"
    model = FastText(SENTENCES, vector_size=10, min_count=1, seed=2, workers=1, epochs=1, bucket=50, min_n=2, max_n=4)
    save_facebook_model(model, str(path))
    return path, load_facebook_vectors(str(path))


FORMATS = {
    "binary.bin": "word2vec_binary",
    "linefeeds.bin": "word2vec_binary",
    "text.txt": "word2vec_text",
    "fasttext.vec": "word2vec_text",
    "glove.txt": "glove",
    "binary.bin.gz": "word2vec_binary",
    "text.txt.gz": "word2vec_text",
    "glove.txt.gz": "glove",
}


@pytest.mark.parametrize(("file", "kind"), FORMATS.items())
def test_every_format_gives_gensims_vectors(models, file, kind):
    from gensim.models import KeyedVectors

    kwargs = {"binary": kind == "word2vec_binary", "no_header": kind == "glove"}
    by_gensim = KeyedVectors.load_word2vec_format(str(models[file]), **kwargs)
    assert model_kind(models[file]) == kind and vector_length(models[file]) == 12
    found = class_vectors_from_model(models[file], NAMES)
    assert found.keys() == set(NAMES.values())
    for name, tokens in TOKENS.items():
        mean = np.mean([by_gensim[token] for token in tokens], axis=0, dtype=np.float64)
        assert found[name].dtype == np.float32 and found[name].shape == (12,)
        assert (found[name] == (mean / np.linalg.norm(mean)).astype(np.float32)).all()


def test_fasttext_gives_gensims_vector_of_the_whole_name(fasttext):
    path, by_gensim = fasttext
    assert vector_length(path) == by_gensim.vector_size
    names = {"a": "guitar", "b": "Playing Guitar", "c": "Éclair", "d": "zz", "e": "éclair"}
    assert "guitar" in by_gensim.key_to_index and "Playing Guitar" not in by_gensim.key_to_index
    found = class_vectors_from_model(path, names)
    for name in names.values():
        expected = by_gensim.get_vector(name)
        np.testing.assert_allclose(found[name], expected / np.linalg.norm(expected), **FLOAT32_ROUNDING)


@pytest.mark.parametrize("lengths", [(1, 1), (1, 3), (2, 4), (3, 6), (5, 5), (6, 3)])
@pytest.mark.parametrize("word", ["guitar", "Playing Guitar", "Éclair", "水をかける", "🎻 a", "a", "", "ÿ\x80"])
def test_subwords_have_gensims_hashes_in_its_order(word, lengths):
    from gensim.models.fasttext import ft_ngram_hashes

    model = word_vectors._FastText(1, 1, 2_000_000, *lengths, {}, 0)
    found = [each % model.n_buckets for each in word_vectors._subword_hashes(word, model)]
    assert found == list(ft_ngram_hashes(word, *lengths, model.n_buckets))


def test_account_says_how_each_vector_was_made(models, fasttext, tmp_path):
    write_names(tmp_path / "names.csv", NAMES)
    write_class_vectors(models["text.txt"], tmp_path / "names.csv", tmp_path / "words.npy")
    words = read_words(tmp_path / "words.npy")
    assert all((words[name] == one).all() for name, one in class_vectors_from_model(models["text.txt"], NAMES).items())
    np.testing.assert_allclose([np.linalg.norm(one) for one in words.values()], 1, atol=1e-6)  # float32
    account = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    assert (account["model"], account["kind"], account["dimension"]) == ("text.txt", "word2vec_text", 12)
    assert account["classes"]["TaiChi"] == {"name": "Tai Chi", "made_from": "token", "tokens": ["tai_chi"]}
    assert account["classes"]["PlayingGuitar"]["made_from"] == "mean of words"
    assert {row["name"]: row["tokens"] for row in account["classes"].values()} == TOKENS
    write_names(tmp_path / "names.csv", {"A": "guitar", "B": "Yo Yo"})
    write_class_vectors(fasttext[0], tmp_path / "names.csv", tmp_path / "words.npy", "fasttext")
    account = json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))
    assert [row["made_from"] for row in account["classes"].values()] == ["token and subwords", "subwords"]


@pytest.mark.parametrize(
    ("tokens", "phrase", "used"),
    [
        (["Tai Chi", "Tai_Chi", "tai chi"], "Tai Chi", "Tai Chi"),
        (["tai chi", "Tai_Chi"], "Tai Chi", "tai chi"),
        (["tai_chi", "Tai", "Chi"], "Tai Chi", "tai_chi"),
        (["Tai_Chi", "tai_chi"], "tai chi", "tai_chi"),
        (["Tai_Chi", "tai"], "tai chi", "Tai_Chi"),
        (["Diving", "diving"], "diving", "diving"),
        (["Diving"], "DIVING", "Diving"),
    ],
)
def test_order_in_which_spellings_are_tried(tmp_path, tokens, phrase, used):
    rows = np.eye(len(tokens), dtype=int)
    lines = [f"{token} {' '.join(map(str, row))} 0" for token, row in zip(tokens, rows, strict=True)]
    (tmp_path / "m.txt").write_text(f"{len(tokens)} {len(tokens) + 1}\n" + "\n".join(lines) + "\n")
    found = class_vectors_from_model(tmp_path / "m.txt", {"class": phrase})[phrase]
    assert tokens[int(found.argmax())] == used and found.max() == 1


def test_glove_tokens_with_spaces_are_not_mistaken_for_their_first_word(tmp_path):
    (tmp_path / "g.txt").write_text("the 1 0 0\nat name@x 0 1 0\n. . . 0 1 1\nat 0 0 2\nat 1 1 1\n\n")
    found = class_vectors_from_model(tmp_path / "g.txt", {"A": "at"})
    assert found["at"].tolist() == [0, 0, 1]  # the first of the two rows named "at", as gensim has it


def test_words_without_vector_are_listed_with_what_is_close(models):
    names = {"A": "guitr solo", "B": "Yo qqq", "C": "playing"}
    message = (
        r"no vector for 2 of 3 classes: A \('guitr solo'\) lacks 'guitr' \(it has guitar, guitars\); "
        r"B \('Yo qqq'\) lacks 'qqq'\. .*gzsl\.word_names"
    )
    for file in FORMATS:
        with pytest.raises(AvpipeError, match=message):
            class_vectors_from_model(models[file], names)


def test_long_lists_of_lacking_classes_are_cut(models):
    with pytest.raises(AvpipeError, match=r"12 of 12 classes: .*… \(12 in all\)"):
        class_vectors_from_model(models["glove.txt"], {f"c{i}": f"qqq{i}" for i in range(12)})


def test_only_needed_rows_are_held(tmp_path):
    """A model of 16 MB is read with less than a quarter of it: a buffer of 1 MiB (twice while it grows) and lines."""
    rows = np.random.default_rng(0).standard_normal((20_000, 200)).astype("<f4")
    entries = [f"w{i} ".encode() + row.tobytes() for i, row in enumerate(rows)]
    (tmp_path / "m.bin").write_bytes(b"20000 200\n" + b"".join(entries))
    del entries
    tracemalloc.start()
    found = class_vectors_from_model(tmp_path / "m.bin", {"A": "w19999"})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes / 4
    np.testing.assert_allclose(found["w19999"], rows[-1] / np.linalg.norm(rows[-1]), **FLOAT32_ROUNDING)


class _Payload:
    def __reduce__(self):
        return pytest.fail, ("a foreign pickle was executed",)


def test_pickles_are_refused_and_never_opened(tmp_path, vectors):
    vectors.save(str(tmp_path / "gensim.kv"))
    (tmp_path / "evil.model").write_bytes(pickle.dumps(_Payload()))
    for name in ("gensim.kv", "evil.model"):
        with pytest.raises(AvpipeError, match=r"is a pickle.*not opened.*save_word2vec_format"):
            class_vectors_from_model(tmp_path / name, NAMES, kind="word2vec_binary")


def _damaged(models, fasttext):
    binary, text = models["binary.bin"].read_bytes(), models["text.txt"].read_bytes()
    subwords = fasttext[0].read_bytes()
    head = subwords[:64]
    return {
        "zip": (b"PK\x03\x04abc", "is a zip archive"),
        "npy": (b"\x93NUMPYabc", "gzsl.word_vectors"),
        "other": (b"class,name\nA,B\n", "no known format"),
        "empty": (b"", "no known format"),
        "cut binary": (binary[:-20], r"ends after \d+ of \d+ tokens\. .* Get the file again"),
        "cut text": (text[: text.rindex(b"\n", 0, -1) + 1], r"ends after \d+ of \d+ tokens"),
        "cut line": (text[:-60], r"damaged or cut off: the line .* fewer than 12 numbers"),
        "cut gz": (gzip.compress(text)[:-30], "was not read"),
        "header without numbers": (text.replace(b" 12\n", b" 0\n", 1), "vectors of 0 numbers"),
        "no number": (
            text.replace(b"\nguitar ", b"\nguitar x").replace(b"guitar x-", b"guitar x"),
            "was not read: .*entry 'guitar'",
        ),
        "fasttext gz": (gzip.compress(subwords), "unpack it first"),
        "fasttext cut in the matrix": (subwords[: len(head) + 800], "do not fit its head"),
        "fasttext cut in the words": (subwords[: len(head) + 60], "ends within its vocabulary"),
        "fasttext cut in the head": (subwords[:50], "was not read"),
        "fasttext without subwords": (subwords[:48] + bytes(4) + subwords[52:], "has no subwords"),
    }


def test_damaged_and_foreign_files_are_refused(tmp_path, models, fasttext):
    for name, (contents, message) in _damaged(models, fasttext).items():
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(AvpipeError, match=message):
            class_vectors_from_model(tmp_path / name, NAMES)
    with pytest.raises(AvpipeError, match=r"was not read: .*No such file"):
        class_vectors_from_model(tmp_path / "none", NAMES)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("file", ["text.txt", "glove.txt"])
def test_byte_order_marks_are_passed_over(tmp_path, models, file, packed):
    contents = codecs.BOM_UTF8 + models[file].read_bytes()
    (tmp_path / file).write_bytes(gzip.compress(contents) if packed else contents)
    assert model_kind(tmp_path / file) == model_kind(models[file])
    assert vector_length(tmp_path / file) == vector_length(models[file])
    pairs = [list(read_entries(path, model_kind(path))) for path in (tmp_path / file, models[file])]
    assert pairs[0] == pairs[1]


def test_kind_that_the_file_is_not(models, fasttext):
    with pytest.raises(AvpipeError, match="is not of kind glove, but fasttext"):
        class_vectors_from_model(fasttext[0], NAMES, kind="glove")
    with pytest.raises(AvpipeError, match="is not of kind fasttext, but glove"):
        class_vectors_from_model(models["glove.txt"], NAMES, kind="fasttext")
    with pytest.raises(AvpipeError, match="starts with its number of tokens"):
        class_vectors_from_model(models["glove.txt"], NAMES, kind="word2vec_text")


def test_vector_without_direction_is_refused(tmp_path):
    (tmp_path / "m.txt").write_text("2 3\nleft 1 0 0\nright -1 0 0\n")
    with pytest.raises(AvpipeError, match=r"zero or not finite for the classes A \(1\)"):
        class_vectors_from_model(tmp_path / "m.txt", {"A": "left right", "B": "left"})
