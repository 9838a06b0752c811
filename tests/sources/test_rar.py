"""RAR archives: made by an independent program, and byte by byte where no honest program writes them."""

import errno
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stored_rar import Member, rar4, rar5

from avpipe.errors import AvpipeError
from avpipe.sources import rar
from avpipe.sources.archives import Limits, unpack
from avpipe.sources.file_sets import FileSet, fetch_set

rars = pytest.importorskip("rars")
pytest.importorskip("unrar.cffi")

FILES = {"UCF-101/Walk/a.avi": b"a" * 5000, "UCF-101/Walk/b.avi": b"b" * 70_000, "UCF-101/Run, fast/ü.avi": b"c" * 10}
LIMITS = Limits(unpacked_bytes=1_000_000)
FORMATS = ["rar15", "rar20", "rar29", "rar40", "rar50", "rar70"]


def make_rar(path: Path, files=None, kind="rar50", **settings) -> Path:
    archive = rars.RarBuilder(format=kind, **settings)
    for name, data in (FILES if files is None else files).items():
        archive.add_bytes(data, name)
    archive.write(str(path))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder: Path, archive: bytes | Path, match: str, limits: Limits = LIMITS) -> None:
    """Refused with nothing written, here or above."""
    if isinstance(archive, bytes):
        path = folder / "a.rar"
        path.write_bytes(archive)
        archive = path
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(AvpipeError, match=match):
        unpack([archive], folder / "out", limits)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize("solid", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_archive(tmp_path, kind, solid):
    archive = make_rar(tmp_path / "a.rar", kind=kind, solid=solid)
    unpacked = unpack([archive], tmp_path / "out", Limits(80_000, members=3))
    assert files_in(tmp_path / "out") == FILES
    assert (unpacked.members, unpacked.n_bytes, unpacked.damage) == (3, 75_010, "")
    unpack([archive], tmp_path / "out", LIMITS, strip_components=1)
    assert set(files_in(tmp_path / "out")) == {name.partition("/")[2] for name in FILES}


def test_an_archive_that_somebody_has_is_unpacked_without_the_network(tmp_path):
    make_rar(tmp_path / "UCF101.rar", kind="rar40", solid=True)
    files = FileSet(
        title="a set", folder=str(tmp_path), urls=["http://127.0.0.1:9/"], licence="none", citation="nobody",
        files={"UCF101.rar": ""}, unpack={"members": 3, "bytes": 80_000},
    )  # fmt: skip
    assert files.to_get() == [] and fetch_set(files) == [] and files.missing() == []
    assert files_in(tmp_path / "unpacked") == FILES and not (tmp_path / "UCF101.rar").exists()


def test_folders_are_no_files(tmp_path):
    archive = rars.RarBuilder(format="rar50")
    archive.add_directory("UCF-101")
    archive.add_bytes(b"x", "UCF-101/a.avi")
    archive.write(str(tmp_path / "a.rar"))
    assert unpack([tmp_path / "a.rar"], tmp_path / "out", Limits(100, members=1)).damage == ""
    assert files_in(tmp_path / "out") == {"UCF-101/a.avi": b"x"}


NAMES = [
    b"../evil", b"a/../../evil", b"/etc/evil", b"//evil", b"a//b", b"C:/evil", b"C:evil", b"a\\..\\evil", b"a/./b",
    b"..", b"new\nline", b"bell\x07", b"x" * 256, b"/".join([b"y" * 200] * 11), b"a/\x7f", b"\xfc.avi",
    b"\xed\xa0\x80.avi", b"", b"z" * 100 + b"/" + b"z" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [rar4, rar5])
def test_a_name_that_leads_out_or_is_none_refuses_the_whole(tmp_path, make, name):
    refused(tmp_path, make(Member(b"good"), Member(name), Member(b"also good")), "name")


@pytest.mark.parametrize("make", [rar4, rar5])
def test_a_name_with_a_zero_byte_is_what_comes_before_it(tmp_path, make):
    """UnRAR cuts it there, so that it cannot be told; what is left of it is checked as every name is."""
    (tmp_path / "a.rar").write_bytes(make(Member(b"nul\0/../../evil")))
    unpack([tmp_path / "a.rar"], tmp_path / "out", LIMITS)
    assert set(files_in(tmp_path)) == {"a.rar", "out/nul"}
    refused(tmp_path / "out", make(Member(b"../evil\0name")), "name")
    refused(tmp_path / "out", make(Member(b"x\0a"), Member(b"x\0b")), "twice")


@pytest.mark.parametrize("mode", [0o120777, 0o010644, 0o020644, 0o060644, 0o140644, 0o040755])
@pytest.mark.parametrize("make", [rar4, rar5])
def test_a_member_that_is_no_file(tmp_path, make, mode):
    refused(tmp_path, make(Member(b"good"), Member(b"up", b"..", mode=mode), Member(b"up/evil")), "link or a device")


def test_a_link_by_its_record(tmp_path):
    archive = rars.RarBuilder(format="rar50")
    archive.add_bytes(b"x", "good")
    archive.add_unix_symlink("up", "..")
    archive.add_bytes(b"evil", "up/evil")
    archive.write(str(tmp_path / "a.rar"))
    refused(tmp_path, tmp_path / "a.rar", "link or a device")


@pytest.mark.parametrize(
    "names", [("a.avi", "A.avi"), ("é.avi", "e\u0301.avi"), ("x/ß", "x/SS"), ("a", "a"), ("d", "d/e")]
)
@pytest.mark.parametrize("make", [rar4, rar5])
def test_two_names_for_one_place(tmp_path, make, names):
    refused(tmp_path, make(*(Member(name.encode()) for name in names)), r"twice|a file and a folder")


@pytest.mark.parametrize(("kind", "size"), [("rar40", 26_000_000), ("rar50", 100_000_000)])
def test_limits_on_bytes_and_members(tmp_path, kind, size):
    bomb = make_rar(tmp_path / "bomb.rar", {"a.avi": bytes(size)}, kind)
    assert bomb.stat().st_size < 50_000
    refused(tmp_path, bomb, "more than 25,000,000 bytes", Limits(25_000_000))
    many = make_rar(tmp_path / "many.rar", {f"{n}.avi": b"x" for n in range(200)}, kind)
    refused(tmp_path, many, "more than the 100 files", Limits(25_000_000, members=100))


@pytest.mark.parametrize("make", [rar4, rar5])
def test_sizes_that_are_not_those_declared(tmp_path, make):
    for size, damage in ((2, "UnRAR's error 12"), (10, "4 of 10 bytes")):
        (tmp_path / "a.rar").write_bytes(make(Member(b"good"), Member(b"bad", size=size)))
        assert damage in unpack([tmp_path / "a.rar"], tmp_path / "out", LIMITS).damage
        assert set(files_in(tmp_path / "out")) == {"good"}
        shutil.rmtree(tmp_path / "out")
    refused(tmp_path, make(Member(b"huge", size=2**31)), "more than 1,000,000 bytes")


@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("kind", ["rar40", "rar50"])
def test_an_encrypted_archive_is_named_as_such(tmp_path, kind, headers):
    archive = make_rar(tmp_path / "a.rar", kind=kind, password="secret", encrypt_headers=headers)
    refused(tmp_path, archive, "encrypted")


@pytest.mark.parametrize("kind", ["rar40", "rar50"])
def test_volumes_are_refused_in_words(tmp_path, kind):
    archive = rars.RarBuilder(format=kind, volume_size=3000)
    archive.add_bytes(random.Random(0).randbytes(7000), "a")
    volumes = [Path(each) for each in archive.write_volumes(str(tmp_path / "v.rar"))]
    assert len(volumes) > 2
    for volume in volumes:
        refused(tmp_path, volume, "volumes, which")
    with pytest.raises(AvpipeError, match=r"several volumes, .*by hand"):
        unpack(volumes, tmp_path / "out", LIMITS)
    for volume in volumes[1:]:
        volume.unlink()
    refused(tmp_path, volumes[0], "volumes, which")


@pytest.mark.parametrize("make", [rar4, rar5])
def test_an_archive_that_is_cut_between_members_is_told_by_its_count(tmp_path, make):
    members = [Member(name.encode(), data) for name, data in FILES.items()]
    whole = make(*members)
    ends = [whole.find(each.data) + len(each.data) for each in members]
    for number, end in enumerate(ends[:-1], 1):
        (tmp_path / "cut.rar").write_bytes(whole[:end])
        unpacked = unpack([tmp_path / "cut.rar"], tmp_path / "out", Limits(1_000_000, members=3))
        assert unpacked.members == number == len(files_in(tmp_path / "out")) and "expected 3" in unpacked.damage


@pytest.mark.parametrize("solid", [False, True])
@pytest.mark.parametrize("kind", ["rar40", "rar50"])
def test_a_cut_or_damaged_archive_keeps_what_came_before(tmp_path, kind, solid):
    noise = {f"{n}.avi": random.Random(n).randbytes(20_000) for n in range(10)}
    whole = make_rar(tmp_path / "a.rar", noise, kind, solid=solid).read_bytes()
    for position in (0.15, 0.3, 0.5, 0.7, 0.9):
        damaged = bytearray(whole)
        damaged[int(len(whole) * position)] ^= 255
        for data in (bytes(damaged), whole[: int(len(whole) * position)]):
            (tmp_path / "b.rar").write_bytes(data)
            unpacked = unpack([tmp_path / "b.rar"], tmp_path / "out", Limits(1_000_000, members=10))
            found = files_in(tmp_path / "out")
            assert unpacked.damage and 0 < unpacked.members == len(found) < 10
            assert found == {f"{n}.avi": noise[f"{n}.avi"] for n in range(len(found))}


@pytest.mark.parametrize("make", [rar4, rar5])
def test_every_flipped_byte_gives_an_error_or_the_beginning_of_the_right_files(tmp_path, make):
    members = [Member(b"one", b"1" * 40), Member(b"two", b"2" * 40)]
    whole = make(*members)
    right = {each.name.decode(): each.data for each in members}
    for position in range(8, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        (tmp_path / "a.rar").write_bytes(bytes(damaged))
        try:
            unpacked = unpack([tmp_path / "a.rar"], tmp_path / "out", Limits(1000, members=2))
        except AvpipeError as error:
            assert "a.rar was not" in str(error)
            continue
        found = files_in(tmp_path / "out")
        assert found.items() <= right.items() and (bool(unpacked.damage) == (found != right))
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    "content", [b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00" + bytes(100), b"Rar!\x1a\x07\x00<html>"]
)
def test_what_is_no_archive_behind_its_first_bytes(tmp_path, content):
    refused(tmp_path, content, "was not unpacked")


def test_a_fault_while_writing_is_not_swallowed(tmp_path, monkeypatch):
    """A file that may not grow: the library goes on decoding whatever its callback raises."""
    (tmp_path / "a.rar").write_bytes(rar5(Member(b"a", b"x" * 100_000), Member(b"b")))
    run = subprocess.run
    program = (
        "import resource, runpy, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        "runpy.run_module('avpipe.sources.rar', run_name='__main__')"
    )
    monkeypatch.setattr(rar.subprocess, "run", lambda _, **settings: run([sys.executable, "-c", program], **settings))
    with pytest.raises(OSError) as error:
        unpack([tmp_path / "a.rar"], tmp_path / "out", LIMITS)
    assert error.value.errno == errno.EFBIG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar"]


def test_a_time_limit_ends_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(rar, "_FREE_SECONDS", 0.01)
    monkeypatch.setattr(rar, "_BYTES_PER_SECOND", 1e12)
    refused(tmp_path, rar5(Member(b"a")), "takes more than 0 seconds")


def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(rar.sys, "executable", shutil.which("false"))
    refused(tmp_path, rar5(Member(b"a")), "ended with status 1")


def test_without_the_extra_the_message_names_it_and_the_zip(tmp_path, monkeypatch):
    monkeypatch.setattr(rar.importlib.util, "find_spec", lambda name: None)
    refused(tmp_path, rar5(Member(b"a")), r"pip install 'avpipe\[rar\]'.*ZIP.*--only ucf101_videos")


def test_two_thousand_members_of_a_solid_archive(tmp_path):
    archive = make_rar(tmp_path / "a.rar", {f"c{n % 101}/{n}.avi": b"%d" % n for n in range(2000)}, "rar40", solid=True)
    unpacked = unpack([archive], tmp_path / "out", Limits(20_000, members=2000))
    assert unpacked.damage == "" and files_in(tmp_path / "out")["c5/106.avi"] == b"106"


def test_names_are_picked_and_must_be_there(tmp_path):
    archive = make_rar(tmp_path / "a.rar", kind="rar50")
    everything = unpack([archive], tmp_path / "all", Limits(80_000))
    name = next(path.name for path in sorted((tmp_path / "all").rglob("*")) if path.is_file())
    picked = unpack([archive], tmp_path / "out", Limits(80_000), pick=[name])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name] and picked.members == 1 < everything.members
    with pytest.raises(AvpipeError, match=r"gone\.pkl is not in it, but 3 files"):
        unpack([archive], tmp_path / "none", Limits(80_000), pick=["gone.pkl"])
    assert not (tmp_path / "none").exists()
