"""Archives: what is whole comes out, what is hostile is refused with nothing written, what is damaged is told."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.sources.archives import Limits, unpack

FILES = {"UCF-101/Walk/a.avi": b"a" * 5000, "UCF-101/Walk/b.avi": b"b" * 70_000, "UCF-101/Run, fast/ü.avi": b"c" * 10}
LIMITS = Limits(unpacked_bytes=1_000_000)


def make_zip(path: Path, files=None, compression=zipfile.ZIP_DEFLATED, change=None) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in (FILES if files is None else files).items():
            member = zipfile.ZipInfo(name)
            member.compress_type = compression
            if change is not None:
                change(member)
            file.writestr(member, data)
    return path


def make_tar(path: Path, files=None, mode="w:gz", change=None) -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in (FILES if files is None else files).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if change is not None:
                change(member)
            file.addfile(member, io.BytesIO(data if member.size else b""))
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nothing_left(folder: Path) -> bool:
    return not (folder / "out").exists() and not list(folder.glob(".out*"))


@pytest.mark.parametrize("mode", ["zip", "zip stored", "w:", "w:gz", "w:bz2", "w:xz"])
def test_a_whole_archive(tmp_path, mode):
    if mode.startswith("zip"):
        archive = make_zip(tmp_path / "a", compression=zipfile.ZIP_STORED if "stored" in mode else zipfile.ZIP_DEFLATED)
    else:
        archive = make_tar(tmp_path / "a", mode=mode)
    unpacked = unpack([archive], tmp_path / "out", Limits(80_000, members=3))
    assert files_in(tmp_path / "out") == FILES
    assert (unpacked.members, unpacked.n_bytes, unpacked.damage) == (3, 75_010, "")
    unpack([archive], tmp_path / "out", LIMITS, strip_components=1)
    assert set(files_in(tmp_path / "out")) == {name.partition("/")[2] for name in FILES}


def test_parts_are_read_as_one_stream(tmp_path):
    data = make_tar(tmp_path / "a").read_bytes()
    parts = []
    for number, start in enumerate(range(0, len(data), 100)):
        parts.append(tmp_path / f"a.{number:02d}")
        parts[-1].write_bytes(data[start : start + 100])
    assert len(parts) > 2 and unpack(parts, tmp_path / "out", LIMITS).damage == ""
    assert files_in(tmp_path / "out") == FILES


NAMES = [
    "../evil", "a/../../evil", "/etc/evil", "//evil", "a//b", "C:/evil", "C:evil", "a\\..\\evil", "a/./b", "..",
    "new\nline", "bell\x07", "x" * 256, "/".join(["y" * 200] * 11), "a/\x7f",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_name_that_leads_out_or_is_none_refuses_the_whole(tmp_path, make, name):
    archive = make(tmp_path / "a", FILES | {name: b"evil"})
    with pytest.raises(AvpipeError, match="name"):
        unpack([archive], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_zip_name_with_nul_or_not_utf8(tmp_path):
    data = make_zip(tmp_path / "a", FILES | {"nulXname": b"evil"}).read_bytes()
    (tmp_path / "b").write_bytes(data.replace(b"nulXname", b"nul\0name"))
    with pytest.raises(AvpipeError, match="name"):
        unpack([tmp_path / "b"], tmp_path / "out", LIMITS)
    archive = tmp_path / "c"
    with tarfile.open(archive, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as file:
        member = tarfile.TarInfo("\xfc.avi")
        member.size = 1
        file.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(AvpipeError, match="name"):
        unpack([archive], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.GNUTYPE_SPARSE],
)
def test_a_tar_member_that_is_no_file(tmp_path, kind):
    def change(member):
        if member.name.endswith("b.avi"):
            member.type, member.linkname = kind, "UCF-101/Walk/a.avi"
            member.size = 0

    with pytest.raises(AvpipeError, match=r"link|was not unpacked"):
        unpack([make_tar(tmp_path / "a", change=change)], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_zip_member_that_is_no_file(tmp_path, kind):
    def change(member):
        member.external_attr = (kind | 0o777) << 16

    with pytest.raises(AvpipeError, match="link"):
        unpack([make_zip(tmp_path / "a", change=change)], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("names", [("a.avi", "A.avi"), ("é.avi", "e\u0301.avi"), ("x/ß", "x/SS"), ("d", "d/e")])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_two_names_for_one_place(tmp_path, make, names):
    with pytest.raises(AvpipeError, match=r"twice|a file and a folder"):
        unpack([make(tmp_path / "a", dict.fromkeys(names, b"x"))], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as file:
        file.writestr("a.avi", b"one")
        file.writestr("a.avi", b"two")
    with pytest.raises(AvpipeError, match="twice"):
        unpack([tmp_path / "a"], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_limits_on_bytes_and_members(tmp_path, make):
    bomb = make(tmp_path / "bomb", {f"{n}.avi": bytes(10_000_000) for n in range(3)})
    assert bomb.stat().st_size < 200_000
    with pytest.raises(AvpipeError, match="more than 25,000,000 bytes"):
        unpack([bomb], tmp_path / "out", Limits(25_000_000))
    many = make(tmp_path / "many", {f"{n}.avi": b"x" for n in range(200)})
    with pytest.raises(AvpipeError, match="more than the 100 files"):
        unpack([many], tmp_path / "out", Limits(25_000_000, members=100))
    assert nothing_left(tmp_path)


def test_a_zip_that_declares_less_than_it_holds(tmp_path):
    archive = make_zip(tmp_path / "a", {"a.avi": bytes(100_000)})
    data = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    with pytest.raises(AvpipeError, match="was not unpacked"):
        unpack([archive], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


def test_an_encrypted_zip_is_named_as_such(tmp_path):
    archive = make_zip(tmp_path / "a")
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        data[at + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(AvpipeError, match="encrypted"):
        unpack([archive], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>no archive</html>", b"PK\x03\x04" + bytes(40), b"\x1f\x8b" + bytes(40)]
)
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(AvpipeError, match="was not"):
        unpack([tmp_path / "a"], tmp_path / "out", LIMITS)
    assert nothing_left(tmp_path)


def cut_at_every_member(path: Path) -> list[bytes]:
    with tarfile.open(path) as file:
        offsets = [member.offset for member in file][1:]
    data = gzip.decompress(path.read_bytes())
    return [data[:offset] for offset in offsets]


def test_an_archive_that_is_cut_between_members_is_told_by_its_count(tmp_path):
    for number, data in enumerate(cut_at_every_member(make_tar(tmp_path / "a")), 1):
        (tmp_path / "cut").write_bytes(data)
        unpacked = unpack([tmp_path / "cut"], tmp_path / "out", Limits(1_000_000, members=3))
        assert unpacked.members == number and "expected 3" in unpacked.damage


@pytest.mark.parametrize("position", [0.3, 0.5, 0.7, 0.9])
def test_a_damaged_archive_keeps_what_came_before(tmp_path, position):
    noise = {f"{n}.avi": bytes((i * i * n) % 251 for i in range(20_000)) for n in range(1, 11)}
    whole = make_tar(tmp_path / "a", noise).read_bytes()
    damaged = bytearray(whole)
    damaged[int(len(whole) * position)] ^= 255
    for name, data in (("flipped", bytes(damaged)), ("cut", whole[: int(len(whole) * position)])):
        (tmp_path / name).write_bytes(data)
        unpacked = unpack([tmp_path / name], tmp_path / "out", Limits(1_000_000, members=10))
        found = files_in(tmp_path / "out")
        assert unpacked.damage and 0 < unpacked.members == len(found)
        if name == "cut":  # a flipped bit may be noticed at the end alone, by the checksum of the whole
            assert len(found) < 10 and all(noise[each] == content for each, content in found.items())


def test_a_header_that_is_damaged_in_a_plain_tar_is_not_taken_for_the_end(tmp_path):
    archive = make_tar(tmp_path / "a", mode="w:")
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as file:
        offset = [member.offset for member in file][1]
    data[offset + 150] ^= 1  # in the header's checksum
    archive.write_bytes(data)
    unpacked = unpack([archive], tmp_path / "out", LIMITS)
    assert unpacked.members == 1 and "damaged after 1 files" in unpacked.damage


def test_a_damaged_zip_member_is_not_kept(tmp_path):
    archive = make_zip(tmp_path / "a", compression=zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.find(b"b" * 1000) + 500] ^= 1
    archive.write_bytes(data)
    unpacked = unpack([archive], tmp_path / "out", LIMITS)
    assert unpacked.damage and set(files_in(tmp_path / "out")) == {"UCF-101/Walk/a.avi"}


def test_twenty_thousand_members(tmp_path):
    archive = make_zip(tmp_path / "a", {f"c{n % 101}/{n}.avi": b"x" for n in range(20_000)}, zipfile.ZIP_STORED)
    assert unpack([archive], tmp_path / "out", Limits(20_000, members=20_000)).members == 20_000


RELEASE = {
    "./release/model/AVLnet.pth": b"m" * 300,
    "./release/model/._AVLnet.pth": b"x",
    "./release/UCF/class-split/all_class.txt": b"Archery\n",
    "./release/UCF/features/main/audio/Archery.h5": b"h" * 900,
    "./release/README": b"read me",
}


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("above", ["release/", "", "a/deeper/place/"])
def test_names_are_picked_wherever_they_lie(tmp_path, make, above):
    files = {name.replace("./release/", above): data for name, data in RELEASE.items()}
    if make is make_zip:
        files |= {f"__MACOSX/{name}": b"x" for name in files}
    unpacked = unpack([make(tmp_path / "a", files)], tmp_path / "out", LIMITS, pick=["AVLnet.pth", "UCF"])
    assert files_in(tmp_path / "out") == {
        "AVLnet.pth": b"m" * 300,
        "UCF/class-split/all_class.txt": b"Archery\n",
        "UCF/features/main/audio/Archery.h5": b"h" * 900,
    }
    assert (unpacked.members, unpacked.n_bytes, unpacked.damage) == (3, 1208, "")


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("more", "pick", "found"),
    [
        ({}, ["AVLnet.pth", "gone.pkl"], r"gone.pkl is not in it, but 5 files, such as release/model/\._avlnet.pth, "),
        ({"other/AVLnet.pth": b"x"}, ["AVLnet.pth"], "'AVLnet.pth' is in it twice, below /other and"),
        ({"other/UCF/a.txt": b"x"}, ["UCF"], "twice"),
        ({"../evil": b"x"}, ["AVLnet.pth"], "cannot be the name"),
    ],
)
def test_a_pick_that_is_not_there_or_twice_refuses_the_whole(tmp_path, make, more, pick, found):
    files = more | {name.removeprefix("./"): data for name, data in RELEASE.items()}
    with pytest.raises(AvpipeError, match=found):
        unpack([make(tmp_path / "a", files)], tmp_path / "out", LIMITS, pick=pick)
    assert nothing_left(tmp_path)


def test_what_is_picked_of_an_archive_that_breaks_off_is_told(tmp_path):
    data = make_tar(tmp_path / "a", RELEASE, mode="w:").read_bytes()
    (tmp_path / "a").write_bytes(data[:2000])
    unpacked = unpack([tmp_path / "a"], tmp_path / "out", LIMITS, pick=["AVLnet.pth", "README"])
    assert files_in(tmp_path / "out") == {"AVLnet.pth": b"m" * 300} and "after 1 files" in unpacked.damage
