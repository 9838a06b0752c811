"""Class vectors from a word-vector model: word2vec, GloVe or fastText files, of which only the needed rows are read."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, listed
from avpipe.formats.word_vectors import (
    ModelKind,
    Vector,
    model_kind,
    read_entries,
    select_vectors,
    subword_vectors,
)
from avpipe.gzsl.words import read_names, write_words
from avpipe.io.manifest import write_json

_PUNCTUATION = ",;:.!?()[]\"'"
_SEARCHED_FOR_MATCHES = 200_000  # files are sorted by frequency, so these are the common words
_MISSPELT_SHOWN = 10


def class_vectors_from_model(
    path: str | os.PathLike[str], names: Mapping[str, str], *, kind: ModelKind = "auto"
) -> tuple[dict[str, Vector], dict[str, Any]]:
    """A vector for each class from a word-vector model, keyed and normalised as `avpipe.gzsl.words.write_words` wants.

    fastText's .bin with subwords gives the whole name as one token, unknown or not, as the published vectors were
    made (docs/methods.md, Class vectors). Other files give the whole name if they have it as a token (with spaces or
    underscores; as it is, in lower case or Title Case), else the mean of the vectors of its words, tried likewise.

    Args:
        path: the file; only the rows needed are held in memory.
        names: class -> its name as words, such as "Playing Guitar".
        kind: the file's format; auto: by its first bytes.

    Returns:
        name as words -> float32 [d] of length 1, d as the model has it; and an account of how each was made, as JSON.

    Raises:
        AvpipeError: the file is no such model or incomplete, or has no vector for a name.
    """
    path = Path(path)
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
            "longer or other names in a table original,manual (datasets.<name>.gzsl.word_names)."
        )
    vectors = {spoken: (one.vector / lengths[spoken]).astype(np.float32) for spoken, one in made.items()}
    classes = {
        label: {"name": spoken, "made_from": made[spoken].made_from, "tokens": list(made[spoken].tokens)}
        for label, spoken in sorted(names.items())
    }
    dimension = len(next(iter(vectors.values()))) if vectors else 0
    return vectors, {"model": path.name, "kind": kind, "dimension": dimension, "classes": classes}


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
    vectors, account = class_vectors_from_model(model, read_names(names_csv), kind=kind)
    write_words(target_npy, vectors)
    write_json(Path(target_npy).with_suffix(".json"), account)


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
    found = select_vectors(path, kind, _wanted_tokens(names.values()))
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
        "class's name or all of its words in the model. Write other names for these classes alone into a "
        "table original,manual and set datasets.<name>.gzsl.word_names to it."
    )


def _close_matches(path: Path, kind: ModelKind, words: set[str]) -> dict[str, list[str]]:
    """word -> up to three common words of the model that are spelt alike and start with the same two letters."""
    starts: dict[str, list[str]] = {word.casefold()[:2]: [] for word in words}
    with closing(read_entries(path, kind)) as entries:
        for token, _ in itertools.islice(entries, _SEARCHED_FOR_MATCHES):
            known = token.decode("utf-8", errors="replace")
            starts.get(known.casefold()[:2], []).append(known)
    return {word: difflib.get_close_matches(word, starts[word.casefold()[:2]], 3, 0.7) for word in words}


def _from_subwords(path: Path, phrases: set[str]) -> dict[str, _Made]:
    """name -> its vector as fastText gives it for the whole name as one token."""
    return {
        phrase: _Made(made.vector, "token and subwords" if made.is_known else "subwords", (phrase,))
        for phrase, made in subword_vectors(path, phrases).items()
    }
