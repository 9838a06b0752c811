"""Sets of published files: fetched, checked and unpacked from a server on this machine."""

import hashlib
import io
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
    server = faulty_server(folder)
    with server as url:
        yield server, url, folder


def facts(data: bytes) -> str:
    return f"{len(data)} sha256:{hashlib.sha256(data).hexdigest()}"


def file_set(url: str, folder: Path, files: dict[str, str], **settings) -> FileSet:
    return FileSet(
        title="a set", folder=str(folder), urls=[f"{url}/"], licence="none", citation="nobody", files=files, **settings
    )


def test_what_is_missing_is_fetched_and_nothing_else(running, tmp_path):
    server, url, _ = running
    files = file_set(url, tmp_path / "set", {name: facts(data) for name, data in LISTS.items()})
    (tmp_path / "set" / "lists").mkdir(parents=True)
    (tmp_path / "set" / "lists" / "all_class.txt").write_bytes(LISTS["lists/all_class.txt"])
    assert files.missing() == [tmp_path / "set" / "lists" / "deeper" / "train.csv"]
    assert files.n_bytes(files.missing()) == 15
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


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../b", ""])
def test_a_set_names_no_file_outside_its_folder(tmp_path, path):
    with pytest.raises(ValidationError, match="name"):
        file_set("http://127.0.0.1", tmp_path, {path: ""})


@pytest.mark.parametrize("wrong", ["many", "12 sha1:abc", "sha256:xyz", "-1", "12  sha256:" + "0" * 64])
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
