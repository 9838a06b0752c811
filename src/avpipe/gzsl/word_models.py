"""Class vectors from a word-vector model: word2vec, GloVe or fastText files, of which only the needed rows are read."""

from __future__ import annotations

import difflib
import gzip
import itertools
import mmap
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError
from avpipe.gzsl.class_split import listed
from avpipe.gzsl.words import read_names, write_words
from avpipe.io.atomic import write_json

ModelKind = Literal["auto", "word2vec_binary", "word2vec_text", "glove", "fasttext"]
Vector = npt.NDArray[np.float32]

_EXPECTED = (
    "Expected a word2vec file (binary or text, also .gz; fastText's .vec is one), a GloVe text or a fastText .bin"
)
_FASTTEXT_MAGIC = struct.pack("<i", 793712314)
_REFUSED = {
    b"\x80": "is a pickle, as gensim's save() writes them, which could run any code when it is read; it is not opened. "
    "Save the vectors as KeyedVectors.save_word2vec_format does",
    b"PK\x03\x04": "is a zip archive. Unpack it, and name the file in it",
    b"\x93NUMPY": "is a numpy array. If it is a dict of finished class vectors, set gzsl.word_vectors to it",
}
_PUNCTUATION = ",;:.!?()[]\"'"
_SEARCHED_FOR_MATCHES = 200_000  # files are sorted by frequency, so these are the common words
_MISSPELT_SHOWN = 10
_CHUNK_BYTES = 1 << 20


def class_vectors_from_model(
    path: str | os.PathLike[str], names: Mapping[str, str], *, kind: ModelKind = "auto"
) -> dict[str, Vector]:
    """A vector for each class from a word-vector model, keyed and normalised as `avpipe.gzsl.words.write_words` wants.

    fastText's .bin with subwords gives the whole name as one token, unknown or not, as the published vectors were
    made (specs/avca.md §1.4). Other files give the whole name if they have it as a token (with spaces or
    underscores; as it is, in lower case or Title Case), else the mean of the vectors of its words, tried likewise.

    Args:
        path: the file; only the rows needed are held in memory.
        names: class -> its name as words, such as "Playing Guitar".
        kind: the file's format; auto: by its first bytes.

    Returns:
        name as words -> float32 [d] of length 1, d as the model has it.

    Raises:
        AvpipeError: the file is no such model or incomplete, or has no vector for a name.
    """
    return _make(Path(path), names, kind)[0]


def write_class_vectors(
    model: str | os.PathLike[str],
    names_csv: str | os.PathLike[str],
    target_npy: str | os.PathLike[str],
    kind: ModelKind = "auto",
) -> None:
    """Write a vector for each class of a table original,manual, and beside it how each was made, as <stem>.json.

    Raises:
        AvpipeError: as `class_vectors_from_model` and `avpipe.gzsl.words.read_names`.
    """
    vectors, account = _make(Path(model), read_names(names_csv), kind)
    write_words(target_npy, vectors)
    write_json(Path(target_npy).with_suffix(".json"), account)


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
            raise AvpipeError(f"{path} {problem}. {_EXPECTED}.")
    if first.startswith(_FASTTEXT_MAGIC):
        return "fasttext"
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        cells = second.split()
        is_text = len(cells) > int(fields[1]) and _are_numbers(cells[-int(fields[1]) :])
        return "word2vec_text" if is_text else "word2vec_binary"
    if len(fields) > 2 and _are_numbers(fields[1:]):
        return "glove"
    raise AvpipeError(f"{path} starts with {first[:40]!r}, which is no known format of word vectors. {_EXPECTED}.")


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


def _make(path: Path, names: Mapping[str, str], kind: ModelKind) -> tuple[dict[str, Vector], dict[str, Any]]:
    """The vectors and the account of how each was made."""
    found_kind = model_kind(path)
    if kind == "auto":
        kind = found_kind
    if (kind == "fasttext") != (found_kind == "fasttext"):
        raise AvpipeError(f"{path} is not of kind {kind}, but {found_kind}; leave the kind at auto.")
    made = _from_subwords(path, set(names.values())) if kind == "fasttext" else _from_words(path, kind, names)
    lengths = {spoken: float(np.linalg.norm(one.vector)) for spoken, one in made.items()}
    useless = [label for label, spoken in names.items() if not 0 < lengths[spoken] < np.inf]
    if useless:
        raise AvpipeError(
            f"{path} gives vectors that are zero or not finite for the classes {listed(useless)}. Give these classes "
            "longer or other names in the table of names (gzsl.word_names)."
        )
    vectors = {spoken: (one.vector / lengths[spoken]).astype(np.float32) for spoken, one in made.items()}
    classes = {
        label: {"name": spoken, "made_from": made[spoken].made_from, "tokens": list(made[spoken].tokens)}
        for label, spoken in sorted(names.items())
    }
    dimension = len(next(iter(vectors.values()))) if vectors else 0
    return vectors, {"model": path.name, "kind": kind, "dimension": dimension, "classes": classes}


@dataclass(frozen=True)
class _Made:
    """A vector, float64 [d] and not yet normalised, and what it was made from."""

    vector: npt.NDArray[np.float64]
    made_from: str
    tokens: tuple[str, ...]


def _spellings(word: str) -> list[str]:
    return list(dict.fromkeys((word, word.lower(), word.title())))


def _phrase_tokens(phrase: str) -> list[str]:
    return [token.replace(" ", joint) for joint in (" ", "_") for token in _spellings(phrase)]


def _word_tokens(word: str) -> list[str]:
    return [*_spellings(word), *_spellings(word.strip(_PUNCTUATION))]


def _wanted_tokens(phrases: Iterable[str]) -> set[str]:
    wanted: set[str] = set()
    for phrase in phrases:
        wanted.update(_phrase_tokens(phrase), *map(_word_tokens, phrase.split()))
    return wanted


def _from_words(path: Path, kind: ModelKind, names: Mapping[str, str]) -> dict[str, _Made]:
    """name -> its vector from the tokens that the model has."""
    found = _select(path, kind, _wanted_tokens(names.values()))
    made: dict[str, _Made] = {}
    lacking: dict[str, list[str]] = {}
    for label, phrase in names.items():
        whole = next((token for token in _phrase_tokens(phrase) if token in found), None)
        if whole is not None:
            made[phrase] = _Made(found[whole].astype(np.float64), "token", (whole,))
            continue
        tokens = {word: next((t for t in _word_tokens(word) if t in found), None) for word in phrase.split()}
        absent = [word for word, token in tokens.items() if token is None]
        if absent or not tokens:
            lacking[label] = absent or [phrase]
            continue
        used = tuple(cast(str, tokens[word]) for word in phrase.split())
        made[phrase] = _Made(np.mean([found[t] for t in used], axis=0, dtype=np.float64), "mean of words", used)
    if lacking:
        _refuse_lacking(path, kind, names, lacking)
    return made


def _refuse_lacking(path: Path, kind: ModelKind, names: Mapping[str, str], lacking: Mapping[str, list[str]]) -> None:
    shown = dict(itertools.islice(sorted(lacking.items()), _MISSPELT_SHOWN))
    close = _close_matches(path, kind, {word for words in shown.values() for word in words})
    lines = []
    for label, words in shown.items():
        hints = [f"{word!r}" + (f" (it has {', '.join(close[word])})" if close[word] else "") for word in words]
        lines.append(f"{label} ({names[label]!r}) lacks {', '.join(hints)}")
    more = f" … ({len(lacking)} in all)" if len(lacking) > len(shown) else ""
    raise AvpipeError(
        f"{path} has no vector for {len(lacking)} of {len(names)} classes: {'; '.join(lines)}{more}. Expected each "
        "class's name or all of its words in the model. Write other names for these classes into the table of names "
        "(original,manual; gzsl.word_names)."
    )


def _close_matches(path: Path, kind: ModelKind, words: set[str]) -> dict[str, list[str]]:
    """word -> up to three common words of the model that are spelt alike and start with the same two letters."""
    starts: dict[str, list[str]] = {word.casefold()[:2]: [] for word in words}
    with closing(_entries(path, kind)) as entries:
        for token, _ in itertools.islice(entries, _SEARCHED_FOR_MATCHES):
            known = token.decode("utf-8", errors="replace")
            starts.get(known.casefold()[:2], []).append(known)
    return {word: difflib.get_close_matches(word, starts[word.casefold()[:2]], 3, 0.7) for word in words}


def _select(path: Path, kind: ModelKind, wanted: set[str]) -> dict[str, Vector]:
    """The vectors of the wanted tokens that the file has; of a token that occurs twice the first, as gensim does."""
    tokens = {token.encode(): token for token in wanted}
    found: dict[str, Vector] = {}
    for token, row in _entries(path, kind):
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


def _entries(path: Path, kind: ModelKind) -> Generator[tuple[bytes, bytes]]:
    """Every token of the vocabulary, in order, with its row as it is in the file."""
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
        read = _binary_entries if kind == "word2vec_binary" else _text_entries
        n_read = 0
        for n_read, entry in enumerate(read(path, stream, dimension), 1):
            yield entry
            if n_read == n_tokens:
                return
        if n_read < n_tokens:
            raise AvpipeError(f"{path} ends after {n_read} of {n_tokens} tokens; get the file again.")


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


def _from_subwords(path: Path, phrases: set[str]) -> dict[str, _Made]:
    """name -> its vector as fastText gives it for one token: the mean of its subwords' rows, and its own if known."""
    from gensim.models.fasttext import ft_ngram_hashes

    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = _read_fasttext(path, data, {phrase.encode() for phrase in phrases})

            def row(number: int) -> Vector:
                return np.frombuffer(data[model.row_at(number) : model.row_at(number + 1)], "<f4")

            made = {}
            for phrase in phrases:
                hashes = ft_ngram_hashes(phrase, model.shortest, model.longest, model.n_buckets)
                known = model.ids.get(phrase.encode())
                rows = [model.n_words + one for one in hashes] + ([] if known is None else [known])
                total = np.zeros(model.dimension)  # it stays zero for a name too short for a subword, as in fastText
                for one in rows:
                    total += row(one)
                made[phrase] = _Made(
                    total / max(len(rows), 1), "subwords" if known is None else "token and subwords", (phrase,)
                )
            return made
    except (OSError, struct.error) as error:
        raise AvpipeError(f"{path} was not read: {error}. {_EXPECTED}; get the file again.") from error


@dataclass(frozen=True)
class _FastTextLayout:
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


def _read_fasttext(path: Path, data: mmap.mmap, wanted: set[bytes]) -> _FastTextLayout:
    """Read head and vocabulary (fastText: src/args.cc, src/dictionary.cc, src/densematrix.cc, `save`)."""
    if data[:4] != _FASTTEXT_MAGIC:
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
    layout = _FastTextLayout(dimension, n_words, n_buckets, shortest, longest, ids, at + struct.calcsize("<?2q"))
    if quantised or not n_buckets or not longest:
        what = "is quantised (.ftz)" if quantised else "has no subwords"
        raise AvpipeError(f"{path} {what}; expected a full .bin with subwords. Use the model's .vec file instead.")
    if (n_rows, n_columns) != (n_words + n_buckets, dimension) or len(data) < layout.row_at(n_rows):
        raise struct.error(f"{len(data)} bytes and {n_rows} x {n_columns} numbers do not fit its head")
    return layout


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if it is a .gz (by its first bytes)."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
    except (OSError, EOFError, zlib.error) as error:
        raise AvpipeError(f"{path} was not read: {error}. {_EXPECTED}; get the file again.") from error


def _are_numbers(fields: list[bytes]) -> bool:
    try:
        return bool(fields) and all(np.isfinite(float(field)) for field in fields)
    except ValueError:
        return False
