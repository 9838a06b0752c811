"""HDF5 files from anywhere: opened after a look at everything in them, and texts that are read without the library.

HDF5 can say that a dataset's numbers lie in any other file of the machine, that a name stands for another place, that
forty gigabytes are there where nothing is, and that one text of a megabyte is there a million times. None of that
is needed to hold features (docs/files.md).
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

from avpipe.io.budget import Budget, LimitError

_MAX_MEMBERS = 10_000
_PLAIN_TYPES = {h5t.INTEGER: "whole numbers", h5t.FLOAT: "numbers", h5t.STRING: "text", h5t.ENUM: "names of numbers"}
_UNPACKERS = {h5z.FILTER_DEFLATE, h5z.FILTER_LZF}
_FILTERS = _UNPACKERS | {h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_CHECKSUM_BYTES = 4  # of fletcher32, behind a chunk
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}
_VARIABLE_BYTES = 16  # of an element of variable length: its length, and where it is
_EXTERNAL_FILES, _LAYOUT, _CONTINUATION = 0x7, 0x8, 0x10  # messages in the header of an object
_OUTSIDE = "has its numbers in other files, which are not opened"
_HEAP_START = b"GCOL\x01"


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """Open a file for reading that holds nothing but groups and datasets of plain numbers and text of its own.

    Refused are links of any kind, external storage, virtual datasets, filters of other programs, other types, and
    sizes beyond the file's `avpipe.io.budget.Budget`. To be called inside of `avpipe.io.reading.reading`.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: there is no such file, it is no HDF5, or holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError("it does not exist, or is no file")
    file = h5py.File(path, "r")
    try:
        _check_members(file, Budget.of(path))
    except BaseException:
        file.close()
        raise
    return file


def _check_members(file: h5py.File, budget: Budget) -> None:
    """Walk through all groups, of which none may be in another twice or in itself."""
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("its addresses are not of 8 bytes")
    pending, seen, n_members = [(h5g.open(file.id, b"/"), "/")], set(), 0
    while pending:
        group, where = pending.pop()
        place = h5o.get_info(group).addr
        if place in seen:
            raise ValueError(f"the group {where!r} has another name as well")
        seen.add(place)
        _check_attributes(group, where, budget)
        links: list[tuple[bytes, int, int]] = []

        def add(name: bytes, info: Any, links: list[tuple[bytes, int, int]] = links) -> bool | None:
            links.append((name, info.type, info.u))
            return True if len(links) > _MAX_MEMBERS else None  # ends the iteration

        group.links.iterate(add, info=True)
        n_members += len(links)
        if n_members > _MAX_MEMBERS:
            raise LimitError(f"it has more than {_MAX_MEMBERS:,} groups and datasets")
        for name, kind, at in links:
            path = where + name[:200].decode("utf-8", "replace")
            if kind != h5l.TYPE_HARD:
                raise ValueError(f"{path!r} is {_LINKS.get(kind, 'a link of another program')}, which is not followed")
            _check_header(Path(file.filename), at, file.userblock_size, path)
            member = h5o.open(group, name)
            if isinstance(member, h5g.GroupID):
                pending.append((member, path + "/"))
            elif isinstance(member, h5d.DatasetID):
                _check_dataset(member, path, budget, Path(file.filename).stat().st_size)
                _check_attributes(member, path, budget)
            else:
                raise ValueError(f"{path!r} is neither a group nor a dataset")


def _check_header(file: Path, at: int, base: int, path: str) -> None:
    """Whether an object keeps its numbers in other files, before the library opens it and may search them for ever.

    Read is the object's header, of either version, message by message (HDF5's file format, IV.A).
    """
    at += base
    with file.open("rb") as stream:
        stream.seek(at)
        head = stream.read(16)
        is_new = head.startswith(b"OHDR")
        if is_new:
            flags = head[5]
            at += 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1) + (1 << (flags & 3))
            stream.seek(at - (1 << (flags & 3)))
            size, message_head = int.from_bytes(stream.read(1 << (flags & 3)), "little"), 4 + 2 * (flags >> 2 & 1)
        else:
            at, size, message_head = at + 16, int.from_bytes(head[8:12], "little"), 8
        blocks, seen = [(at, size)], set()
        while blocks:
            at, size = blocks.pop()
            if at in seen:
                raise ValueError(f"the header of {path!r} runs in a circle")
            seen.add(at)
            stream.seek(at)
            block, at = stream.read(size), 0
            while at + message_head <= len(block):
                kind = block[at] if is_new else int.from_bytes(block[at : at + 2], "little")
                begin = at + message_head
                at = begin + int.from_bytes(block[at + 1 : at + 3] if is_new else block[at + 2 : at + 4], "little")
                content = block[begin:at]
                if kind == _EXTERNAL_FILES or (kind == _LAYOUT and content[:1] > b"\2" and content[1:2] == b"\3"):
                    raise ValueError(f"{path!r} {_OUTSIDE}")
                if kind == _CONTINUATION and len(content) >= 16:
                    place, length = struct.unpack("<2Q", content[:16])
                    blocks.append((base + place + 4, length - 8) if is_new else (base + place, length))


def _check_dataset(dataset: h5d.DatasetID, path: str, budget: Budget, file_bytes: int) -> None:
    settings = dataset.get_create_plist()
    if settings.get_layout() == h5d.VIRTUAL or settings.get_external_count():
        raise ValueError(f"{path!r} {_OUTSIDE}")
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    if not _FILTERS.issuperset(filters) or len(_UNPACKERS.intersection(filters)) + len(filters) - len(set(filters)) > 1:
        raise ValueError(
            f"{path!r} is packed by the filters {filters}; expected gzip or lzf, with shuffle or fletcher32"
        )
    kind = dataset.get_type()
    if kind.get_class() not in _PLAIN_TYPES:
        raise ValueError(f"{path!r} has elements of another kind than numbers and text")
    is_variable = kind.get_class() == h5t.STRING and kind.is_variable_str()
    size = _VARIABLE_BYTES if is_variable else kind.get_size()
    shape = dataset.get_space().shape or ()
    budget.check(math.prod(shape) * size, f"the elements {list(shape)} of {path!r}")
    budget.charge(math.prod(shape) * size)
    if settings.get_layout() != h5d.CHUNKED:
        return
    chunk_bytes = math.prod(settings.get_chunk()) * size
    budget.check(chunk_bytes, f"the chunks of {path!r}")
    for info in _chunks(dataset):
        if info.byte_offset + info.size > file_bytes:
            raise ValueError(f"{path!r} has a chunk beyond the file's end")
        if h5z.FILTER_DEFLATE in filters:  # the library unpacks whatever comes out
            unpacked = zlib.decompressobj().decompress(
                dataset.read_direct_chunk(info.chunk_offset)[1], chunk_bytes + _CHECKSUM_BYTES + 1
            )
            if len(unpacked) > chunk_bytes + _CHECKSUM_BYTES:
                raise LimitError(f"a chunk of {path!r} unpacks to more than its {chunk_bytes:,} bytes")


def _check_attributes(owner: Any, path: str, budget: Budget) -> None:
    if h5a.get_num_attrs(owner) > _MAX_MEMBERS:
        raise LimitError(f"{path!r} has more than {_MAX_MEMBERS:,} attributes")
    names: list[bytes] = []
    h5a.iterate(owner, lambda name, *_: names.append(name))
    for name in names:
        attribute = h5a.open(owner, name)
        kind, count = attribute.get_type(), math.prod(attribute.get_space().shape or ())
        budget.check(count * kind.get_size(), f"the elements of the attribute {name[:200]!r} of {path!r}")


def _chunks(dataset: h5d.DatasetID) -> list[Any]:
    found: list[Any] = []

    def add(info: Any) -> None:
        found.append(info)

    dataset.chunk_iter(add)
    return found


def read_texts(dataset: h5py.Dataset) -> list[str]:
    """The texts of a dataset of one axis, of fixed or variable length, in UTF-8.

    Those of variable length lie in heaps without checksums, in which the library may search for ever after damage, and
    one of them may be meant by any number of elements: the heaps are read here, within the file's budget.

    Raises:
        One of `avpipe.io.reading.READ_ERRORS`: the dataset is something else or damaged, or takes too much.
    """
    kind = dataset.id.get_type()
    if dataset.ndim != 1 or kind.get_class() != h5t.STRING:
        raise ValueError(f"{dataset.name!r} is {dataset.dtype} {list(dataset.shape)}, expected a row of text")
    if not kind.is_variable_str():
        return [each.decode("utf-8") for each in dataset[:].tolist()]
    heaps: dict[int, dict[int, bytes]] = {}
    budget, texts = Budget.of(dataset.file.filename), []
    with Path(dataset.file.filename).open("rb") as file:
        for element in _raw_elements(dataset, file):
            length, at, number = struct.unpack("<IQI", element)
            budget.charge(length)
            if length and at not in heaps:
                heaps[at] = _read_heap(file, at + dataset.file.userblock_size)
            text = heaps[at][number] if length else b""
            if len(text) < length:
                raise ValueError(f"{dataset.name!r} has a text of {length:,} bytes, of which {len(text):,} are there")
            texts.append(text[:length].rstrip(b"\0").decode("utf-8"))
    return texts


def _raw_elements(dataset: h5py.Dataset, file: Any) -> list[bytes]:
    """The bytes of each element as they are in the file: length, address of a heap, and number in it."""
    size, raw = _VARIABLE_BYTES, bytearray(dataset.size * _VARIABLE_BYTES)
    if dataset.chunks is None:
        if dataset.size and dataset.id.get_create_plist().get_layout() != h5d.CONTIGUOUS:
            raise ValueError(f"{dataset.name!r} has text of variable length in its header; store it as a plain dataset")
        if dataset.id.get_storage_size():
            file.seek(dataset.id.get_offset())
            raw[:] = file.read(len(raw))
    else:
        for info in _chunks(dataset.id):
            begin = info.chunk_offset[0] * size
            raw[begin : begin + dataset.chunks[0] * size] = _unpacked(dataset, info)
        del raw[dataset.size * size :]
    if len(raw) != dataset.size * size:
        raise ValueError(f"{dataset.name!r} was cut short")
    return [bytes(raw[at : at + size]) for at in range(0, len(raw), size)]


def _unpacked(dataset: h5py.Dataset, info: Any) -> bytes:
    """A chunk without its filters."""
    mask, data = dataset.id.read_direct_chunk(info.chunk_offset)
    settings = dataset.id.get_create_plist()
    for index in reversed(range(settings.get_nfilters())):
        kind = settings.get_filter(index)[0]
        if mask >> index & 1:
            continue
        if kind == h5z.FILTER_LZF:
            raise ValueError(f"{dataset.name!r} has text packed by lzf; expected gzip, or none")
        if kind == h5z.FILTER_DEFLATE:
            data = zlib.decompress(data)
        else:  # shuffle; texts cannot have a checksum
            data = np.frombuffer(data, np.uint8).reshape(_VARIABLE_BYTES, -1).T.tobytes()
    return data


def _read_heap(file: Any, at: int) -> dict[int, bytes]:
    """The objects of a global heap by number (HDF5's file format, III.E)."""
    file.seek(at)
    head = file.read(16)
    size = int.from_bytes(head[8:], "little")
    if not head.startswith(_HEAP_START) or at + size > os.fstat(file.fileno()).st_size:
        raise ValueError(f"there is no heap of texts at byte {at:,}")
    data, at, found = file.read(size - 16), 0, {}
    while at + 16 <= len(data):
        number, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        if not number:  # the free rest
            break
        found[number] = data[at + 16 : at + 16 + length]
        at += 16 + -(-length // 8) * 8
    return found
