"""Damaged and made-up files for every reader of `avpipe.formats`: each is refused in words or read, soon and small.

    python tests/tools/fuzz_formats.py --seconds 600 --seed 1 [--reader "npz rows"] [--count 1000] [--keep folder]
    python tests/tools/fuzz_formats.py --table

A case is drawn from seed, reader and number alone, so that `--seed 1 --reader pickle --only 4711` makes it again. Each
is read in another process that is watched: an exception other than AvpipeError and ClipFailure, more than thirty
seconds (or two of the processor for a file below a megabyte), more than half a gigabyte, or a crash is a finding; its
file is kept. The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import logging
import multiprocessing
import pickletools
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from format_readers import READERS, Reader

from avpipe.errors import AvpipeError, ClipFailure

SECONDS, MEMORY_BYTES = 30.0, 500 << 20
CPU_SECONDS = 2.0  # for a file of up to a megabyte, and for each megabyte of a larger one
_ADDRESS_SPACE = 4 << 30  # beyond what the libraries take: an allocation that would hurt the machine fails
_SIZES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, 1 << 30, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1]
_FORMATS = ["<B", "<H", "<I", "<Q", ">I", ">Q"]


def flip(draw: random.Random, data: bytearray) -> None:
    for _ in range(draw.choice([1, 1, 1, 2, 5, 20])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def inflate(draw: random.Random, data: bytearray) -> None:
    """Write a small or huge number over whatever is there."""
    form = draw.choice(_FORMATS)
    at = draw.randrange(len(data))
    packed = struct.pack(form, draw.choice(_SIZES) & ((1 << 8 * struct.calcsize(form)) - 1))
    data[at : at + len(packed)] = packed[: len(data) - at]


def splice(draw: random.Random, data: bytearray) -> None:
    """A piece of the file, once more or many times, elsewhere."""
    begin = draw.randrange(len(data))
    piece = bytes(data[begin : begin + draw.choice([1, 4, 16, 200])]) * draw.choice([1, 1, 2, 50])
    at = draw.randrange(len(data))
    data[at : at + (len(piece) if draw.random() < 0.5 else 0)] = piece


def cut(draw: random.Random, data: bytearray) -> None:
    begin = draw.randrange(len(data))
    del data[begin : begin + draw.choice([1, 8, len(data)])]


def mutated(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 3])):
        if changed:
            draw.choice([flip, flip, inflate, inflate, splice, cut])(draw, changed)
    return bytes(changed)


# Pickles: instructions taken out, doubled or exchanged, and programs drawn from a grammar.


def shuffled_pickle(draw: random.Random, data: bytes) -> bytes:
    with contextlib.suppress(Exception):
        starts = [at for _, _, at in pickletools.genops(data)] + [len(data)]
        parts = [data[a:b] for a, b in itertools.pairwise(starts)]
        for _ in range(draw.randint(1, 4)):
            i, j = draw.randrange(len(parts)), draw.randrange(len(parts))
            action = draw.randrange(4)
            if action == 0:
                del parts[i]
            elif action == 1:
                parts[j:j] = parts[i : i + draw.choice([1, 3, 10])] * draw.choice([1, 2, 100])
            elif action == 2:
                parts[i], parts[j] = parts[j], parts[i]
            else:
                parts[i:i] = [_instruction(draw)]
        return b"".join(parts)
    return mutated(draw, data)


_GLOBALS = [
    "numpy dtype", "numpy ndarray", "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.numeric _frombuffer", "_codecs encode", "builtins set", "builtins frozenset", "builtins bytes",
    "builtins bytearray", "builtins complex", "collections OrderedDict", "torch FloatStorage", "torch Size",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch.storage _load_from_bytes",
    "torch float32", "torch device", "os system", "builtins int",
]  # fmt: skip
_SIMPLE = [b"N", b"\x88", b"\x89", b"]", b"}", b")", b"(", b"\x8f", b"0", b"1", b"2", b"\x94", b"."]
_BUILDING = [b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"l", b"d", b"R", b"b", b"\x90", b"\x91", b"\x81"]


def _instruction(draw: random.Random) -> bytes:
    number = draw.choice([0, 1, 2, 3, 5, 200, 1 << 31, 1 << 62])
    text = draw.choice(
        ["storage", "cpu", "f4", "S8", "U3", "O8", "latin1", "<", "a" * draw.choice([1, 300]), "0"]
    ).encode()
    choices: list[Callable[[], bytes]] = [
        lambda: draw.choice(_SIMPLE),
        lambda: draw.choice(_BUILDING),
        lambda: draw.choice(_BUILDING),
        lambda: b"K" + bytes([number & 0xFF]),
        lambda: b"J" + struct.pack("<i", number & 0x7FFFFFFF),
        lambda: b"\x8a" + bytes([9]) + struct.pack("<q", number) + b"\0",
        lambda: b"\x8b" + struct.pack("<i", 5) + b"\1\1\1\1\1",
        lambda: b"G" + struct.pack(">d", draw.choice([0.0, 1.5, float("nan"), float("inf")])),
        lambda: b"L" + b"9" * draw.choice([1, 30, 5000]) + b"L\n",
        lambda: b"\x8c" + bytes([len(text) & 0xFF]) + text,
        lambda: b"X" + struct.pack("<I", draw.choice([len(text), number & 0xFFFFFFFF])) + text,
        lambda: b"C" + bytes([len(text) & 0xFF]) + text,
        lambda: draw.choice([b"\x8e", b"\x96", b"\x8d", b"\x95"]) + struct.pack("<Q", draw.choice([3, number])) + text,
        lambda: b"c" + draw.choice(_GLOBALS).replace(" ", "\n").encode() + b"\n",
        lambda: b"h" + bytes([draw.randrange(8)]),
        lambda: b"q" + bytes([draw.randrange(8)]),
        lambda: b"j" + struct.pack("<I", number & 0xFFFFFFFF),
    ]
    return draw.choice(choices)()


def drawn_pickle(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:  # any instructions
        body = b"".join(_instruction(draw) for _ in range(draw.choice([5, 20, 100])))
    elif kind == 1:  # containers of containers, shared again and again
        build = draw.choice(
            [b"\x86", b"\x87", b"(h\0h\0t", b"(h\0h\0l", b"](h\0h\0h\0e", b"}Nh\0s", b"h\0\x85\x8f(h\0\x90"]
        )
        body = b"]q\0" + (build.replace(b"h\0", b"h\0") if b"h" in build else b"h\0h\0h\0" + build) + b"q\0"
        body += (b"h\0h\0h\0" + build + b"q\0") * draw.choice([5, 40, 2000])
        body += draw.choice([b"", b"}h\0Ns", b"\x8f(h\0\x90", b"cbuiltins\nset\n(h\0lR", b"cnumpy\ndtype\n(h\0tR"])
    elif kind == 2:  # one call, any arguments
        arguments = b"".join(_instruction(draw) for _ in range(draw.randrange(6)))
        body = b"c" + draw.choice(_GLOBALS).replace(" ", "\n").encode() + b"\n(" + arguments + b"tR"
        body += draw.choice([b"", b"(" + arguments + b"tb", b"q\0]" + b"h\0a" * 500])
    else:  # numpy's two steps with a drawn state
        state = b"".join(draw.choice([b"K\1", b"(K\3K\4t", b"(K\2\x89t", _instruction(draw)]) for _ in range(3))
        body = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tC\1btR(" + state
        body += b"cnumpy\ndtype\n(\x8c\2f4tR\x89C\x30" + bytes(48) + b"tb"
    return draw.choice([b"\x80\x04", b"\x80\x02", b""]) + body + b"."


# Archives: members changed with right checksums, and the archive's own fields changed.


def changed_zip(draw: random.Random, data: bytes) -> bytes:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:
        return mutated(draw, data)
    name = draw.choice(sorted(members))
    change = draw.choice([mutated, lambda draw, data: data * draw.choice([0, 2, 3000]), shuffled_pickle])
    members[name] = change(draw, members[name])
    packing = draw.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as target:
        for each, content in members.items():
            target.writestr(each, content)
    return stream.getvalue() if draw.random() < 0.7 else mutated(draw, stream.getvalue())


# HDF5: files with drawn types, sizes, filters and links, some of them damaged afterwards.


_TEXT = h5py.string_dtype()


def drawn_hdf5(draw: random.Random) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.h5"
        with h5py.File(path, "w", libver=draw.choice(["earliest", "latest"])) as file:
            for name in draw.sample(["data", "video_urls", "more", "a/b", "a/c"], draw.randint(1, 4)):
                with contextlib.suppress(Exception):
                    _add_member(draw, file, name)
        data = path.read_bytes()
    return data if draw.random() < 0.4 else mutated(draw, data)


def _add_member(draw: random.Random, file: h5py.File, name: str) -> None:
    shape = draw.choice([(), (3,), (3, 4), (0, 4), (1 << 20, 4), (1 << 40, 4), (1 << 16, 1 << 16), (2, 3, 4)])
    kind = draw.choice(["f4", "f8", "i8", "S80", "S100000", _TEXT, h5py.vlen_dtype("f4"), h5py.ref_dtype,
                        [("x", "f4")], h5py.enum_dtype({"A": 1}), "?", "c8", "(1000,)f4"])  # fmt: skip
    action = draw.randrange(8)
    if action == 0:
        file[name] = draw.choice([h5py.SoftLink("/data"), h5py.ExternalLink("/etc/hostname", "/x"), h5py.SoftLink(".")])
    elif action == 1:
        layout = h5py.VirtualLayout((3, 4), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "data", (3, 4))
        file.create_virtual_dataset(name, layout)
    elif action == 2:
        file.create_dataset(name, (3, 4), "f4", external=[("/etc/passwd", 0, 48)])
    elif action == 3:
        file[name] = file["/"]
    elif action == 4:
        file.attrs[name] = draw.choice(["text", np.arange(4), ["a"] * 50, "x" * 5000])
    else:
        several = [{}, {"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True, "fletcher32": True}]
        options = draw.choice([*several, {"scaleoffset": 2}, {"chunks": True}, {"maxshape": (None,) * len(shape)}])
        made = file.create_dataset(name, shape, kind, **options)
        if 0 < made.size < 100 and kind in ("f4", "f8", "i8", "S80", _TEXT):
            made[...] = 1 if made.dtype.kind in "fi" else np.full(made.shape, draw.choice([b"abc", b"", b"\xff"]))


def make_case(seed: int, name: str, number: int, seeds: dict[str, list[bytes]]) -> bytes:
    """The bytes of a case."""
    reader, draw = READERS[name], random.Random(f"{seed}:{name}:{number}")
    data = draw.choice(seeds[name])
    if reader.kind == "pickle" or (reader.kind in ("npy", "zip") and draw.random() < 0.2):
        choice = draw.randrange(3)
        if choice == 1 and not data.startswith(b"PK"):
            data = shuffled_pickle(draw, data)
        elif choice == 2:
            data = drawn_pickle(draw)
            if reader.kind == "npy":
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
                data = header.getvalue() + data
        else:
            data = mutated(draw, data)
    elif reader.kind == "zip" or data.startswith(b"PK"):
        data = changed_zip(draw, data) if draw.random() < 0.6 else mutated(draw, data)
    elif reader.kind == "hdf5" and draw.random() < 0.4:
        data = drawn_hdf5(draw)
    else:
        data = mutated(draw, data)
    return data


def seed_files() -> dict[str, list[bytes]]:
    """Reader -> the bytes of its small valid files."""
    found = {}
    for name, reader in READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            reader.seeds(Path(folder))
            found[name] = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    return found


# The process that reads, and the one that watches it.


def _memory(field: str) -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))


def attempt(reader: Reader, path: Path) -> tuple[str, str]:
    """What reading a file gives, "read", "refused", "raw", "memory" or "slow", and the message."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, begin = _memory("VmRSS"), time.process_time()
    try:
        reader.read(path)
        verdict, message = "read", ""
    except (AvpipeError, ClipFailure) as error:
        verdict, message = "refused", str(error)
    except BaseException:
        verdict, message = "raw", traceback.format_exc()
    seconds, peak = time.process_time() - begin, _memory("VmHWM") - before
    if seconds > CPU_SECONDS * max(1, path.stat().st_size / 1e6):
        return "slow", f"{seconds:.1f} seconds; {verdict} {message}"
    return ("memory", f"{peak:,} bytes; {verdict} {message}") if peak > MEMORY_BYTES else (verdict, message)


def _serve(pipe: Connection, make: Callable[[str, int], bytes]) -> None:
    logging.disable(logging.CRITICAL)
    in_use = _memory("VmSize") + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (in_use, in_use))
    with tempfile.TemporaryDirectory() as folder:
        while True:
            name, number = pipe.recv()
            path = Path(folder) / f"case{READERS[name].suffix}"
            path.write_bytes(make(name, number))
            pipe.send(attempt(READERS[name], path))


class Watched:
    """Reads cases in another process, which is started again when it hangs or dies."""

    def __init__(self, make: Callable[[str, int], bytes]) -> None:
        self._make = make
        self._process: Any = None

    def run(self, name: str, number: int) -> tuple[str, str]:
        """The verdict on a case ("hang" and "crash" are possible as well), and the message."""
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._make), daemon=True)
            self._process.start()
            theirs.close()
        self._pipe.send((name, number))
        try:
            if self._pipe.poll(SECONDS):
                answer: tuple[str, str] = self._pipe.recv()
                return answer
            verdict, message = "hang", f"more than {SECONDS} seconds"
        except EOFError:
            self._process.join()
            verdict, message = "crash", f"exit code {self._process.exitcode}"
        self.close()
        return verdict, message

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def fuzz(
    seed: int, names: list[str], *, seconds: float = 1e9, count: int = 1 << 62, first: int = 0, keep: Path | None = None
) -> tuple[dict[str, Counter[str]], list[str]]:
    """Run cases of all readers in turn until time or count are over: verdicts by reader, and findings."""
    seeds, end = seed_files(), time.monotonic() + seconds
    watched = Watched(lambda name, number: make_case(seed, name, number, seeds))
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    findings, number = [], first
    while number < first + count and time.monotonic() < end:
        for name in names:
            verdict, message = watched.run(name, number)
            counts[name][verdict] += 1
            if verdict not in ("read", "refused"):
                findings.append(f"--seed {seed} --reader {name!r} --only {number}: {verdict}\n{message}")
                print(findings[-1], flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{seed}-{number}").write_bytes(make_case(seed, name, number, seeds))
        number += 1
    watched.close()
    return counts, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS, action="append", help="may be given several times; all by default")
    parser.add_argument("--count", type=int, default=1 << 62, help="cases of each reader")
    parser.add_argument("--only", type=int, help="this case alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzz_findings"), help="folder for the files of findings")
    parser.add_argument("--table", action="store_true", help="the table of hostile files instead")
    options = parser.parse_args()
    if options.table:
        from hostile_files import table

        return table()
    names = options.reader or list(READERS)
    only = {} if options.only is None else {"first": options.only, "count": 1}
    limits = {"seconds": options.seconds, "count": options.count, **only}
    counts, findings = fuzz(options.seed, names, keep=options.keep, **limits)
    for name, found in counts.items():
        print(f"{name:16}" + "".join(f"{verdict} {n:7,}  " for verdict, n in sorted(found.items())))
    total = sum(sum(found.values()) for found in counts.values())
    print(f"seed {options.seed}: {total:,} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
