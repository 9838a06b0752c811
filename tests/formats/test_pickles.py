"""Pickled tensors are read as numbers without torch, whatever hides in the bytes of their storages is refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from avpipe.errors import AvpipeError
from avpipe.formats import pickles
from avpipe.formats.pickle_writing import MAGIC_NUMBER, write_pickle
from avpipe.formats.pickles import read_pickle

BASE = torch.arange(24.0).reshape(4, 6)
KINDS = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
TENSORS = {
    **{str(kind): torch.tensor([0, 1, 2]).to(kind) for kind in KINDS},
    "bool": torch.tensor([True, False]),
    "transposed": BASE.t(),
    "strided view with an offset": BASE[1:3, ::2],
    "expanded": BASE[:1, :1].expand(5, 3),
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 5),
    "needs a gradient": torch.ones(2, requires_grad=True),
}
FORMS = {
    **{f"pickle {protocol}": lambda value, path, p=protocol: dump(value, path, p) for protocol in range(2, 6)},
    "zip": lambda value, path: torch.save(value, path),
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
}


def dump(value, path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


def load(tmp_path: Path, data: bytes, **options):
    (tmp_path / "foreign.pkl").write_bytes(data)
    return read_pickle(tmp_path / "foreign.pkl", **options)


@pytest.mark.parametrize("form", FORMS)
def test_tensors_come_back_as_equal_arrays(tmp_path, form):
    value = {**TENSORS, "url": np.array(["ab", "ç"]), "rows": [(BASE, 3, "x.avi"), {"again": BASE}]}
    FORMS[form](value, tmp_path / "x")
    got = read_pickle(tmp_path / "x")
    for name, tensor in TENSORS.items():
        expected = tensor.detach().numpy()
        assert type(got[name]) is np.ndarray
        assert (got[name].dtype, got[name].shape) == (expected.dtype, expected.shape), name
        assert got[name].tolist() == expected.tolist(), name
    assert got["url"].tolist() == ["ab", "ç"]
    (array, *rest), again = got["rows"]
    assert rest == [3, "x.avi"] and array.tolist() == BASE.tolist() and again["again"] is array


def storage_bytes(tensor: torch.Tensor, *, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(tensor._typed_storage(), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


class Reduces:
    """Pickles to any call, and a state if one is given."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def tensor_of(blob: object, offset=0, size=(2,), stride=(1,)) -> Reduces:
    storage = Reduces(torch.storage._load_from_bytes, (blob,))
    return Reduces(torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict()))


PAIR = torch.tensor([1.5, 2.5])


@pytest.mark.parametrize("zipped", [False, True])
def test_storages_of_either_format_inside_a_pickle(tmp_path, zipped):
    data = pickle.dumps(tensor_of(storage_bytes(PAIR, zipped=zipped)))
    assert load(tmp_path, data).tolist() == [1.5, 2.5]


def test_reading_needs_no_torch(tmp_path):
    dump({"a": BASE}, tmp_path / "x", 4)
    script = (
        "import sys; from avpipe.formats.pickles import read_pickle; read_pickle(sys.argv[1]); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x")], check=True)


@pytest.mark.parametrize("where", ["pickle", "zip", "legacy", "storage, legacy", "storage, zip", "storage in zip"])
def test_a_hidden_call_is_refused_by_name_and_not_made(tmp_path, where):
    marker = tmp_path / "called"
    call = Reduces(os.system, (f"touch {marker}",))
    blobs = {}
    for name, new in (("legacy", False), ("zip", True)):
        stream = io.BytesIO()
        torch.save([PAIR.numpy().tolist(), call], stream, _use_new_zipfile_serialization=new)
        blobs[name] = stream.getvalue()
        blobs[f"storage, {name}"] = pickle.dumps([tensor_of(blobs[name])])
    stream = io.BytesIO()
    torch.save([tensor_of(blobs["legacy"])], stream)
    data = {**blobs, "pickle": pickle.dumps(call), "storage in zip": stream.getvalue()}[where]
    with pytest.raises(AvpipeError, match=r"names the global (posix|nt)\.system, which is refused"):
        load(tmp_path, data)
    assert not marker.exists()


def legacy(main: bytes, keys: object = ("0",), tail: bytes = struct.pack("<q2f", 2, 1.5, 2.5), system=None) -> bytes:
    system = {"little_endian": True} if system is None else system
    plain = [pickle.dumps(part, 2) for part in (MAGIC_NUMBER, 1001, system)]
    return b"".join([*plain, main, pickle.dumps(list(keys), 2), tail])


def persistent(kind="FloatStorage", key="0", location="cpu", length=2, view: bytes = b"N") -> bytes:
    text = f"(Vstorage\nctorch\n{kind}\nV{key}\nV{location}\nL{length}L\n".encode()
    return b"\x80\x02" + text + view + b"tQ."


HUGE = 1 << 40
GOOD = storage_bytes(PAIR, zipped=False)
HOSTILE = {
    "sizes beyond the storage": (pickle.dumps(tensor_of(GOOD, 0, (HUGE,), (1,))), "ends at 1099511627775 in a storage"),
    "sizes over one number": (pickle.dumps(tensor_of(GOOD, 0, (HUGE,), (0,))), "exceed the 67,"),
    "no numbers but a huge side": (pickle.dumps(tensor_of(GOOD, 0, (0, 1 << 62), (1, 1))), "too big|too large"),
    "offset beyond the storage": (pickle.dumps(tensor_of(GOOD, 1)), "ends at 2 in a storage of 2"),
    "negative offset": (pickle.dumps(tensor_of(GOOD, -1)), "offset -1"),
    "negative stride": (pickle.dumps(tensor_of(GOOD, 1, (2,), (-1,))), r"strides \(-1,\)"),
    "negative size": (pickle.dumps(tensor_of(GOOD, 0, (-2,), (1,))), r"sizes \(-2,\)"),
    "sizes that are no integers": (pickle.dumps(tensor_of(GOOD, 0, (2.0,), (1,))), r"sizes \(2\.0,\)"),
    "one stride too few": (pickle.dumps(tensor_of(GOOD, 0, (1, 2), (1,))), "strides"),
    "a tensor without a storage": (
        pickle.dumps(Reduces(torch._utils._rebuild_tensor_v2, (GOOD, 0, (2,), (1,), False, OrderedDict()))),
        "not made of a storage",
    ),
    "bytes of no format": (pickle.dumps(tensor_of(pickle.dumps(7, 2))), "not in a format of torch.save"),
    "a storage that is a number": (pickle.dumps(tensor_of(legacy(pickle.dumps(7, 2), ()))), "a int where the numbers"),
    "storages inside storages": (
        pickle.dumps(tensor_of(legacy(pickle.dumps(Reduces(torch.storage._load_from_bytes, (b"",)), 2), ()))),
        "_load_from_bytes, which is refused",
    ),
    "a bare storage": (pickle.dumps(Reduces(torch.storage._load_from_bytes, (GOOD,))), "as a value"),
    "a storage class": (b"ctorch\nFloatStorage\n.", "as a value"),
    "a storage class that is called": (b"ctorch\nFloatStorage\n(I1000000000000\ntR.", "callable"),
    "state of a tensor": (
        pickle.dumps(Reduces(*tensor_of(GOOD).parts, {"_sizes": (HUGE,)})),
        "state of an array a second time",
    ),
    "state of a storage": (
        pickle.dumps(Reduces(torch.storage._load_from_bytes, (GOOD,), (None, {"length": HUGE}))),
        "state of a function or type",
    ),
    "a persistent id in a plain pickle": (persistent(), "opcode BINPERSID"),
    "a GPU": (pickle.dumps(tensor_of(legacy(persistent(location="cuda:0")))), "on the device 'cuda:0'"),
    "a view of another storage": (pickle.dumps(tensor_of(legacy(persistent(view=b"(VoI0\nI2\nt")))), "is a view"),
    "negative length": (pickle.dumps(tensor_of(legacy(persistent(length=-2)))), "length -2"),
    "huge length": (pickle.dumps(tensor_of(legacy(persistent(length=HUGE)))), "a storage of 1099511627776 numbers"),
    "two lengths": (pickle.dumps(tensor_of(legacy(persistent(length=1)))), "a storage of 1 numbers"),
    "truncated numbers": (pickle.dumps(tensor_of(GOOD[:-1])), "of which 7 bytes are there"),
    "no numbers at all": (pickle.dumps(tensor_of(GOOD[:-16])), "of which 0 bytes are there"),
    "truncated pickle": (pickle.dumps(tensor_of(GOOD))[:-30], "exhausted"),
    "keys of other storages": (pickle.dumps(tensor_of(legacy(persistent(), "1"))), "list of storages"),
    "big-endian": (pickle.dumps(tensor_of(legacy(persistent(), system={"little_endian": False}))), "big-endian"),
    "a GPU in a torch.save file": (legacy(persistent(location="cuda:0")), "on the device 'cuda:0'"),
    "bfloat16": (pickle.dumps(torch.ones(2, dtype=torch.bfloat16)), r"torch\.BFloat16Storage, which is refused"),
    "parameter": (pickle.dumps(torch.nn.Parameter(torch.ones(2))), "_rebuild_parameter, which is refused"),
    "sparse": (pickle.dumps(torch.eye(2).to_sparse()), "_rebuild_sparse_tensor, which is refused"),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_and_damaged_tensors_are_refused_for_the_right_reason(tmp_path, data, reason):
    with pytest.raises(AvpipeError, match=rf"foreign\.pkl was not read: .*({reason})"):
        load(tmp_path, data)


def archive(compression=zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, data in members.items():
            file.writestr(f"a/{name}", data)
    return stream.getvalue()


STORAGE_IN_ZIP = persistent()
TENSOR_IN_ZIP = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    + persistent()[2:-1]
    + b"I0\n(I2\nt(I1\ntI00\nccollections\nOrderedDict\n)RtR."
)
TWO = struct.pack("<2f", 1.5, 2.5)
DIRECTORY_ENTRY = b"PK\1\2\x14\3\x14\0\0\0"  # the start of each; its last two bytes are flags


def damaged_archives(main: bytes) -> dict[str, tuple[bytes, str]]:
    good = archive(**{"data.pkl": main, "data/0": TWO})
    return {
        "bomb": (archive(zipfile.ZIP_DEFLATED, **{"data.pkl": main, "data/0": bytes(10_000_000)}), "compressed"),
        "no data.pkl": (archive(**{"other": b""}), "data.pkl"),
        "no storage": (archive(**{"data.pkl": main}), "data/0"),
        "too short a storage": (archive(**{"data.pkl": main, "data/0": TWO[:4]}), "storage has no data"),
        "too long a storage": (archive(**{"data.pkl": main, "data/0": TWO * 2}), "storage has no data"),
        "big-endian": (archive(**{"data.pkl": main, "data/0": TWO, "byteorder": b"big"}), "big-endian"),
        "damaged number": (good.replace(TWO, TWO[::-1]), "the checksum of a/data/0 is wrong"),
        "truncated": (good[:-30], "zip file"),
        "encrypted": (good.replace(DIRECTORY_ENTRY, DIRECTORY_ENTRY[:8] + b"\1" + DIRECTORY_ENTRY[9:]), "encrypted"),
    }


ZIPS = {
    **damaged_archives(TENSOR_IN_ZIP),
    **{
        f"nested, {name}": (pickle.dumps(tensor_of(data)), reason)
        for name, (data, reason) in damaged_archives(STORAGE_IN_ZIP).items()
    },
}


@pytest.mark.parametrize(("data", "reason"), ZIPS.values(), ids=ZIPS)
def test_hostile_and_damaged_archives_are_refused(tmp_path, data, reason):
    with pytest.raises(AvpipeError, match=rf"foreign\.pkl was not read: .*{reason}"):
        load(tmp_path, data)


def test_the_archives_above_are_refused_for_their_fault_alone(tmp_path):
    whole, storage = (archive(**{"data.pkl": main, "data/0": TWO}) for main in (TENSOR_IN_ZIP, STORAGE_IN_ZIP))
    assert load(tmp_path, whole).tolist() == load(tmp_path, pickle.dumps(tensor_of(storage))).tolist() == [1.5, 2.5]


def test_members_of_an_archive_may_not_share_their_bytes(tmp_path):
    data = bytearray(archive(**{"data.pkl": TENSOR_IN_ZIP, "data/0": TWO}))
    size = data.rindex(b"a/data/0") - 46 + 20  # the member's compressed and real size in the directory
    data[size : size + 8] = struct.pack("<II", len(data), len(data))
    with pytest.raises(AvpipeError, match="overlapping"):
        load(tmp_path, bytes(data))


def test_views_of_one_storage_cannot_multiply_it_beyond_the_bound(tmp_path):
    base = torch.zeros(100, 100)
    torch.save([base[:] for _ in range(100)], tmp_path / "x")  # 4 MB of the 40 kB that are stored
    assert (tmp_path / "x").stat().st_size < 100_000
    with pytest.raises(AvpipeError, match=r"exceed the 1,000,000 bytes .*raise max_bytes"):
        read_pickle(tmp_path / "x", max_bytes=1_000_000)
    assert len(read_pickle(tmp_path / "x", max_bytes=4_100_000)) == 100


def test_one_storage_that_is_loaded_again_and_again_is_parsed_once(tmp_path, monkeypatch):
    read, parsed = pickles._read_legacy, []
    monkeypatch.setattr(pickles, "_read_legacy", lambda *args: parsed.append(1) or read(*args))
    data = pickle.dumps([tensor_of(GOOD) for _ in range(50)])
    assert len(load(tmp_path, data)) == 50 and len(parsed) == 1


def test_bounds_and_absent_files(tmp_path):
    with pytest.raises(AvpipeError, match="more than the 10 accepted"):
        load(tmp_path, pickle.dumps("x" * 100), max_bytes=10)
    with pytest.raises(AvpipeError, match="does not exist"):
        read_pickle(tmp_path / "none")


def test_booleans_are_booleans_whatever_their_bytes(tmp_path):
    blob = legacy(persistent("BoolStorage"), tail=struct.pack("<q2B", 2, 7, 0))
    got = load(tmp_path, pickle.dumps(tensor_of(blob)))
    assert got.view(np.uint8).tolist() == [1, 0]


ARRAYS = {
    **{kind: np.arange(6, dtype=kind).reshape(2, 3) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1")},
    "bool": np.array([True, False]),
    "not contiguous": np.arange(6.0).reshape(2, 3).T,
    "big-endian": np.arange(3, dtype=">f4"),
    "empty": np.empty((0, 3), np.float32),
    "scalar": np.array(2.5),
}
TEXTS = {"names": np.array(["ab", "日本"]), "none": np.empty(0, "U1")}


def test_what_is_written_is_read_by_pickle_as_tensors_and_by_us_as_arrays(tmp_path):
    plain = {"list": ["ä", 1, -(2**70)], "tuple": (True, None)}
    write_pickle(tmp_path / "x", {**ARRAYS, **TEXTS, **plain})
    theirs, ours = pickle.loads((tmp_path / "x").read_bytes()), read_pickle(tmp_path / "x")
    for name, array in ARRAYS.items():
        assert theirs[name].dtype == torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).dtype
        assert theirs[name].is_contiguous() and theirs[name].numpy().tolist() == array.tolist()
        assert ours[name].tolist() == array.tolist() and ours[name].shape == array.shape
    for name, array in TEXTS.items():
        for got in (theirs[name], ours[name]):
            assert type(got) is np.ndarray and got.dtype == array.dtype and got.tolist() == array.tolist()
    assert {name: theirs[name] for name in plain} == {name: ours[name] for name in plain} == plain
    write_pickle(tmp_path / "again", {**ARRAYS, **TEXTS, **plain})
    assert (tmp_path / "again").read_bytes() == (tmp_path / "x").read_bytes()


def test_a_written_tensor_can_be_changed_and_saved_by_torch(tmp_path):
    write_pickle(tmp_path / "x", np.arange(4, dtype=np.float32))
    tensor = pickle.loads((tmp_path / "x").read_bytes())
    tensor += 1
    assert torch.cat([tensor, tensor]).sum() == 20 and tensor[[1, 2]].tolist() == [2, 3]


@pytest.mark.parametrize(
    "value", [object(), 1.5, np.array([object()]), np.array([1j])], ids=["object", "number", "objects", "complex"]
)
def test_values_that_have_no_form_are_refused_before_a_file_appears(tmp_path, value):
    with pytest.raises(AvpipeError, match="cannot be written"):
        write_pickle(tmp_path / "x", [value])
    assert not list(tmp_path.iterdir())
