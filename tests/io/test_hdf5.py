"""HDF5 of others: what is read of it; what is refused is in tests/formats/test_hostile_files.py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from avpipe.io.hdf5 import open_hdf5, read_texts

NAMES = ["a", "", "日本" * 50, "b" * 5000]
FORMS = {
    "plain": {},
    "chunks": {"chunks": (3,)},
    "gzip": {"chunks": (3,), "compression": "gzip", "shuffle": True},
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("userblock", [0, 512])
def test_texts_are_those_that_h5py_reads(tmp_path: Path, options: dict, libver: str, userblock: int) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=userblock) as file:
        file.create_dataset("names", data=np.array(NAMES, object), dtype=h5py.string_dtype(), **options)
        file.create_dataset("none", (0,), h5py.string_dtype())
        file.create_dataset("unwritten", (3,), h5py.string_dtype())
        file["fixed"] = np.array([b"ab", b"c"], "S80")
    with open_hdf5(tmp_path / "x.h5") as file:
        assert read_texts(file["names"]) == list(file["names"].asstr()[:]) == NAMES
        assert read_texts(file["none"]) == [] and read_texts(file["unwritten"]) == ["", "", ""]
        assert read_texts(file["fixed"]) == ["ab", "c"]


@pytest.mark.parametrize("value", [np.zeros(3), np.array([[b"a"]], "S2"), np.array(b"a")])
def test_what_is_no_row_of_text_is_refused(tmp_path: Path, value: np.ndarray) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["names"] = value
    with open_hdf5(tmp_path / "x.h5") as file, pytest.raises(ValueError, match="expected a row of text"):
        read_texts(file["names"])


def test_damage_to_a_text_or_its_heap_is_no_hang(tmp_path: Path) -> None:
    """An object of no size in a heap keeps the library searching."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("names", data=np.array(["abc", "de"], object), dtype=h5py.string_dtype())
    whole = (tmp_path / "x.h5").read_bytes()
    heap = whole.index(b"GCOL")
    for at in range(heap, heap + 64):
        (tmp_path / "x.h5").write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with open_hdf5(tmp_path / "x.h5") as file:
            try:
                assert len(read_texts(file["names"])) == 2
            except (ValueError, KeyError):
                continue


def test_a_file_is_closed_when_it_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["link"] = h5py.SoftLink("/x")
    with pytest.raises(ValueError, match="a soft link"):
        open_hdf5(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a"):
        pass  # it would be locked


def test_all_that_avpipe_writes_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        group = file.create_group("stream")
        group.create_dataset("values", data=np.random.default_rng(0).random((50, 8)), chunks=(8, 8), fletcher32=True)
        group.attrs["text"], file.attrs["numbers"] = "ä", np.arange(3)
    with open_hdf5(tmp_path / "x.h5") as file:
        assert file["stream/values"].shape == (50, 8)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("is_virtual", [True, False])
def test_other_files_are_not_opened_however_far_back_the_header_says_so(
    tmp_path: Path, libver: str, userblock: int, is_virtual: bool
) -> None:
    """Attributes that are added later push messages into blocks of their own."""
    with h5py.File(tmp_path / "x.h5", "w", libver=libver, userblock_size=userblock) as file:
        if is_virtual:
            layout = h5py.VirtualLayout((3, 4), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "data", (3, 4))
            made = file.create_virtual_dataset("data", layout)
        else:
            made = file.create_dataset("data", (3, 4), "f4", external=[("other.bin", 0, 48)])
        for number in range(12):
            made.attrs[f"note{number}"] = "x" * 100
    with pytest.raises(ValueError, match="'/data' has its numbers in other files"):
        open_hdf5(tmp_path / "x.h5")
