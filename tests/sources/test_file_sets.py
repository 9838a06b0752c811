"""Sets of published files: fetched, checked and unpacked from a server on this machine."""

import hashlib
import io
import multiprocessing
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest
from faulty_server import faulty_server, needs_server
from pydantic import ValidationError

from avpipe.errors import AvpipeError
from avpipe.sources.file_sets import FileSet, fetch_set
from avpipe.sources.wanted import Patience

pytestmark = needs_server
PATIENCE = Patience(max_tries=2, sleep=lambda _: None)
VIDEOS = {"UCF-101/Archery/a.avi": b"a" * 5000, "UCF-101/Bowling/b.avi": b"b" * 6000}
LISTS = {"lists/all_class.txt": b"Archery\nBowling\n", "lists/deeper/train.csv": b"filename,label\n"}
MODELS = {"AVLnet_release.pth": b"one" * 999, "AVLnet_Text_Tri_release.pth": b"two" * 999, "resnext101.pth": b"three"}
PICKED = {"bytes": 20_000, "pick": ["AVLnet_release.pth", "AVLnet_Text_Tri_release.pth"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name, data in LISTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in VIDEOS.items():
            file.writestr(name, data)
    (folder / "videos.zip").write_bytes(buffer.getvalue())
    with tarfile.open(folder / "release.tar.gz", "w:gz") as file:
        for name, data in MODELS.items():
            member = tarfile.TarInfo(f"AVLnet_release/{name}")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    server = faulty_server(folder)
    with server as url:
        yield server, url, folder


def facts(data: bytes) -> str:
    return f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()}"


def file_set(url: str, folder: Path, files: dict[str, str], **settings) -> FileSet:
    settings = {"urls": [f"{url}/"], "title": "a set", "licence": "none", "citation": "nobody"} | settings
    return FileSet(folder=str(folder), files=files, **settings)


def test_what_is_missing_is_fetched_and_nothing_else(running, tmp_path):
    server, url, _ = running
    files = file_set(url, tmp_path / "set", {name: facts(data) for name, data in LISTS.items()})
    (tmp_path / "set" / "lists").mkdir(parents=True)
    (tmp_path / "set" / "lists" / "all_class.txt").write_bytes(LISTS["lists/all_class.txt"])
    assert files.missing() == files.to_get() == [tmp_path / "set" / "lists" / "deeper" / "train.csv"]
    assert files.n_bytes(files.missing()) == 15 and files.n_bytes([]) == 0
    server.reset()
    assert len(fetch_set(files, PATIENCE)) == 1 and server.log()["count"] == 1
    assert files.missing() == [] and fetch_set(files, PATIENCE) == [] and server.log()["count"] == 1


def test_a_file_of_another_length_is_missing(running, tmp_path):
    _, url, _ = running
    files = file_set(url, tmp_path, {"lists/all_class.txt": facts(LISTS["lists/all_class.txt"])})
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all_class.txt").write_bytes(b"half")
    assert len(files.missing()) == 1
    fetch_set(files, PATIENCE)
    assert (tmp_path / "lists" / "all_class.txt").read_bytes() == LISTS["lists/all_class.txt"]


def test_an_archive_is_fetched_unpacked_and_deleted(running, tmp_path):
    server, url, folder = running
    data = (folder / "videos.zip").read_bytes()
    files = file_set(url, tmp_path / "set", {"videos.zip": facts(data)}, unpack={"members": 2, "bytes": 20_000})
    fetch_set(files, PATIENCE)
    found = {
        str(path.relative_to(tmp_path / "set" / "unpacked")): path.read_bytes() for path in tmp_path.rglob("*.avi")
    }
    assert found == VIDEOS and not (tmp_path / "set" / "videos.zip").exists()
    server.reset()
    assert files.missing() == [] and fetch_set(files, PATIENCE) == [] and server.log()["count"] == 0


def test_an_archive_with_fewer_files_than_published_is_told_and_kept(running, tmp_path):
    _, url, folder = running
    data = (folder / "videos.zip").read_bytes()
    files = file_set(url, tmp_path / "set", {"videos.zip": facts(data)}, unpack={"members": 3, "bytes": 20_000})
    with pytest.raises(AvpipeError, match="2 files, expected 3"):
        fetch_set(files, PATIENCE)
    assert (tmp_path / "set" / "videos.zip").exists() and not files.unpacked_record().exists()


def test_what_comes_before_the_damage_of_a_published_archive_is_used(running, tmp_path, caplog):
    _, url, folder = running
    data = (folder / "release.tar.gz").read_bytes()
    broken = data[:-8] + bytes(8)  # the checksum at its end
    (folder / "broken.tar.gz").write_bytes(broken)
    files = file_set(url, tmp_path / "set", {"broken.tar.gz": facts(broken)}, unpack={"bytes": 20_000})
    fetch_set(files, PATIENCE)
    assert "damaged although it is what was published" in caplog.text and not files.missing()
    assert {path.name for path in (tmp_path / "set" / "unpacked").rglob("*.pth")} == MODELS.keys()
    unknown = file_set(url, tmp_path / "other", {"broken.tar.gz": ""}, unpack={"bytes": 20_000})
    with pytest.raises(AvpipeError, match=r"broken\.tar\.gz is damaged"):
        fetch_set(unknown, PATIENCE)


def left(folder: Path) -> dict[str, bytes]:
    """What a set's folder holds but for locks."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith((".lock", "unpacked.json"))}


def test_picked_files_lie_in_the_folder_and_the_archive_is_gone(running, tmp_path):
    server, url, _ = running
    files = file_set(url, tmp_path, {"release.tar.gz": ""}, urls=[f"{url}/release.tar.gz?pick=1"], unpack=PICKED)
    tri = tmp_path / "AVLnet_Text_Tri_release.pth"
    tri.write_bytes(b"mine")
    assert files.missing() == [tmp_path / "AVLnet_release.pth"]
    fetch_set(files, PATIENCE)
    assert left(tmp_path) == {"AVLnet_release.pth": MODELS["AVLnet_release.pth"], tri.name: b"mine"}
    server.reset()
    assert files.missing() == [] and fetch_set(files, PATIENCE) == [] and server.log()["count"] == 0
    tri.unlink()
    assert files.missing() == [tri] and fetch_set(files, PATIENCE, products=[]) == []
    fetch_set(files, PATIENCE, products=[tri])
    assert tri.read_bytes() == MODELS[tri.name] and not (tmp_path / "release.tar.gz").exists()


def test_an_archive_that_a_person_got_is_unpacked_and_stays(running, tmp_path):
    _, _, folder = running
    files = file_set("", tmp_path, {"release.tar.gz": ""}, urls=[], obtain="open the drive's page", unpack=PICKED)
    with pytest.raises(AvpipeError, match=r"open the drive's page, save it as \S*release.tar.gz, and run the same"):
        fetch_set(files, PATIENCE)
    assert not files.can_be_fetched() and left(tmp_path) == {}
    archive = (folder / "release.tar.gz").read_bytes()
    (tmp_path / "release.tar.gz").write_bytes(archive)
    assert files.can_be_fetched() and len(files.missing()) == 2 and files.n_bytes(files.missing()) == 0
    fetch_set(files, PATIENCE)
    picked = {name: MODELS[name] for name in PICKED["pick"]}
    assert left(tmp_path) == picked | {"release.tar.gz": archive} and files.missing() == []


def test_a_file_that_a_person_got_and_that_is_another_one_is_told(tmp_path):
    files = file_set("", tmp_path, {"a.zip": facts(b"right")}, urls=[], obtain="open x", unpack={"bytes": 9})
    (tmp_path / "a.zip").write_bytes(b"wrong")
    with pytest.raises(AvpipeError, match=r"what lies at \S*a.zip is not the 5 bytes that this version .* open x"):
        fetch_set(files, PATIENCE)


def test_an_archive_that_lacks_what_is_wanted_gives_nothing(running, tmp_path):
    _, url, _ = running
    rules = {"bytes": 20_000, "pick": ["AVLnet_release.pth", "gone.pth"]}
    files = file_set(url, tmp_path, {"release.tar.gz": ""}, unpack=rules)
    with pytest.raises(AvpipeError, match=r"gone\.pth is not in it"):
        fetch_set(files, PATIENCE)
    assert list(left(tmp_path)) == ["release.tar.gz"]


def test_a_page_of_a_drive_in_place_of_an_archive_leaves_nothing(running, tmp_path):
    _, url, _ = running
    address = f"{url}/release.tar.gz?html=Quota+exceeded"
    files = file_set(url, tmp_path, {"release.tar.gz": ""}, urls=[address], unpack=PICKED)
    with pytest.raises(AvpipeError, match=r"web page \(Quota exceeded\).*By hand: open .* save it as"):
        fetch_set(files, PATIENCE)
    assert list(left(tmp_path)) in ([], ["release.tar.gz.part.json"])


def test_two_processes_fetch_and_unpack_once(running, tmp_path):
    server, url, _ = running
    address = f"{url}/release.tar.gz?bps=20000"
    files = file_set(url, tmp_path, {"release.tar.gz": ""}, urls=[address], unpack=PICKED)
    server.reset()
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=fetch_set, args=(files,)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0] and server.log()["count"] == 1
    assert left(tmp_path) == {name: MODELS[name] for name in PICKED["pick"]}


MOUNTED = "mount -t tmpfs -o size=200k none {folder} && exec {command}"


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0,
    reason="no file system of one's own (unshare -rm)",
)
@pytest.mark.parametrize("name", ["videos.zip", "release.tar.gz"])
def test_a_disk_that_is_full_while_unpacking_keeps_the_archive_and_nothing_else(tmp_path, name):
    """A file system of 200 kB, real: the archive fits, what it holds does not."""
    big = os.urandom(90_000) + bytes(400_000)
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("big.bin", big)
    else:
        with tarfile.open(tmp_path / name, "w:gz") as packed:
            member = tarfile.TarInfo("big.bin")
            member.size = len(big)
            packed.addfile(member, io.BytesIO(big))
    program = f"""
        import pathlib, shutil, sys
        from avpipe.errors import AvpipeError
        from avpipe.sources.file_sets import FileSet, fetch_set
        folder = pathlib.Path(sys.argv[1])
        shutil.copyfile(folder.parent / {name!r}, folder / {name!r})
        files = FileSet(title="x", folder=str(folder), licence="x", citation="x", obtain="x",
                        files={{{name!r}: ""}}, unpack={{"bytes": 10**9}})
        try:
            fetch_set(files)
        except AvpipeError as error:
            print(error)
        print(sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock"))
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"{sys.executable} {tmp_path}/program.py {disk}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNTED.format(folder=disk, command=command)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, there = done.stdout.rsplit("\n", 2)[:2]
    assert "No space left" in said and "Make room" in said and there == f"['{name}']"


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../b", ""])
def test_a_set_names_no_file_outside_its_folder(tmp_path, path):
    with pytest.raises(ValidationError, match="name"):
        file_set("http://127.0.0.1", tmp_path, {path: ""})


@pytest.mark.parametrize(
    "wrong", ["many", "12 sha1:abc", "sha256:xyz", "-1", "12  sha256:" + "0" * 64, "~ sha256:" + "0" * 64]
)
def test_facts_that_are_none(tmp_path, wrong):
    with pytest.raises(ValidationError, match="hash"):
        file_set("http://127.0.0.1", tmp_path, {"a": wrong})


def test_a_full_disk_is_told_in_words(running, tmp_path, monkeypatch):
    _, url, folder = running
    data = (folder / "videos.zip").read_bytes()
    files = file_set(url, tmp_path / "set", {"videos.zip": facts(data)})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(AvpipeError, match=r"cannot be written: .*No space left.*Make room"):
        fetch_set(files, PATIENCE)
    assert not (tmp_path / "set" / "videos.zip").exists()


@pytest.mark.parametrize("facts", ["12", "~12", "12 md5:" + "0" * 32, "~12 sha256:12345678", "git:" + "0" * 40, ""])
def test_facts_as_far_as_they_are_known(tmp_path, facts):
    files = file_set("http://127.0.0.1", tmp_path, {"a": facts})
    (wanted,) = files.wanted().values()
    assert wanted.n_bytes == (12 if facts.startswith("12") else None)
    assert wanted.digest == (facts.split()[-1] if ":" in facts else None)
    assert files.n_bytes(files.missing()) == (12 if "12" in facts[:3] else 0)


@pytest.mark.parametrize(
    ("shared", "asked"),
    [
        ("https://www.dropbox.com/s/x/a.tar.gz?dl=0", "https://www.dropbox.com/s/x/a.tar.gz?dl=1"),
        ("https://www.dropbox.com/sh/x/y/a.tar.gz", "https://www.dropbox.com/sh/x/y/a.tar.gz?dl=1"),
        ("https://dropbox.com/a?rlkey=k&dl=0", "https://dropbox.com/a?rlkey=k&dl=1"),
        ("https://example.org/a?dl=0", "https://example.org/a?dl=0"),
        ("https://notdropbox.com/a?dl=0", "https://notdropbox.com/a?dl=0"),
    ],
)
def test_dropbox_is_asked_for_the_file_and_not_for_its_page(tmp_path, shared, asked):
    (wanted,) = file_set("", tmp_path, {"a": ""}, urls=[shared]).wanted().values()
    assert wanted.urls == (asked,)
