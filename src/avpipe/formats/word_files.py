"""Word-vector files, read without a model library: word2vec and GloVe, of which only the wanted rows are held.

fastText's own .bin is told apart here and read by `avpipe.formats.fasttext_files`.
"""

from __future__ import annotations

import codecs
import gzip
import itertools
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError

ModelKind = Literal["auto", "word2vec_binary", "word2vec_text", "glove", "fasttext"]
Vector = npt.NDArray[np.float32]

EXPECTED = (
    "Expected a word2vec file (binary or text, also .gz; fastText's .vec is one), a GloVe text or a fastText .bin"
)
FASTTEXT_MAGIC = struct.pack("<i", 793712314)

_REFUSED = {
    b"\x80": "is a pickle, as gensim's save() writes them, which could run any code when it is read; it is not opened. "
    "Save the vectors as KeyedVectors.save_word2vec_format does",
    b"PK\x03\x04": "is a zip archive. Unpack it, and name the file in it",
    b"\x93NUMPY": "is a numpy array. If it is a dict of finished class vectors, set gzsl.word_vectors to it",
}
_CHUNK_BYTES = 1 << 20
_SIZE_DIGITS = 18  # as many as any size has; int() raises on thousands of them


def model_kind(path: str | os.PathLike[str]) -> ModelKind:
    """The format of a word-vector file, by its first bytes.

    Raises:
        AvpipeError: it is none, or a pickle, which is never opened.
    """
    path = Path(path)
    with _open(path) as stream:
        first = stream.readline(_CHUNK_BYTES)
        second = stream.readline(_CHUNK_BYTES)
    for magic, problem in _REFUSED.items():
        if first.startswith(magic):
            raise AvpipeError(f"{path} {problem}. {EXPECTED}.")
    if first.startswith(FASTTEXT_MAGIC):
        return "fasttext"
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() and len(field) <= _SIZE_DIGITS for field in fields):
        _check_sizes(path, int(fields[0]), int(fields[1]))
        cells = second.split()
        is_text = len(cells) > int(fields[1]) and _are_numbers(cells[-int(fields[1]) :])
        return "word2vec_text" if is_text else "word2vec_binary"
    if len(fields) > 2 and _are_numbers(fields[1:]):
        return "glove"
    raise AvpipeError(f"{path} starts with {first[:40]!r}, which is no known format of word vectors. {EXPECTED}.")


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
    try:
        return np.array([float(number) for number in row.split(b" ")], np.float32)
    except ValueError as error:
        raise AvpipeError(f"{path}, entry {token!r}: {error}. The file is damaged; get it again.") from error


def read_entries(path: Path, kind: ModelKind) -> Generator[tuple[bytes, bytes]]:
    """Every token of the vocabulary, in order, with its row as it is in the file.

    Raises:
        AvpipeError: as `select_vectors`.
    """
    with _open(path) as stream:
        if kind == "glove":
            first = stream.readline()
            yield from _text_entries(path, itertools.chain([first], stream), first.rstrip(b" \r\n").count(b" "))
            return
        header = stream.readline(100)
        try:
            n_tokens, dimension = (int(field) for field in header.split())
        except ValueError:
            raise AvpipeError(
                f"{path} starts with {header[:40]!r}; a {kind} file starts with its number of tokens and the length of "
                "its vectors. Leave the kind at auto, or get the file again."
            ) from None
        _check_sizes(path, n_tokens, dimension)
        read = _binary_entries if kind == "word2vec_binary" else _text_entries
        n_read = 0
        for n_read, entry in enumerate(read(path, stream, dimension), 1):
            yield entry
            if n_read == n_tokens:
                return
        if n_read < n_tokens:
            raise AvpipeError(f"{path} ends after {n_read} of {n_tokens} tokens; get the file again.")


def _check_sizes(path: Path, n_tokens: int, dimension: int) -> None:
    if n_tokens < 1 or dimension < 1:
        raise AvpipeError(
            f"{path} says that it holds {n_tokens} tokens with vectors of {dimension} numbers; expected at least one "
            "of each. Get the file again."
        )


def _text_entries(path: Path, lines: Iterable[bytes], dimension: int) -> Iterator[tuple[bytes, bytes]]:
    """A line is a token, which may hold spaces, and `dimension` numbers."""
    for line in lines:
        line = line.rstrip(b" \r\n")
        if not line:
            continue
        at = line.find(b" ")
        for _ in range(line.count(b" ") - dimension):
            at = line.find(b" ", at + 1)
        if line.count(b" ") < dimension:
            raise AvpipeError(
                f"{path} has the line {line[:40]!r}… with fewer than {dimension} numbers. The file is damaged or cut "
                "off; get it again."
            )
        yield line[:at], line[at + 1 :]


def _binary_entries(path: Path, stream: IO[bytes], dimension: int) -> Iterator[tuple[bytes, bytes]]:
    """A token, a space, `dimension` float32, and in some files a line feed."""
    n_bytes = 4 * dimension
    buffer, at = b"", 0
    while True:
        space = buffer.find(b" ", at)
        if space < 0 or len(buffer) < space + 1 + n_bytes:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                return
            buffer, at = buffer[at:] + chunk, 0
            continue
        end = space + 1 + n_bytes
        yield buffer[at:space].lstrip(b"\n"), buffer[space + 1 : end]
        at = end


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes behind a byte order mark, if it has one; unpacked if it is a .gz (by its first bytes)."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                yield _behind_mark(file)
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield _behind_mark(cast(IO[bytes], unpacked))
    except (OSError, EOFError, zlib.error) as error:
        raise AvpipeError(f"{path} was not read: {error}. {EXPECTED}; get the file again.") from error


def _behind_mark(stream: IO[bytes]) -> IO[bytes]:
    if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        stream.seek(0)
    return stream


def _are_numbers(fields: list[bytes]) -> bool:
    try:
        return bool(fields) and all(np.isfinite(float(field)) for field in fields)
    except ValueError:
        return False
