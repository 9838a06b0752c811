"""Word-vector files, read without a model library: word2vec, GloVe and fastText, of which only wanted rows are held.

fastText's own .bin makes a vector for any word of the word's subwords; its .vec is a word2vec text.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import mmap
import os
import struct
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.formats.zip_checks import ZIP_START
from avpipe.io.budget import Budget
from avpipe.io.reading import reading

ModelKind = Literal["auto", "word2vec_binary", "word2vec_text", "glove", "fasttext"]
Vector = npt.NDArray[np.float32]

_EXPECTED = "a word2vec file (binary or text, also .gz; fastText's .vec is one), a GloVe text or a fastText .bin"
_FASTTEXT_START = struct.pack("<i", 793712314)

_REFUSED = {
    b"\x80": "is a pickle, as gensim's save() writes them, which could run any code when it is read; it is not opened. "
    "Save the vectors as KeyedVectors.save_word2vec_format does",
    ZIP_START: "is a zip archive. Unpack it, and name the file in it",
    b"\x93NUMPY": "is a numpy array. If it is a dict of finished class vectors, set "
    "datasets.<name>.gzsl.word_vectors to it",
}
_CHUNK_BYTES = 1 << 20
_ENTRY_BYTES = 128  # what an entry counts for, however short: some millions of them take minutes
_MAX_DIMENSION = 1 << 16
_SIZE_DIGITS = 18  # as many as any size has; int() raises on thousands of them


def model_kind(path: str | os.PathLike[str]) -> ModelKind:
    """The format of a word-vector file, by its first bytes.

    Raises:
        AvpipeError: it is none, or a pickle, which is never opened.
    """
    with _open(Path(path)) as stream:
        first = stream.readline(_CHUNK_BYTES)
        second = stream.readline(_CHUNK_BYTES)
        for magic, problem in _REFUSED.items():
            if first.startswith(magic):
                raise AvpipeError(f"{path} {problem}. Expected {_EXPECTED}.")
        if first.startswith(_FASTTEXT_START):
            return "fasttext"
        fields = first.split()
        if len(fields) == 2 and all(field.isdigit() and len(field) <= _SIZE_DIGITS for field in fields):
            _, dimension = _sizes(first)
            cells = second.split()
            is_text = len(cells) > dimension and _are_numbers(cells[-dimension:])
            return "word2vec_text" if is_text else "word2vec_binary"
        if len(fields) > 2 and _are_numbers(fields[1:]):
            return "glove"
        raise ValueError(f"it starts with {first[:40]!r}, which is no known format of word vectors")


def vector_length(path: str | os.PathLike[str]) -> int:
    """How many numbers a vector of a word-vector file has, by its first bytes.

    Raises:
        AvpipeError: as `model_kind`.
    """
    kind = model_kind(path)
    with _open(Path(path)) as stream:
        if kind == "fasttext":
            return int(np.frombuffer(stream.read(12), "<i4")[2])  # after the magic number and the version
        fields = stream.readline(_CHUNK_BYTES).split()
    return len(fields) - 1 if kind == "glove" else int(fields[1])


def select_vectors(path: Path, kind: ModelKind, wanted: set[str]) -> dict[str, Vector]:
    """The vectors of the wanted tokens that the file has; of a token that occurs twice the first, as gensim does.

    Args:
        path: the file; only the wanted rows are held in memory.
        kind: word2vec_binary, word2vec_text or glove, as `model_kind` says.
        wanted: the tokens.

    Returns:
        token -> float32 [d], as the file has it.

    Raises:
        AvpipeError: the file is of another kind, damaged or incomplete.
    """
    tokens = {token.encode(): token for token in wanted}
    found: dict[str, Vector] = {}
    for token, row in read_entries(path, kind):
        if token in tokens and tokens[token] not in found:
            found[tokens[token]] = _parse(path, kind, tokens[token], row)
    return found


def _parse(path: Path, kind: ModelKind, token: str, row: bytes) -> Vector:
    if kind == "word2vec_binary":
        return np.frombuffer(row, "<f4").astype(np.float32)
    with reading(path, f"numbers in the entry {token!r}"):
        return np.array([float(number) for number in row.split(b" ")], np.float32)


def read_entries(path: Path, kind: ModelKind) -> Generator[tuple[bytes, bytes]]:
    """Every token of the vocabulary, in order, with its row as it is in the file.

    Raises:
        AvpipeError: as `select_vectors`.
    """
    with _open(path) as stream:
        budget = Budget.of(path)
        if kind == "glove":
            lines = _lines(stream, budget)
            first = next(lines, b"")
            yield from _text_entries(itertools.chain([first], lines), first.rstrip(b" \r\n").count(b" "))
            return
        header = stream.readline(100)
        if len(header.split()) != 2:
            raise ValueError(
                f"it starts with {header[:40]!r}; a {kind} file starts with its number of tokens and the length of its "
                "vectors (the kind may be left at auto)"
            )
        n_tokens, dimension = _sizes(header)
        is_binary = kind == "word2vec_binary"
        entries = _binary_entries(stream, dimension) if is_binary else _text_entries(_lines(stream, budget), dimension)
        n_read = 0
        for n_read, entry in enumerate(entries, 1):
            if is_binary:
                budget.charge(_ENTRY_BYTES)
            yield entry
            if n_read == n_tokens:
                return
        raise ValueError(f"it ends after {n_read} of {n_tokens} tokens")


def _sizes(header: bytes) -> tuple[int, int]:
    """Tokens and numbers in a vector."""
    n_tokens, dimension = (int(field) for field in header.split())
    if n_tokens < 1 or not 1 <= dimension <= _MAX_DIMENSION:
        raise ValueError(f"it says that it holds {n_tokens} tokens with vectors of {dimension} numbers")
    return n_tokens, dimension


def _text_entries(lines: Iterable[bytes], dimension: int) -> Iterator[tuple[bytes, bytes]]:
    """A line is a token, which may hold spaces, and `dimension` numbers."""
    for line in lines:
        line = line.rstrip(b" \r\n")
        if not line:
            continue
        at = line.find(b" ")
        for _ in range(line.count(b" ") - dimension):
            at = line.find(b" ", at + 1)
        if line.count(b" ") < dimension:
            raise ValueError(f"it is damaged or cut off: the line {line[:40]!r}… has fewer than {dimension} numbers")
        yield line[:at], line[at + 1 :]


def _binary_entries(stream: IO[bytes], dimension: int) -> Iterator[tuple[bytes, bytes]]:
    """A token, a space, `dimension` float32, and in some files a line feed."""
    n_bytes = 4 * dimension
    buffer, at = b"", 0
    while True:
        space = buffer.find(b" ", at)
        if space < 0 or len(buffer) < space + 1 + n_bytes:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                return
            if space < 0 and len(buffer) - at > _CHUNK_BYTES:
                raise ValueError(f"it has a token of more than {_CHUNK_BYTES:,} bytes, {buffer[at : at + 40]!r}…")
            buffer, at = buffer[at:] + chunk, 0
            continue
        end = space + 1 + n_bytes
        yield buffer[at:space].lstrip(b"\n"), buffer[space + 1 : end]
        at = end


class _Unpacked(io.RawIOBase):
    """The contents of a .gz, as far as the file's budget goes."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._stream, self._budget = gzip.GzipFile(fileobj=file), budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n_bytes = self._stream.readinto(buffer)
        self._budget.charge(n_bytes)
        return n_bytes


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes behind a byte order mark, if it has one; unpacked if it is a .gz (by its first bytes)."""
    with reading(path, _EXPECTED), path.open("rb") as file:
        is_packed = file.peek(2).startswith(b"\x1f\x8b")
        stream = io.BufferedReader(_Unpacked(file, Budget.of(path)), _CHUNK_BYTES) if is_packed else file
        if stream.peek(3).startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        yield stream


def _lines(stream: IO[bytes], budget: Budget) -> Iterator[bytes]:
    """Its lines, none longer than a vector can be."""
    while line := stream.readline(_CHUNK_BYTES):
        if len(line) == _CHUNK_BYTES:
            raise ValueError(f"it has a line of more than {_CHUNK_BYTES:,} bytes, {line[:40]!r}…")
        budget.charge(_ENTRY_BYTES)
        yield line


def _are_numbers(fields: list[bytes]) -> bool:
    try:
        return bool(fields) and all(np.isfinite(float(field)) for field in fields)
    except ValueError:
        return False


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
    made = {}
    with (
        reading(path, _EXPECTED),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        model = _read_fasttext(path, data, {word.encode() for word in words})
        for word in words:
            rows = [model.n_words + each % model.n_buckets for each in _subword_hashes(word, model)]
            known = model.ids.get(word.encode())
            rows += [] if known is None else [known]
            total = np.zeros(model.dimension)
            for row in rows:
                total += np.frombuffer(data[model.row_at(row) : model.row_at(row + 1)], "<f4")
            made[word] = SubwordVector(total / max(len(rows), 1), known is not None)
    return made


def _subword_hashes(word: str, model: _FastText) -> Iterator[int]:
    """FNV-1a of 32 bits of every subword, with fastText's slip of taking bytes as signed (src/dictionary.cc, `hash`).

    Subwords are the runs of `shortest` to `longest` characters of <word>, but < and > alone are none.
    """
    characters = [character.encode() for character in f"<{word}>"]
    for begin in range(len(characters)):
        value = 2166136261
        for end in range(begin + 1, min(begin + model.longest, len(characters)) + 1):
            for byte in characters[end - 1]:
                value = (value ^ (byte if byte < 0x80 else byte | 0xFFFFFF00)) * 16777619 & 0xFFFFFFFF
            is_mark = end - begin == 1 and (begin == 0 or end == len(characters))
            if end - begin >= model.shortest and not is_mark:
                yield value


@dataclass(frozen=True)
class _FastText:
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


def _read_fasttext(path: Path, data: mmap.mmap, wanted: set[bytes]) -> _FastText:
    """Read head and vocabulary (fastText: src/args.cc, src/dictionary.cc, src/densematrix.cc, `save`)."""
    if data[:4] != _FASTTEXT_START:
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
    model = _FastText(dimension, n_words, n_buckets, shortest, longest, ids, at + struct.calcsize("<?2q"))
    if quantised or not n_buckets or not longest:
        what = "is quantised (.ftz)" if quantised else "has no subwords"
        raise AvpipeError(f"{path} {what}; expected a full .bin with subwords. Use the model's .vec file instead.")
    if (n_rows, n_columns) != (n_words + n_buckets, dimension) or len(data) < model.row_at(n_rows):
        raise struct.error(f"{len(data)} bytes and {n_rows} x {n_columns} numbers do not fit its head")
    return model
