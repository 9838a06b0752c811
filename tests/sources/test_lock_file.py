"""Files whose hash nobody publishes: pinned when they are first fetched, checked by what their host announces."""

import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from faulty_server import faulty_server, needs_server

from avpipe.errors import AvpipeError
from avpipe.sources.download import DownloadError, fetch
from avpipe.sources.file_sets import FileSet, fetch_set
from avpipe.sources.lock_file import Pins
from avpipe.sources.wanted import Fetched, Patience, WantedFile

PATIENCE = Patience(max_tries=2, sleep=lambda _: None)
DATA = random.Random(0).randbytes(20_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.bin").write_bytes(DATA)
    server = faulty_server(folder)
    with server as url:
        yield server, url


@pytest.fixture
def url(running):
    running[0].reset()
    return running[1]


def files_at(address: str, folder: Path, facts: str = "", **settings) -> FileSet:
    settings = {"title": "x", "licence": "x", "citation": "x", "urls": [address]} | settings
    return FileSet(folder=str(folder), files={"a.bin": facts}, **settings)


def entries(pins: Pins) -> dict:
    return yaml.safe_load(pins.path.read_text())


@needs_server
class TestPinned:
    def test_the_first_download_is_written_down_and_the_next_agrees(self, url, tmp_path):
        pins = Pins(tmp_path / "files.lock.yaml", "release")
        fetch_set(files_at(f"{url}/a.bin", tmp_path / "one"), PATIENCE, pins=pins)
        (entry,) = entries(pins)["release"].values()
        assert entry["sha256"] == SHA256 and entry["bytes"] == len(DATA) and entry["host"] == "127.0.0.1"
        assert entry["date"].startswith("20") and entry["etag"].startswith('"')
        before = pins.path.read_bytes()
        fetch_set(files_at(f"{url}/a.bin?case=2", tmp_path / "two"), PATIENCE, pins=pins)
        assert (tmp_path / "two" / "a.bin").read_bytes() == DATA and pins.path.read_bytes() == before

    def test_another_file_is_refused_where_the_lock_file_was_copied_to(self, url, tmp_path):
        fetch_set(files_at(f"{url}/a.bin", tmp_path), PATIENCE, pins=Pins(tmp_path / "files.lock.yaml", "release"))
        elsewhere = Pins(tmp_path / "elsewhere" / "files.lock.yaml", "release")
        elsewhere.path.parent.mkdir()
        elsewhere.path.write_bytes((tmp_path / "files.lock.yaml").read_bytes())
        for change in ("0", "500"):  # of the same length, and longer
            files = files_at(f"{url}/a.bin?change={change}", elsewhere.path.parent)
            with pytest.raises(AvpipeError, match=r"files.lock.yaml pins since .*delete its release: a.bin") as error:
                fetch_set(files, PATIENCE, pins=elsewhere)
            assert SHA256 in str(error.value) and not (elsewhere.path.parent / "a.bin").exists()
        elsewhere.path.write_text("")
        fetch_set(files_at(f"{url}/a.bin?change=0", elsewhere.path.parent), PATIENCE, pins=elsewhere)
        assert entries(elsewhere)["release"]["a.bin"]["sha256"] != SHA256

    def test_a_file_with_a_published_hash_is_not_pinned(self, url, tmp_path):
        pins = Pins(tmp_path / "files.lock.yaml", "release")
        fetch_set(files_at(f"{url}/a.bin", tmp_path, f"sha256:{SHA256}"), PATIENCE, pins=pins)
        assert not pins.path.exists()

    def test_an_archive_that_a_person_got_is_pinned_before_it_is_unpacked(self, tmp_path):
        pins = Pins(tmp_path / "files.lock.yaml", "release")
        files = files_at("", tmp_path, urls=[], obtain="open x", unpack={"bytes": 9})
        (tmp_path / "a.bin").write_bytes(DATA)
        with pytest.raises(AvpipeError, match="not unpacked"):  # it is none
            fetch_set(files, PATIENCE, pins=pins)
        entry = entries(pins)["release"]["a.bin"]
        assert entry["sha256"] == SHA256 and "host" not in entry
        (tmp_path / "a.bin").write_bytes(DATA[::-1])
        with pytest.raises(AvpipeError, match=r"what lies at \S*a.bin is not .*files.lock.yaml pins"):
            fetch_set(files, PATIENCE, pins=pins)

    def test_killed_after_the_entry_was_written_the_download_goes_on(self, url, tmp_path):
        """The entry comes first: a file never has its name without one."""
        pins, target = Pins(tmp_path / "files.lock.yaml", "release"), tmp_path / "a.bin"
        wanted = WantedFile("a.bin", (f"{url}/a.bin",))

        def keep_and_die(fetched):
            assert not target.exists()
            pins.keep(wanted, fetched)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fetch(wanted, target, PATIENCE, keep_and_die)
        assert not target.exists() and entries(pins)["release"]["a.bin"]["sha256"] == SHA256
        fetch(pins.applied(wanted), target, PATIENCE, lambda fetched: pins.keep(wanted, fetched))
        assert target.read_bytes() == DATA


def keep(path: Path, name: str, first: int, last: int) -> None:
    for number in range(first, last):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        Pins(path, name).keep(WantedFile(f"f{number}", ()), Fetched(number, digest, "", "2026-01-01"))


def test_two_processes_that_write_lose_no_entry(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "files.lock.yaml"
    jobs = [
        context.Process(target=keep, args=(path, name, 0, 20))
        for name in ("one", "two", "two")  # two of them write the same
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0, 0]
    assert {name: len(files) for name, files in entries(Pins(path, "")).items()} == {"one": 20, "two": 20}


@pytest.mark.parametrize("at_least", [1, 5, 12])
def test_killed_while_writing_it_is_whole(tmp_path, at_least):
    path = tmp_path / "files.lock.yaml"
    program = f"""
        from pathlib import Path
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from test_lock_file import keep
        keep(Path({str(path)!r}), "set", 0, 100_000)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    deadline = time.monotonic() + 60
    while not (path.exists() and len(entries(Pins(path, ""))["set"]) >= at_least) and time.monotonic() < deadline:
        time.sleep(0.003)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    known = entries(Pins(path, ""))["set"]
    assert list(known) == sorted(f"f{number}" for number in range(len(known))) and len(known) >= at_least
    keep(path, "set", len(known), len(known) + 1)
    assert len(entries(Pins(path, ""))["set"]) == len(known) + 1
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".lock"] == [path.name]


def test_what_another_process_pinned_meanwhile_counts(tmp_path):
    pins, wanted = Pins(tmp_path / "files.lock.yaml", "set"), WantedFile("a", ())
    pins.keep(wanted, Fetched(1, "0" * 64, "", "2026-01-01"))
    with pytest.raises(AvpipeError, match=r"a has the sha256 1111.*pins 0000.*since 2026-01-01"):
        pins.keep(wanted, Fetched(1, "1" * 64, "", "2026-01-02"))
    assert pins.of("a").date == "2026-01-01"


@pytest.mark.parametrize(
    "text", ["- 1", "a: {b: {sha256: no}}", "a: [", "set: {a: {sha256: x, date: 2026-01-01}}", "\0"]
)
def test_a_lock_file_that_is_none(tmp_path, text):
    pins = Pins(tmp_path / "files.lock.yaml", "set")
    pins.path.write_text(text)
    with pytest.raises(AvpipeError, match="is no lock file of avpipe"):
        pins.applied(WantedFile("a", ()))


@pytest.fixture
def hub():
    """A server that redirects as Hugging Face does: ?to=<address>&etag=<sha256>&size=<bytes>."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            said = dict(parse_qsl(urlsplit(self.path).query))
            self.send_response(302)
            self.send_header("Location", said["to"])
            for name in ("etag", "size"):
                if name in said:
                    self.send_header(f"X-Linked-{name.title()}", f'"{said[name]}"' if name == "etag" else said[name])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/resolve/a.bin"
    server.shutdown()
    server.server_close()


@needs_server
@pytest.mark.parametrize("knobs", ["", "?cut=7000@1", "?length=none"])
@pytest.mark.parametrize("size", [f"&size={len(DATA)}", ""])
def test_the_hash_that_comes_with_the_redirect_is_checked(hub, url, tmp_path, knobs, size):
    address = f"{hub}?to={url}/a.bin{knobs}&etag={SHA256}{size}"
    pins = Pins(tmp_path / "files.lock.yaml", "release")
    fetch_set(files_at(address, tmp_path), PATIENCE, pins=pins)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert entries(pins)["release"]["a.bin"]["host"] == "127.0.0.1"


@needs_server
@pytest.mark.parametrize(
    ("knobs", "said", "found"),
    [
        ("", f"etag={'0' * 64}", "bytes, which are not those that its host announces .*sha256:0000"),
        ("?flip=100", f"etag={SHA256}", f"its host announces .*{SHA256}"),
        ("", f"etag={SHA256}&size=5", "has 20,000 bytes, which are not the 5 bytes that its host announces"),
    ],
)
def test_a_file_that_is_not_the_one_announced_is_none(hub, url, tmp_path, knobs, said, found):
    pins = Pins(tmp_path / "files.lock.yaml", "release")
    with pytest.raises(DownloadError, match=found) as error:
        fetch_set(files_at(f"{hub}?to={url}/a.bin{knobs}&{said}", tmp_path), PATIENCE, pins=pins)
    assert error.value.cause == "checksum" and not (tmp_path / "a.bin").exists() and not pins.path.exists()


@needs_server
def test_what_the_table_knows_comes_before_what_a_host_announces(hub, url, tmp_path):
    fetch_set(files_at(f"{hub}?to={url}/a.bin&etag={'0' * 64}", tmp_path, f"sha256:{SHA256}"), PATIENCE)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    other = files_at(f"{hub}?to={url}/a.bin&etag={SHA256}&size={len(DATA)}", tmp_path / "b", "19999")
    with pytest.raises(DownloadError, match="20,000 bytes, which are not the 19,999 bytes that this version"):
        fetch_set(other, PATIENCE)


@needs_server
def test_an_etag_that_is_no_hash_is_none(hub, url, tmp_path):
    fetch_set(files_at(f"{hub}?to={url}/a.bin&etag={'a' * 40}&size=7", tmp_path), PATIENCE)
    assert (tmp_path / "a.bin").read_bytes() == DATA
