"""fastText's .bin files, of which only the needed rows are read: a vector for any word, made of its subwords."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.formats.word_files import EXPECTED, FASTTEXT_MAGIC, Vector


@dataclass(frozen=True)
class SubwordVector:
    """A vector as fastText makes it.

    Attributes:
        vector: float64 [d], not normalised; zero for an unknown word too short for a subword.
        is_known: whether the word itself is in the vocabulary.
    """

    vector: npt.NDArray[np.float64]
    is_known: bool


def subword_vectors(path: Path, words: set[str]) -> dict[str, SubwordVector]:
    """word -> its vector as fastText gives it for one token: the mean of its subwords' rows, and its own if known.

    Raises:
        AvpipeError: the file is no fastText .bin with subwords, packed, or damaged.
    """
    from gensim.models.fasttext import ft_ngram_hashes

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = _read_layout(path, data, {word.encode() for word in words})

            def row(number: int) -> Vector:
                return np.frombuffer(data[model.row_at(number) : model.row_at(number + 1)], "<f4")

            made = {}
            for word in words:
                hashes = ft_ngram_hashes(word, model.shortest, model.longest, model.n_buckets)
                known = model.ids.get(word.encode())
                rows = [model.n_words + one for one in hashes] + ([] if known is None else [known])
                total = np.zeros(model.dimension)
                for one in rows:
                    total += row(one)
                made[word] = SubwordVector(total / max(len(rows), 1), known is not None)
            return made
    except (OSError, struct.error) as error:
        raise AvpipeError(f"{path} was not read: {error}. {EXPECTED}; get the file again.") from error


@dataclass(frozen=True)
class _Layout:
    """What of a fastText .bin is needed: lengths of subwords, ids of the wanted words, and where the rows lie."""

    dimension: int
    n_words: int
    n_buckets: int
    shortest: int
    longest: int
    ids: dict[bytes, int]
    offset: int

    def row_at(self, number: int) -> int:
        return self.offset + 4 * self.dimension * number


def _read_layout(path: Path, data: mmap.mmap, wanted: set[bytes]) -> _Layout:
    """Read head and vocabulary (fastText: src/args.cc, src/dictionary.cc, src/densematrix.cc, `save`)."""
    if data[:4] != FASTTEXT_MAGIC:
        raise AvpipeError(f"{path} is a packed fastText .bin; unpack it first (gunzip), since it is read in parts.")
    dimension, *_, n_buckets, shortest, longest, _ = struct.unpack_from("<12i", data, 8)
    n_entries, n_words, _, _, n_pruned = struct.unpack_from("<3i2q", data, 64)
    at = 64 + struct.calcsize("<3i2q")
    ids = {}
    for number in range(n_entries):
        end = data.find(b"\0", at)
        if end < 0:
            raise struct.error(f"it ends within its vocabulary, after {number} of {n_entries} words")
        if number < n_words and data[at:end] in wanted:
            ids[data[at:end]] = number
        at = end + 1 + struct.calcsize("<qb")
    at += max(n_pruned, 0) * struct.calcsize("<2i")
    quantised, n_rows, n_columns = struct.unpack_from("<?2q", data, at)
    layout = _Layout(dimension, n_words, n_buckets, shortest, longest, ids, at + struct.calcsize("<?2q"))
    if quantised or not n_buckets or not longest:
        what = "is quantised (.ftz)" if quantised else "has no subwords"
        raise AvpipeError(f"{path} {what}; expected a full .bin with subwords. Use the model's .vec file instead.")
    if (n_rows, n_columns) != (n_words + n_buckets, dimension) or len(data) < layout.row_at(n_rows):
        raise struct.error(f"{len(data)} bytes and {n_rows} x {n_columns} numbers do not fit its head")
    return layout
