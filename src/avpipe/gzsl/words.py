"""Class vectors: the published word vectors, and which one each class gets."""

from __future__ import annotations

import csv
import io
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError, listed, repeated
from avpipe.formats.npy import numbers, read_npy
from avpipe.gzsl.class_split import ClassNames
from avpipe.gzsl.models.settings import TextAlignment
from avpipe.io.atomic import write_text
from avpipe.io.csv_tables import dict_reader
from avpipe.io.manifest import verified, write_bytes
from avpipe.io.reading import reading

_ZERO = 1e-6  # a shorter vector has no direction left
_LENGTH_ERROR = 1e-3  # published vectors are of length 1 to 1e-7; rounded to float16 they are to 5e-4
_NEARLY_EQUAL = 0.999  # cosine; the closest published vectors, playing tennis and playing table tennis, have 0.937


def read_words(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.float32]]:
    """name as written for word2vec -> float32 [d], from a `word_embeddings_*_normed.npy`.

    Source: docs/methods.md, Class vectors.

    Raises:
        AvpipeError: the file is no such dict, or holds anything but plain data (nothing in it is run).
    """
    contents = read_npy(verified(path, may_be_given=True))
    if not isinstance(contents, dict) or not contents:
        raise AvpipeError(f"{path} holds a {type(contents).__name__}; expected a dict of class name to vector.")
    with reading(path, "a dict of class name to vector"):
        words = {str(name): numbers(vector) for name, vector in contents.items()}
    shapes = {vector.shape for vector in words.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise AvpipeError(f"{path} has vectors of shapes {sorted(shapes)}; expected finite floats of one shape [d].")
    broken = [name for name, vector in words.items() if vector.dtype.kind != "f" or not np.isfinite(vector).all()]
    if broken:
        raise AvpipeError(f"{path} has vectors of other than finite numbers for {listed(broken)}; expected floats.")
    return {name: vector.astype(np.float32) for name, vector in words.items()}


def write_words(path: str | os.PathLike[str], words: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Write word vectors as the published files are, readable by numpy 1 and 2 alike; the bytes are deterministic."""
    contents = np.empty((), object)
    contents[()] = {name: np.array(words[name], np.float32) for name in words}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    # Protocol 3 names modules in lines of text; numpy 1 knows numpy.core only, numpy 2 knows both.
    body = pickle.dumps(contents, protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")
    write_bytes(path, header.getvalue() + body)


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """class name -> name as written for word2vec, from a `*_w2v_class_names.csv` (original,manual[,category]).

    Raises:
        AvpipeError: columns are lacking, or a name of either column occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise AvpipeError(f"{path} does not exist; expected a table with the columns original,manual.")
    with (
        reading(path, "a table with the columns original,manual"),
        path.open(encoding="utf-8-sig", newline="") as stream,
    ):
        reader = dict_reader(stream, "original", "manual")
        rows = list(reader)
    if not {"original", "manual"} <= set(reader.fieldnames or []):
        raise AvpipeError(f"{path} has the columns {reader.fieldnames}; expected original and manual.")
    short = [f"line {number}" for number, row in enumerate(rows, 2) if not row["original"] or not row["manual"]]
    if short:
        raise AvpipeError(f"{path} has rows without original or manual: {listed(short)}; complete or remove them.")
    for column in ("original", "manual"):
        if twice := repeated(row[column] for row in rows):
            raise AvpipeError(f"{path} has names twice in column {column}: {listed(twice)}; correct the table.")
    return {row["original"]: row["manual"] for row in rows}


def read_tables(paths: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """`read_names` of several tables, each over those before it; one with a few classes leaves the others as they are.

    Raises:
        AvpipeError: as `read_names`, or two classes come to have one name.
    """
    names: dict[str, str] = {}
    for path in paths:
        names = laid_over(names, read_names(path))
    classes: dict[str, list[str]] = {}
    for label, name in names.items():
        classes.setdefault(name, []).append(label)
    if shared := {name: labels for name, labels in classes.items() if len(labels) > 1}:
        name, labels = next(iter(shared.items()))
        raise AvpipeError(
            f"{' and '.join(map(str, paths))} together give the classes {listed(labels)} the one name {name!r}; "
            "expected a name of its own for each. Correct the last of them."
        )
    return names


def laid_over(below: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """Names of classes with those of another table in their place; capitals of a class may differ (`ClassNames`)."""
    classes = ClassNames(below)
    return {**below, **{classes.find(label) or label: name for label, name in over.items()}}


def write_names(path: str | os.PathLike[str], names: Mapping[str, str]) -> None:
    """Write a table of class name and word2vec name, sorted by class, as `read_names` reads it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["original", "manual"])
    writer.writerows(sorted(names.items()))
    write_text(path, text.getvalue())


def class_vectors(
    words: Mapping[str, npt.NDArray[np.float32]],
    names: Mapping[str, str],
    class_names: Sequence[str],
    alignment: TextAlignment = "correct",
    *,
    used: Sequence[str] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """The vector of every class, float32 [n_classes, d], row = class id; NaN for unused classes without one.

    Args:
        words: word2vec name -> float32 [d].
        names: class name -> word2vec name.
        class_names: all classes of the source dataset in code-point order; a class id is a position in it.
        alignment: "correct": each class has its own vector. "published": row i is the vector of the i-th of
            the *sorted word2vec names*, as the published loader has it (docs/methods.md, Class vectors; wrong for 36
            of UCF's 51 classes). "permuted": the control experiment, see `permuted_rows`.
        used: classes of the split, which must have a vector; None: all.
        seed: of the permutation; no effect otherwise.

    Raises:
        AvpipeError: a used class has no vector or one of zeros, or "published" is asked for and the name table does
            not cover all classes.
    """
    wanted = set(class_names if used is None else used)
    keys = published_keys(names, class_names) if alignment == "published" else correct_keys(names, class_names)
    of_wanted = {name: key and words.get(key) for name, key in zip(class_names, keys, strict=True) if name in wanted}
    lacking = [name for name, vector in of_wanted.items() if vector is None]
    if lacking:
        raise AvpipeError(
            f"{len(words)} word vectors, but none for the classes {listed(lacking)}. Expected each class in "
            "column original of the name table, and its column manual among the names of the vectors; "
            "complete either. A table of these classes alone can be set as datasets.<name>.gzsl.word_names."
        )
    zero = [name for name, vector in of_wanted.items() if vector is not None and np.linalg.norm(vector) < _ZERO]
    if zero:
        raise AvpipeError(
            f"The word vectors of the classes {listed(zero)} are zero, which says nothing of a class; expected vectors "
            "of length 1. Make them again, or give these classes other names in the name table."
        )
    absent = np.full(next(iter(words.values())).shape, np.nan, np.float32)
    vectors = np.stack([words.get(key, absent) if key is not None else absent for key in keys])
    if alignment == "permuted":
        ids = np.array([class_names.index(name) for name in sorted(wanted)])
        vectors[ids] = vectors[permuted_rows(ids, seed)]
    return vectors


def odd_vectors(vectors: npt.NDArray[np.float32], class_names: Sequence[str], used: Sequence[str]) -> list[str]:
    """What a reader should know about class vectors that can be used, a phrase each; the published ones give none.

    Args:
        vectors: [n_classes, d], not zero where used.
        class_names: of the rows.
        used: classes of the split.
    """
    names = sorted(used)
    rows = vectors[[class_names.index(name) for name in names]].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    directions = rows / lengths[:, None]
    pairs = np.argwhere(np.triu(directions @ directions.T > _NEARLY_EQUAL, 1)).tolist()
    is_equal = [np.array_equal(rows[one], rows[other]) for one, other in pairs]
    named = [(f"{names[one]} and {names[other]}", equal) for (one, other), equal in zip(pairs, is_equal, strict=True)]
    found = {
        "of another length than 1, which every method expects": [
            f"{name} ({length:.3g})"
            for name, length in zip(names, lengths, strict=True)
            if abs(length - 1) > _LENGTH_ERROR
        ],
        "the same for two classes, which nothing can tell apart": [two for two, equal in named if equal],
        f"nearly the same for two classes (cosine above {_NEARLY_EQUAL})": [two for two, equal in named if not equal],
    }
    return [f"{what}: {listed(which)}" for what, which in found.items() if which]


def correct_keys(names: Mapping[str, str], class_names: Sequence[str]) -> list[str | None]:
    """Each class's word2vec name; capitals may differ from the table's where that is unambiguous."""
    originals = ClassNames(names)
    found = [originals.find(name) for name in class_names]
    return [None if name is None else names[name] for name in found]


def published_keys(names: Mapping[str, str], class_names: Sequence[str]) -> list[str | None]:
    """The word2vec name whose vector the published loader gives to each class id.

    Its text matrix is in order of the sorted word2vec names, but is indexed by class id, the order of the
    class names.
    """
    if len(names) != len(class_names):
        raise AvpipeError(
            f"The name table has {len(names)} rows for {len(class_names)} classes; the published alignment "
            "is defined for one row per class only. Complete the table or use the correct alignment."
        )
    return [*sorted(names.values())]


def permuted_rows(ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """For each class id the id whose vector it gets in the control experiment: one random cycle of all.

    Seen and unseen classes are permuted together. A permutation among the unseen classes alone would leave
    what is learned from the seen ones intact and make a good model *always* wrong, below chance; one among
    the seen classes alone keeps true vectors on the unseen side. A cycle leaves no class its own vector. That
    biases accuracy below chance only by the fixed points a free permutation would have had: one class in all
    on average.

    Raises:
        AvpipeError: fewer than two classes.
    """
    if len(ids) < 2:
        raise AvpipeError(f"{len(ids)} class cannot be permuted; the permuted alignment needs two or more.")
    cycle = np.random.default_rng(seed).permutation(len(ids))
    rows = np.empty_like(ids)
    rows[cycle] = ids[np.roll(cycle, 1)]
    return rows
