"""Files that ask for more than they hold or reach out of themselves: each is refused or read, soon and small."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from fuzz_formats import Watched

SECRET = b"what another file of the machine holds\n" * 100


def _tuples(end: bytes, depth: int = 60) -> bytes:
    """A pickle in which each of `depth` tuples holds the one before twice; 252 bytes with the first end."""
    return b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * depth + end + b"."


def _lists(end: bytes = b"", depth: int = 60) -> bytes:
    return b"\x80\x02]q\0" + b"0](h\0h\0eq\0" * depth + end + b"."


_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\1btR"


def _object_arrays() -> bytes:
    """One list of 100,000 elements, of which 20,000 arrays are to be made."""
    state = b"(K\1(J\xa0\x86\1\0tcnumpy\ndtype\n(X\2\0\0\0O8K\0K\1tR\x89](" + b"N" * 100_000 + b"etq\0"
    return b"\x80\x02" + state + b"0](" + (_RECONSTRUCT + b"h\0b") * 20_000 + b"e."


def _scalars() -> bytes:
    """A number of 400 kB, made 50,000 times."""
    head = b"cnumpy.core.multiarray\nscalar\nq\0cnumpy\ndtype\n(X\7\0\0\0S400000K\0K\1tRB" + struct.pack("<I", 400_000)
    return b"\x80\x02" + head + bytes(400_000) + b"\x86q\1](" + b"h\0h\1R" * 50_000 + b"e."


def _colliding_keys() -> bytes:
    """Whole numbers that all hash to 0, as keys."""
    keys = b"".join(pickle.dumps(i * ((1 << 61) - 1), 2)[2:-1] + b"N" for i in range(1, 60_000))
    return b"\x80\x02}(" + keys + b"u."


def _long_number() -> bytes:
    return b"\x80\x02}\x8b" + struct.pack("<i", 900_000) + b"\x7f" * 900_000 + b"Ns."


def _sizes() -> bytes:
    """A tensor with sizes of thousands of digits."""
    sizes = b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 3000 + b"t"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N" + sizes + sizes + sizes + b"tR."


def _shared_row() -> bytes:
    """A row of 400 kB that a list holds 200,000 times."""
    return b"\x80\x02B" + struct.pack("<I", 400_000) + bytes(400_000) + b"q\0](" + b"h\0" * 200_000 + b"e."


def _feature_lists() -> bytes:
    """Features that unfold to 2^40 numbers."""
    rows = b"]q\0(K\1K\1e" + b"0](h\0h\0eq\0" * 40
    return b"\x80\x02" + rows + b"0](h\0](K\1eh\0](X\1\0\0\0aee."


def _packed_zip(name: str, size: int, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive, archive.open(name, "w", force_zip64=True) as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return stream.getvalue()


def _packed_weights() -> bytes:
    """A file of torch, packed: 600 kB that are 600 MB."""
    stream, values = io.BytesIO(), io.BytesIO()
    torch.save({"0.weight": torch.zeros(1)}, values)
    inner = zipfile.ZipFile(values)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in inner.infolist():
            if not member.filename.endswith("data/0"):
                archive.writestr(member.filename, inner.read(member))
        with archive.open("archive/data/0", "w", force_zip64=True) as target:
            for _ in range(600):
                target.write(bytes(1 << 20))
    return stream.getvalue()


def _npy(header: dict[str, Any], body: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_2_0(stream, header)
    return stream.getvalue() + body


def _zipped(name: str, data: bytes, packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def _hdf5(build: Callable[[h5py.File, Path], Any]) -> bytes:
    """A file that `build` fills; `secret.bin` and `other.h5` lie in its folder, which the file may point to."""
    folder = Path(tempfile.gettempdir()) / "avpipe_hostile"
    folder.mkdir(exist_ok=True)
    (folder / "secret.bin").write_bytes(SECRET)
    with h5py.File(folder / "other.h5", "w") as other:
        other["data"] = np.arange(12, dtype=np.float32).reshape(3, 4)
    with h5py.File(folder / "made.h5", "w") as file:
        file["video_urls"] = np.array([b"a", b"b", b"c"], "S80")
        build(file, folder)
    return (folder / "made.h5").read_bytes()


def _external(file: h5py.File, folder: Path) -> None:
    file.create_dataset("data", (3, 4), "f4", external=[(str(folder / "secret.bin"), 0, 48)])


def _virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "data", (3, 4))
    file.create_virtual_dataset("data", layout)


def _pipe_source(file: h5py.File, folder: Path) -> None:
    """A virtual dataset of unknown length in a pipe, which opening would wait for."""
    pipe = folder / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    layout = h5py.VirtualLayout((3, 4), "f4", maxshape=(None, 4))
    layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(str(pipe), "data", (3, 4), maxshape=(None, 4))[
        : h5py.h5s.UNLIMITED
    ]
    file.create_virtual_dataset("data", layout)


def _link(kind: Any, name: str = "data") -> Callable[[h5py.File, Path], None]:
    def build(file: h5py.File, folder: Path) -> None:
        file["real"] = np.zeros((3, 4), np.float32)
        file[name] = kind(folder)

    return build


def _sized(*shape: int, name: str = "data", kind: Any = "f4", **options: Any) -> Callable[[h5py.File, Path], None]:
    def build(file: h5py.File, folder: Path) -> None:
        file.pop(name, None)
        file.create_dataset(name, shape, kind, **options)

    return build


def _packed_chunk(file: h5py.File, folder: Path) -> None:
    """A chunk of 4 kB that says it is one number and unpacks to 4 MB."""
    made = file.create_dataset("data", (1, 1), "f4", chunks=(1, 1), compression="gzip")
    import zlib

    made.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 28), 9))


def _one_text_often(file: h5py.File, folder: Path) -> None:
    """40,000 names that all mean one text of 200 kB, as the bytes behind them say afterwards."""
    del file["video_urls"]
    texts = file.create_dataset("video_urls", (40_000,), h5py.string_dtype())
    texts[0] = "x" * 200_000
    file["data"] = np.zeros((40_000, 1), np.float32)
    file.flush()
    at = texts.id.get_offset()
    with (folder / "made.h5").open("r+b") as raw:
        raw.seek(at)
        element = raw.read(16)
        raw.seek(at)
        raw.write(element * 40_000)


def _circle(file: h5py.File, folder: Path) -> None:
    group = file.create_group("group")
    for number in range(9):
        group[f"again{number}"] = file["/"]


def _many(file: h5py.File, folder: Path) -> None:
    for number in range(20_000):
        file.create_group(f"group{number}")


def _attributes(file: h5py.File, folder: Path) -> None:
    file["data"] = np.zeros((3, 4), np.float32)
    file["data"].attrs["many"] = np.zeros(8000)


def _json(entries: int) -> bytes:
    return b'{"a": {"start": [' + b"1," * entries


HOSTILE: dict[str, tuple[str, Callable[[], bytes], bool]] = {
    # name: reader, its bytes, whether it must be refused
    "tuples of tuples as a key": ("pickle", lambda: _tuples(b"}h\0Ns"), True),
    "tuples of tuples in a set": ("pickle", lambda: _tuples(b"\x8f(h\0\x90"), True),
    "tuples of tuples as a value": ("pickle", lambda: _tuples(b""), True),
    "tuples of tuples in a message": ("pickle", lambda: _tuples(b"cnumpy\ndtype\n(h\0tR"), True),
    "a deep tuple as a key": ("pickle", lambda: b"\x80\x02)" + b"\x85" * 900_000 + b"q\0}h\0Ns.", True),
    "lists of lists": ("pickle", _lists, True),
    "lists of lists as numbers": ("feature pickle", _feature_lists, True),
    "lists of lists in a cache": ("cache", lambda: _lists(b"q\1}(X\5\0\0\0audioh\1u"), True),
    "a list in itself": ("pickle", lambda: b"\x80\x02]q\0h\0a.", True),
    "900,000 lists": ("pickle", lambda: b"\x80\x02](" + b"]" * 900_000 + b"e.", False),
    "900,000 marks": ("pickle", lambda: b"\x80\x02" + b"(" * 900_000 + b".", True),
    "lists 900,000 deep": ("pickle", lambda: b"\x80\x02" + b"]" * 450_000 + b"a" * 449_999 + b".", True),
    "keys that collide": ("pickle", _colliding_keys, True),
    "a number of 900,000 bytes": ("pickle", _long_number, True),
    "a number of 900,000 digits": ("pickle", lambda: b"I" + b"9" * 900_000 + b"\n.", True),
    "sizes of 600 digits": ("pickle", _sizes, True),
    "one list as 20,000 arrays": ("pickle", _object_arrays, True),
    "one number of 400 kB 50,000 times": ("pickle", _scalars, True),
    "one text of 400 kB 200,000 times": ("pickle", _shared_row, True),
    "a frame of 2^62 bytes": ("pickle", lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.", False),
    "2^62 bytes announced": ("pickle", lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"N.", True),
    "2^40 bytes of a bytearray": ("pickle", lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"N.", True),
    "a memo index of 2^32 - 1": ("pickle", lambda: b"\x80\x02Nr\xff\xff\xff\xff.", False),
    "a clip that is there 100,000 times": ("clip pickle", lambda: (
        b"\x80\x02](}q\0(X\2\0\0\0idK\1u" + b"h\0" * 100_000 + b"e."), True),
    "tuples of tuples as a key of weights": ("state dict", lambda: _tuples(b"}h\0Ns"), True),
    "weights of 600 kB that unpack to 600 MB": ("state dict", _packed_weights, True),
    "weights packed by lzma": ("weights", lambda: _packed_zip("a/data.pkl", 64 << 20, zipfile.ZIP_LZMA), True),
    "a checkpoint packed by bzip2": ("released", lambda: _packed_zip("a/data.pkl", 64 << 20, zipfile.ZIP_BZIP2), True),
    "an npz of zeros": ("npz", lambda: _packed_zip("pca_means.npy", 600 << 20), True),
    "an npz of rows of zeros": ("npz rows", lambda: _packed_zip("features.npy", 600 << 20), True),
    "an npz with a header of 256 MB": ("npz rows", lambda: _zipped(
        "features.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 28) + b" " * (1 << 28)), True),
    "an npz packed by lzma": ("npz", lambda: _packed_zip("a.npy", 64 << 20, zipfile.ZIP_LZMA), True),
    "an npy of 2^60 numbers": ("npy", lambda: _npy(
        {"descr": "<f4", "fortran_order": False, "shape": (1 << 60,)}), True),
    "an npy with text of 2 GB an item": ("npy", lambda: _npy(
        {"descr": "<U500000000", "fortran_order": False, "shape": (1,)}), True),
    "an npy of tuples as a key": ("npy", lambda: _npy(
        {"descr": "|O", "fortran_order": False, "shape": ()}, _tuples(b"}h\0Ns")), True),
    "numbers in another file": ("class file", lambda: _hdf5(_external), True),
    "a virtual dataset": ("class file", lambda: _hdf5(_virtual), True),
    "a virtual dataset in a pipe": ("class file", lambda: _hdf5(_pipe_source), True),
    "an external link": ("class file", lambda: _hdf5(
        _link(lambda folder: h5py.ExternalLink(str(folder / "other.h5"), "/data"))), True),
    "a soft link": ("class file", lambda: _hdf5(_link(lambda folder: h5py.SoftLink("/real"))), True),
    "a soft link to itself": ("any hdf5", lambda: _hdf5(_link(lambda folder: h5py.SoftLink("/data"))), True),
    "40 GiB declared": ("class file", lambda: _hdf5(_sized(10 << 20, 1024, chunks=(1, 1024))), True),
    "40 GiB of names declared": ("class file", lambda: _hdf5(
        _sized(1 << 29, name="video_urls", kind="S80", chunks=(1024,))), True),
    "one name of 2 GB": ("class file", lambda: _hdf5(
        _sized(1, name="video_urls", kind="S2000000000", chunks=(1,))), True),
    "a chunk of 2 GB": ("any hdf5", lambda: _hdf5(
        _sized(1, 1, chunks=(1, 500_000_000), maxshape=(None, None), compression="gzip")), True),
    "a chunk that unpacks to 256 MB": ("class file", lambda: _hdf5(_packed_chunk), True),
    "one text for 40,000 names": ("class file", lambda: _hdf5(_one_text_often), True),
    "groups in themselves": ("any hdf5", lambda: _hdf5(_circle), True),
    "20,000 groups": ("any hdf5", lambda: _hdf5(_many), True),
    "a filter of another kind": ("any hdf5", lambda: _hdf5(_sized(4, 4, kind="i4", scaleoffset=2)), True),
    "texts of any kind in each cell": ("any hdf5", lambda: _hdf5(_sized(4, kind=h5py.vlen_dtype("f4"))), True),
    "attributes of 64 kB": ("class file", lambda: _hdf5(_attributes), False),
    "a word model of 600 kB that unpacks to 600 MB": ("word model", lambda: (
        gzip.compress(b"99999999 2\n" + b"a 1 2\n" * (100 << 20))), True),
    "a packed word model of empty lines": ("word model", lambda: gzip.compress(
        b"the 1 2 3\n" + b"\n" * (100 << 20)), True),
    "a glove line that never ends": ("word model", lambda: b"the 1 2 3\n" + b"a 1 2 3" * (1 << 20), True),
    "vectors of 2^40 numbers": ("word model", lambda: b"5 1099511627776\n" + b"a " + bytes(1 << 20), True),
    "a caption file of 18 MB without an end": ("caption.json", lambda: _json(9 << 20), True),
    "captions 100,000 deep": ("caption.json", lambda: b'{"a": ' + b"[" * 100_000, True),
    "a field of 1 MB": ("video list", lambda: b'path\n"' + b"a" * (1 << 20) + b'"\n', True),
}  # fmt: skip


def check(name: str) -> tuple[str, float, str]:
    """Read one of `HOSTILE` in another process: verdict (as `fuzz_formats.attempt` says), seconds and message."""
    reader, make, _ = HOSTILE[name]
    data = make()
    watched = Watched(lambda *_: data)
    try:
        watched.run("video list", 0)  # to start the process is not reading
        begin = time.monotonic()
        verdict, message = watched.run(reader, 0)
        return verdict, time.monotonic() - begin, message
    finally:
        watched.close()


def table() -> int:
    """Print what becomes of each hostile file; 1 if any is over the limits or wrongly read."""
    wrong = 0
    for name, (reader, _, must_be_refused) in HOSTILE.items():
        verdict, seconds, message = check(name)
        is_wrong = verdict != ("refused" if must_be_refused else "read")
        wrong += is_wrong
        shown = message.partition("not read: ")[2] or message
        print(f"{'WRONG ' * is_wrong}{name} | {reader} | {verdict} | {seconds:.2f} s | {shown[:90]}")
    print(f"{len(HOSTILE)} files, {wrong} wrong")
    return int(wrong > 0)
