"""Every public reader of `avpipe.formats`, with small valid files for it."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from avpipe.formats.avca_pickles import read_cache, read_feature_pickle
from avpipe.formats.class_files import list_class_file, read_class_values, write_class_file
from avpipe.formats.clip_pickles import read_clips
from avpipe.formats.howto100m import read_caption_columns, read_list
from avpipe.formats.npy import find_rows, read_npy, read_npz
from avpipe.formats.pickle_writing import write_pickle
from avpipe.formats.pickles import read_pickle
from avpipe.formats.released_files import read_released
from avpipe.formats.weights import load_weights, read_state_dict
from avpipe.formats.word_vectors import model_kind, select_vectors, subword_vectors, vector_length
from avpipe.io.hdf5 import open_hdf5, read_texts
from avpipe.io.reading import reading


@dataclass(frozen=True)
class Reader:
    """A reader and what it reads.

    Attributes:
        read: from a file to anything; may raise AvpipeError or ClipFailure.
        kind: how its files can be taken apart: pickle, zip, hdf5, text or bytes.
        seeds: writes small valid files into a folder.
        suffix: of its files.
    """

    read: Callable[[Path], Any]
    kind: str
    seeds: Callable[[Path], None]
    suffix: str = ""


def _class_file(path: Path) -> None:
    clip_ids, width = list_class_file(path)
    read_class_values(path, np.empty((len(clip_ids), width), np.float32))


def _everything(path: Path) -> None:
    with reading(path, "HDF5"), open_hdf5(path) as file:

        def visit(_: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                read_texts(found) if found.dtype.kind == "O" else found[()]

        file.visititems(visit)


def _rows(path: Path) -> None:
    rows = find_rows(path, "features", width=5)
    rows.read([(0, min(rows.n_rows, 1 << 16)), (0, 0)])


def _model(path: Path) -> None:
    vector_length(path)
    kind = model_kind(path)
    if kind == "fasttext":
        subword_vectors(path, {"guitar", "the"})
    else:
        select_vectors(path, kind, {"guitar", "the", "a b"})


def _network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


_ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def _pickles(folder: Path) -> None:
    value = {
        "numbers": [1, -5, 2.5, True, None, 2**40],
        "text": ["ä", b"bytes", bytearray(b"x")],
        "nested": ({"a": (1, [2])}, {3, 4}, frozenset({"x"})),
        "arrays": [_ROWS, np.array(["ab", "c"]), np.array([1, "x", None], object), np.float32(2)],
        "order": OrderedDict(a=1),
    }
    for protocol in range(6):
        (folder / f"plain{protocol}").write_bytes(pickle.dumps(value, protocol))
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": [torch.ones(2, dtype=torch.int64).t()], "c": "x"}
    (folder / "tensors").write_bytes(pickle.dumps(tensors, 4))
    torch.save(tensors, folder / "zip")
    torch.save(tensors, folder / "legacy", _use_new_zipfile_serialization=False)


def _caches(folder: Path) -> None:
    part = {"data": _ROWS, "target": np.array([0, 1, 1]), "url": ["a", "b", "c"]}
    words = {"data": _ROWS[:2], "target": np.array([1, 0]), "url": np.array(["x", "y"])}
    write_pickle(folder / "cache", {"audio": part, "video": part, "text": words})
    (folder / "plain").write_bytes(pickle.dumps({"audio": part, "video": part, "text": words}, 2))


def _features(folder: Path) -> None:
    names = ["a.avi", "b.avi", "c.avi"]
    write_pickle(folder / "dict", {"video": _ROWS, "labels": np.arange(3), "audio": _ROWS, "filenames": names})
    (folder / "list").write_bytes(pickle.dumps([_ROWS, [0, 1, 2], _ROWS.tolist(), names]))
    rows = [[row, i, row, name] for i, (row, name) in enumerate(zip(_ROWS, names, strict=True))]
    (folder / "rows").write_bytes(pickle.dumps(rows, 2))


def _clips(folder: Path) -> None:
    clip = {"2d": np.ones(2048, np.float32), "3d": np.ones((1, 2048), np.float16), "caption": ["a", "b"], "id": 7}
    audio = np.zeros((40, 3), np.float32)
    (folder / "arrays").write_bytes(pickle.dumps([{**clip, "audio": audio}, {**clip, "audio": audio, "id": "x"}]))
    write_pickle(folder / "tensors", [{**clip, "audio": audio, "eval_caption": "c"}])


def _npy(folder: Path) -> None:
    np.save(folder / "numbers", _ROWS)
    np.save(folder / "names", np.array(["a", "bc"]))
    np.save(folder / "dict", np.array({"a": _ROWS[0], "b": _ROWS[1]}, object))


def _npz(folder: Path) -> None:
    np.savez(folder / "plain", features=_ROWS, other=np.arange(3))
    np.savez_compressed(folder / "packed", features=np.zeros((40, 5), np.float16))


def _class_files(folder: Path) -> None:
    write_class_file(folder / "ours", ["a", "b", "ç"], _ROWS)
    with h5py.File(folder / "published", "w") as file:
        file["data"] = _ROWS.astype(np.float64)
        file["video_urls"] = np.array([b"a", b"b", b"c"], "S80")
    with h5py.File(folder / "packed", "w") as file:
        file.create_dataset("data", data=_ROWS, compression="gzip", shuffle=True, fletcher32=True)
        options = {"dtype": h5py.string_dtype(), "chunks": (2,), "compression": "gzip", "shuffle": True}
        file.create_dataset("video_urls", data=np.array(["a", "bb", "c"], object), **options)
    with h5py.File(folder / "latest", "w", libver="latest") as file:
        file.create_dataset("data", data=_ROWS, chunks=(1, 4), maxshape=(None, 4))
        file.create_dataset("video_urls", data=np.array(["a", "bb", "c"], object), dtype=h5py.string_dtype())
        file.create_group("more").attrs["note"] = "text"
        file.attrs["numbers"] = np.arange(5)


def _captions(folder: Path) -> None:
    value = {
        "a": {"start": [0.5, 2], "end": [1, 3.5], "text": ["one", "two"]},
        "b": {"start": [], "end": [], "text": []},
    }
    (folder / "caption.json").write_text(json.dumps(value), "utf-8")


def _caption_pickle(folder: Path) -> None:
    value = {"a": {"start": np.array([0.5, 2]), "end": [1, 3.5], "text": ["one", "two"]}}
    (folder / "caption.pickle").write_bytes(pickle.dumps(value))


def _lists(folder: Path) -> None:
    (folder / "list").write_text('path,more\nNone/Food/Bread/abc,1\n"Food/a,b/c",2\n', "utf-8")


def _weights(folder: Path) -> None:
    state = _network().state_dict()
    checkpoint = {"model": state, "epoch": 3, "optimizer": {"lr": np.float64(0.1), "state": {0: {"step": 1}}}}
    for name, value in (("state", state), ("checkpoint", checkpoint)):
        torch.save(value, folder / f"{name}.zip")
        torch.save(value, folder / f"{name}.legacy", _use_new_zipfile_serialization=False)
    torch.save({"0.weight": torch.nn.Parameter(torch.ones(2, 3, dtype=torch.bfloat16))}, folder / "parameter")


def _released(folder: Path) -> None:
    content = {"epoch": 4, "model": {"module.A": torch.ones(2)}, "optimizer": {"state": {}}, "metric": "score"}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)


def _models(folder: Path) -> None:
    words = ["the", "guitar", "tai_chi"]
    text = b"".join(f"{word} {i} 0.5 -1.25e-3\n".encode() for i, word in enumerate(words))
    rows = [f"{word} ".encode() + struct.pack("<3f", i, 0.5, 2) for i, word in enumerate(words)]
    files = {"glove": text, "text": b"3 3\n" + text, "binary": b"3 3\n" + b"".join(rows)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    head = struct.pack("<2i12id", 793712314, 12, 3, 5, 5, 1, 5, 1, 1, 1, 4, 2, 4, 100, 0.0)[: 4 * 14 + 8]
    words_part = b"".join(word.encode() + b"\0" + struct.pack("<qb", 3, 0) for word in words)
    matrix = struct.pack("<?2q", False, 7, 3) + np.arange(21, dtype="<f4").tobytes()
    (folder / "fasttext").write_bytes(head + struct.pack("<3i2q", 3, 3, 0, 9, -1) + words_part + matrix)


READERS = {
    "pickle": Reader(read_pickle, "pickle", _pickles),
    "cache": Reader(read_cache, "pickle", _caches),
    "feature pickle": Reader(read_feature_pickle, "pickle", _features),
    "clip pickle": Reader(read_clips, "pickle", _clips),
    "caption.pickle": Reader(lambda path: [*read_caption_columns(path)], "pickle", _caption_pickle, ".pickle"),
    "caption.json": Reader(lambda path: [*read_caption_columns(path)], "text", _captions, ".json"),
    "video list": Reader(read_list, "text", _lists),
    "npy": Reader(read_npy, "npy", _npy),
    "npz": Reader(lambda path: read_npz(path, "an npz"), "zip", _npz),
    "npz rows": Reader(_rows, "zip", _npz),
    "class file": Reader(_class_file, "hdf5", _class_files),
    "any hdf5": Reader(_everything, "hdf5", _class_files),
    "state dict": Reader(read_state_dict, "zip", _weights),
    "weights": Reader(lambda path: load_weights(_network(), path), "zip", _weights),
    "released": Reader(read_released, "zip", _released),
    "word model": Reader(_model, "text", _models),
}
