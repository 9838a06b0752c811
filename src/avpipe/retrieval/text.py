"""Captions as word vectors: the published tokens, and a table of only the words that occur.

Source: docs/methods.md, Captions as words.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.formats.word_vectors import model_kind, select_vectors, subword_vectors
from avpipe.io.hdf5_text import (
    check_digest,
    open_format,
    read_array,
    read_json_dataset,
    read_text_attribute,
    write_format,
    write_json_dataset,
    write_text_attribute,
)
from avpipe.io.manifest import result_file
from avpipe.io.reading import MAKE_AGAIN, reading
from avpipe.schema.retrieval import KnownWords

MAX_WORDS = 20

_TOKEN = re.compile(r"[\w']+")
_FORMAT, _VERSION = "avpipe word table", 2
_UNUSABLE = re.compile("[\\x00\\ud800-\\udfff]")


def tokenise(sentence: object) -> list[str]:
    """The words of a sentence, case kept: runs of letters, digits, underscores and apostrophes.

    Scripts without spaces, such as Japanese, give one token up to each punctuation mark. What is no text, such as a
    number, is read as `str` writes it.
    """
    return _TOKEN.findall(str(sentence))


@dataclass(frozen=True, eq=False)
class WordTable:
    """Words and their vectors.

    Attributes:
        words: each once.
        vectors: float32 [V, d], as the model has them, not normalised; d is 300 for the published networks.
        source: the model that they are from, for the record.
    """

    words: list[str]
    vectors: npt.NDArray[np.float32]
    source: str = ""

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.vectors.shape[1])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    def matrix(self, sentence: str, max_words: int = MAX_WORDS) -> npt.NDArray[np.float32]:
        """Vectors of the sentence's known words in order, float32 [max_words, d].

        Unknown words leave no gap; words beyond `max_words` are cut, and zeros fill up what is left.
        """
        rows = [self._rows[token] for token in tokenise(sentence) if token in self._rows][:max_words]
        filled = np.zeros((max_words, self.dimension), np.float32)
        filled[: len(rows)] = self.vectors[rows]
        return filled

    def known(self, sentence: str) -> tuple[int, int]:
        """How many of the sentence's tokens have a vector, and how many tokens it has."""
        tokens = tokenise(sentence)
        return sum(token in self._rows for token in tokens), len(tokens)


def known_words(table: WordTable, sentences: Iterable[str]) -> KnownWords:
    """How much of some captions the word vectors cover; captions without a known word all get the same embedding."""
    counts = [table.known(sentence) for sentence in sentences]
    return KnownWords(
        known=sum(known for known, _ in counts),
        tokens=sum(tokens for _, tokens in counts),
        captions_without=sum(known == 0 for known, _ in counts),
    )


def select_words(
    model_path: str | os.PathLike[str], sentences: Iterable[str], target: str | os.PathLike[str]
) -> WordTable:
    """Take the vectors of the words that occur in some captions from a word-vector model, and write them as a table.

    Args:
        model_path: word2vec (binary or text, also .gz), GloVe, or fastText; a fastText .bin makes a vector of
            subwords for any word.
        sentences: the captions.
        target: the table to write (.h5).

    Returns:
        The table, its words in alphabetical order.

    Raises:
        AvpipeError: the file is no such model or damaged, or knows none of the words.
    """
    path = Path(model_path)
    wanted: set[str] = set()
    for sentence in sentences:
        wanted.update(tokenise(sentence))
    kind = model_kind(path)
    if kind == "fasttext":
        found = {word: made.vector.astype(np.float32) for word, made in subword_vectors(path, wanted).items()}
        found = {word: vector for word, vector in found.items() if vector.any()}  # too short for any subword
    else:
        found = select_vectors(path, kind, wanted)
    if not found:
        raise AvpipeError(
            f"{path} has a vector for none of the {len(wanted)} words of the captions, such as "
            f"{sorted(wanted)[:5]}. Expected a model of the captions' language; case matters."
        )
    words = sorted(found)
    table = WordTable(words, np.stack([found[word] for word in words]), path.name)
    write_word_table(target, table)
    return table


def write_word_table(target: str | os.PathLike[str], table: WordTable, *, source: str | None = None) -> None:
    """Write a word table, whole or not at all; equal tables give equal bytes.

    Args:
        target: the HDF5 file.
        table: the words.
        source: the model that they are from; None: as the table says.

    Raises:
        AvpipeError: words that occur twice or are no text, or vectors that do not fit them or are not finite.
    """
    _check(table, str(target))
    with result_file(target) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        write_format(file, _FORMAT, _VERSION)
        write_text_attribute(file, "digest", _digest(table))
        write_json_dataset(file, "source", table.source if source is None else source)
        write_json_dataset(file, "words", table.words)
        file.create_dataset("vectors", data=table.vectors, dtype="<f4")


def read_word_table(source: str | os.PathLike[str]) -> WordTable:
    """A word table.

    Raises:
        AvpipeError: there is no such file, it is no word table, of another version, or damaged.
    """
    with open_format(source, _FORMAT, _VERSION) as file, reading(source, f"an {_FORMAT}", MAKE_AGAIN):
        table = WordTable(
            read_json_dataset(file, "words"), read_array(file, "vectors"), read_json_dataset(file, "source")
        )
        stored = read_text_attribute(file, "digest")
    _check(table, str(source))
    check_digest(source, _digest(table), stored)
    return table


def _digest(table: WordTable) -> str:
    """SHA-256 of words and vectors."""
    total = hashlib.sha256(json.dumps(table.words).encode())
    total.update(np.ascontiguousarray(table.vectors, "<f4").tobytes())
    return total.hexdigest()


def _check(table: WordTable, name: str) -> None:
    if table.vectors.ndim != 2 or len(table.vectors) != len(table.words) or table.vectors.dtype != np.float32:
        raise AvpipeError(
            f"{name}: {len(table.words)} words with vectors {table.vectors.dtype} {list(table.vectors.shape)}; "
            "expected float32 and one row per word. Make the word table again."
        )
    odd = [word for word in table.words if not isinstance(word, str) or _UNUSABLE.search(word)]
    if odd:
        raise AvpipeError(
            f"{name}: {len(odd)} words are no text or hold NUL or half of a surrogate pair, such as {odd[0]!r}. Get "
            "the word-vector model again."
        )
    if len(set(table.words)) < len(table.words):
        raise AvpipeError(f"{name}: words that occur twice; expected each once. Make the word table again.")
    wrong = np.flatnonzero(~np.isfinite(table.vectors).all(axis=1))
    if len(wrong):
        raise AvpipeError(
            f"{name}: the vector of {table.words[wrong[0]]!r} and of {len(wrong) - 1} more words has values that are "
            "no numbers. Get the word-vector model again."
        )
