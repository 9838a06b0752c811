"""Tokens as the published code makes them, and tables of the words that occur, compared with gensim's vectors."""

from __future__ import annotations

import codecs
import pickle
import re

import h5py
import numpy as np
import pytest
from damaged_files import contiguous_arrays, outcomes

from avpipe.errors import AvpipeError
from avpipe.retrieval.text import (
    WordTable,
    known_words,
    read_word_table,
    select_words,
    tokenise,
    write_word_table,
)

TABLE = WordTable(["Pour", "the", "oil"], np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3))


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("Pour the oil, then stir.", ["Pour", "the", "oil", "then", "stir"]),
        ("don't over-cook it", ["don't", "over", "cook", "it"]),
        ("'quoted' 2 1/2 cups_of  flour\n", ["'quoted'", "2", "1", "2", "cups_of", "flour"]),
        ("crème brûlée", ["crème", "brûlée"]),
        ("鍋に水を入れ、沸かす。", ["鍋に水を入れ", "沸かす"]),
        ("…!?", []),
        ("", []),
        (3.5, ["3", "5"]),  # what is no text as str writes it, as published
        (None, ["None"]),
    ],
)
def test_tokens(sentence, tokens):
    assert tokenise(sentence) == tokens


def test_matrix_drops_unknown_words_and_keeps_case():
    got = TABLE.matrix("Pour pour THE unknown oil", 4)
    assert got.dtype == np.float32 and got.tolist() == [[1, 2, 3], [7, 8, 9], [0, 0, 0], [0, 0, 0]]
    assert TABLE.known("Pour pour THE unknown oil") == (2, 5)


def test_matrix_cuts_after_the_known_words():
    """Unknown words take no place: the limit is on the words that are read."""
    assert TABLE.matrix("oil x y z the oil", 2).tolist() == [[7, 8, 9], [4, 5, 6]]
    assert TABLE.matrix("the " * 30).tolist() == [[4, 5, 6]] * 20


@pytest.mark.parametrize("sentence", ["", "?!", "鍋に水を入れる"])
def test_no_known_word_gives_zeros(sentence):
    got = TABLE.matrix(sentence)
    assert got.shape == (20, 3) and not got.any()


def test_report_of_what_is_unknown():
    found = known_words(TABLE, ["Pour the oil", "pour the oil", "鍋に水を", ""])
    assert found.to_json() == {"known": 5, "tokens": 7, "captions_without": 2}
    assert known_words(TABLE, []).to_json() == {"known": 0, "tokens": 0, "captions_without": 0}


SENTENCES = [["Pour", "the", "oil", "don't", "pour"], ["crème", "水を", "the", "oil"]] * 5


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same vectors in three formats: name -> file; and as gensim has them."""
    from gensim.models import Word2Vec

    folder = tmp_path_factory.mktemp("models")
    vectors = Word2Vec(SENTENCES, vector_size=12, min_count=1, seed=1, workers=1, epochs=1).wv
    vectors.save_word2vec_format(folder / "binary.bin", binary=True)
    vectors.save_word2vec_format(folder / "text.txt")
    vectors.save_word2vec_format(folder / "glove.txt", write_header=False)
    return {path.name: path for path in folder.iterdir()}, vectors


@pytest.mark.parametrize("file", ["binary.bin", "text.txt", "glove.txt"])
def test_words_that_occur_are_taken_unchanged(tmp_path, models, file):
    from gensim.models import KeyedVectors

    path = models[0][file]
    by_gensim = KeyedVectors.load_word2vec_format(path, binary=file == "binary.bin", no_header=file == "glove.txt")
    table = select_words(path, ["the oil; don't POUR", "水を unknown", "the crème"], tmp_path / "words.h5")
    assert table.words == ["crème", "don't", "oil", "the", "水を"] and table.source == file
    assert table.dimension == 12 and (table.vectors == by_gensim[table.words]).all()
    read = read_word_table(tmp_path / "words.h5")
    assert (read.words, read.source) == (table.words, file) and (read.vectors == table.vectors).all()
    assert np.abs(np.linalg.norm(table.vectors, axis=1) - 1).min() > 0.1  # not normalised


def test_captions_as_the_published_code_reads_them(tmp_path, models):
    """The published loader's steps, written out with gensim's own vectors."""
    vectors = models[1]
    sentences = ["Pour the oil, don't pour unknown oil", "the " * 25, "nothing known"]
    table = select_words(models[0]["binary.bin"], sentences, tmp_path / "words.h5")
    for sentence in sentences:
        words = [word for word in re.findall(r"[\w']+", sentence) if word in vectors.key_to_index][:20]
        expected = np.zeros((20, 12), np.float32)
        if words:
            expected[: len(words)] = vectors[words]
        assert (table.matrix(sentence) == expected).all()


def test_fasttext_gives_a_vector_for_any_word(tmp_path):
    from gensim.models import FastText
    from gensim.models.fasttext import load_facebook_vectors, save_facebook_model

    path = tmp_path / "tiny.bin"
    model = FastText(SENTENCES, vector_size=10, min_count=1, seed=2, workers=1, epochs=1, bucket=50, min_n=2, max_n=4)
    save_facebook_model(model, str(path))
    by_gensim = load_facebook_vectors(str(path))
    table = select_words(path, ["the oils", "水をかける"], tmp_path / "words.h5")
    assert table.words == ["oils", "the", "水をかける"] and "oils" not in by_gensim.key_to_index
    # A mean of up to 20 numbers below 0.1, added in another order than gensim's.
    np.testing.assert_allclose(table.vectors, [by_gensim.get_vector(word) for word in table.words], rtol=0, atol=3e-8)


def test_equal_tables_give_equal_bytes(tmp_path, models):
    for name, sentences in (("a", ["the oil", "pour"]), ("b", ["pour", "oil the oil"])):
        select_words(models[0]["text.txt"], sentences, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("file", ["text.txt", "glove.txt"])
def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path, models, file):
    contents = models[0][file].read_bytes()
    (tmp_path / file).write_bytes(codecs.BOM_UTF8 + contents)
    first = models[1].index_to_key[0]
    table = select_words(tmp_path / file, [first], tmp_path / "words.h5")
    assert table.words == [first]
    np.testing.assert_array_equal(table.vectors, select_words(models[0][file], [first], tmp_path / "o.h5").vectors)


@pytest.mark.parametrize("header", ["4 0", "0 12"])
def test_a_model_without_numbers_is_refused(tmp_path, header):
    (tmp_path / "m.bin").write_bytes(header.encode() + b"\nthe \noil \n")
    with pytest.raises(AvpipeError, match=r"says that it holds \d tokens with vectors of \d+ numbers"):
        select_words(tmp_path / "m.bin", ["the oil"], tmp_path / "words.h5")


def test_a_model_of_another_language(tmp_path, models):
    with pytest.raises(AvpipeError, match=r"has a vector for none of the 2 words .* such as \['油', '鍋'\]"):
        select_words(models[0]["text.txt"], ["鍋 油"], tmp_path / "words.h5")
    assert not list(tmp_path.iterdir())


def test_pickled_models_are_refused(tmp_path):
    (tmp_path / "m.kv").write_bytes(pickle.dumps({"the": [1.0]}))
    with pytest.raises(AvpipeError, match="is a pickle, as gensim's save"):
        select_words(tmp_path / "m.kv", ["the"], tmp_path / "words.h5")


def test_source_can_be_given(tmp_path):
    write_word_table(tmp_path / "t.h5", TABLE, source="by hand")
    assert read_word_table(tmp_path / "t.h5").source == "by hand"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (WordTable(["a", "a", "b"], TABLE.vectors), "words that occur twice"),
        (WordTable(["a"], TABLE.vectors), r"1 words with vectors float32 \[3, 3\]"),
        (WordTable(["a", "b", "c"], TABLE.vectors.astype(float)), "float64"),
        (WordTable(["a", "b", "c"], TABLE.vectors * np.float32([[1], [np.nan], [1]])), "vector of 'b' and of 0 more"),
        (WordTable(["a", "b\0", "c"], TABLE.vectors), r"1 words are no text or hold NUL .* such as 'b\\x00'"),
        (WordTable(["a", "\ud83d", "c"], TABLE.vectors), "half of a surrogate pair"),
    ],
)
def test_tables_that_are_wrong_are_not_written(tmp_path, table, message):
    with pytest.raises(AvpipeError, match=message):
        write_word_table(tmp_path / "t.h5", table)
    assert not list(tmp_path.iterdir())


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "t.h5"
    with pytest.raises(AvpipeError, match="does not exist"):
        read_word_table(path)
    write_word_table(path, TABLE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(AvpipeError, match=r"was not read: .*Expected an avpipe word table"):
        read_word_table(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 9
    with pytest.raises(AvpipeError, match="of version 9; expected 'avpipe word table' of version 2"):
        read_word_table(path)
    write_word_table(path, TABLE)
    with h5py.File(path, "r+") as file:
        file["vectors"][1, 1] = 7.0
    with pytest.raises(AvpipeError, match="is damaged: the digest of its contents is"):
        read_word_table(path)


def _values(path):
    table = read_word_table(path)
    return table.words, table.vectors.tobytes(), table.source


def test_one_wrong_byte_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "t.h5"
    write_word_table(path, TABLE, source="a model")
    with h5py.File(path) as file:
        arrays = contiguous_arrays(file) * 20
    found = outcomes(path, _values, arrays=arrays)
    assert set(found) == {"equal", "refused"}, found  # equal where a byte belongs to nothing
    assert found["refused"] >= len(arrays)


def test_nothing_lies_in_the_global_heap(tmp_path):
    """HDF5 keeps what is of variable length there, without a checksum; its signature is GCOL."""
    write_word_table(tmp_path / "t.h5", TABLE)
    assert b"GCOL" not in (tmp_path / "t.h5").read_bytes()
