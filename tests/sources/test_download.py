"""Downloads against a server with faults: the right file, or the right cause and nothing under the final name."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faulty_server import faulty_server, needs_server

from avpipe.sources.download import DownloadError, fetch
from avpipe.sources.wanted import Patience, WantedFile

pytestmark = needs_server
SIZE = 3_000_000
DATA = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes()
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
CHANGED = DATA.translate(bytes(range(255, -1, -1)))  # what the server gives with change=0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"some text\n" * 100)
    (folder / "empty.bin").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def running(folder):
    server = faulty_server(folder)
    with server as url:
        yield server, url


@pytest.fixture
def server(running):
    running[0].reset()
    return running[0]


@pytest.fixture
def url(running):
    return running[1]


class Slept(list):
    """Pauses that were asked for, and not made."""


@pytest.fixture
def slept():
    return Slept()


@pytest.fixture
def patience(slept):
    return Patience(max_tries=4, stall_seconds=1.0, sleep=slept.append)


def wanted(*urls: str, **facts) -> WantedFile:
    return WantedFile("a.bin", urls, **({"n_bytes": SIZE, "digest": SHA256} | facts))


def assert_nothing_but_parts(folder: Path) -> None:
    assert [path.name for path in folder.iterdir() if not path.name.endswith((".part", ".part.json", ".lock"))] == []


@pytest.mark.parametrize("changes", ["", "&change=0@2-"], ids=["same file", "changed file"])
@pytest.mark.parametrize("ranges", ["", "&norange=1"], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_download_goes_on_or_begins_anew(server, url, tmp_path, patience, tenth, ranges, changes):
    """Cut at every tenth; the changed file is the one that is wanted where the file changes meanwhile."""
    data = CHANGED if changes else DATA
    file = wanted(f"{url}/a.bin?cut={tenth * SIZE // 10}@1{ranges}{changes}", digest=None)
    fetched = fetch(file, tmp_path / "a.bin", patience)
    assert (tmp_path / "a.bin").read_bytes() == data
    assert fetched.sha256 == hashlib.sha256(data).hexdigest() and fetched.n_bytes == SIZE
    if not ranges and not changes:
        assert server.log()["bytes"] <= 1.1 * SIZE
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["a.bin"]


@pytest.mark.parametrize(
    ("knobs", "cause", "requests"),
    [
        ("status=404", "gone", 1),
        ("status=410", "gone", 1),
        ("status=401", "blocked", 2),
        ("status=403", "blocked", 2),
        ("status=408", "transient", 4),
        ("status=425", "transient", 4),
        ("status=429", "transient", 4),
        ("status=500", "transient", 4),
        ("status=503&retry=none", "transient", 4),
        ("status=503&retry=4000", "host_stopped", 1),
        ("status=429&retry=date:4000", "host_stopped", 1),
        ("status=0", "transient", 4),
        ("cut=0", "transient", 4),
        ("norange=1&cut=1000000", "transient", 4),
        ("redirect=loop", "redirect", 11),
        ("redirect=file%3A%2F%2F%2Fetc%2Fpasswd", "redirect", 1),
        ("html=Quota+exceeded", "html_page", 1),
        ("type=text/html", "html_page", 1),
        ("length=500", "checksum", 2),
        ("length=-500", "checksum", 2),
        ("extra=500&length=chunked", "too_long", 1),
        ("endless=1&length=chunked", "too_long", 1),
        ("flip=100", "checksum", 2),
        ("change=0", "checksum", 2),
        ("change=-500&length=chunked", "transient", 4),
        ("change=500&length=none", "too_long", 1),
    ],
)
def test_a_faulty_answer_has_its_cause_and_leaves_no_file(server, url, tmp_path, patience, knobs, cause, requests):
    with pytest.raises(DownloadError) as error:
        fetch(wanted(f"{url}/a.bin?{knobs}"), tmp_path / "a.bin", patience)
    assert error.value.cause == cause, str(error.value)
    assert server.log()["count"] == requests
    assert_nothing_but_parts(tmp_path)


@pytest.mark.parametrize(
    "knobs",
    [
        "status=503@1-2",
        "status=503@1-2&status=429@3",
        "status=403@1",
        "status=0@1",
        "reset=200000@1",
        "stall=200000@1&stall_seconds=3",
        "cut=500000@1&cut=700000@2&cut=900000@3&cut=100@4&cut=100000@5",
        "cut=500000@1&range_start=7@2",
        "cut=500000@1&range_start=-7@2",
        "cut=500000@1&range_total=500@2",
        "cut=500000@1&range_total=*@2",
        "cut=500000@1&range_bare=1@2",
        "cut=500000@1&range_416=1@2",
        "cut=500000@1&range_shift=7@2",
        "cut=500000@1&range_max=400000",
        "cut=500000@1&ifrange=never@2",
        "cut=500000@1&etag=weak",
        "cut=500000@1&etag=none&modified=none",
        "cut=500000@1&etag=new@2-",
        "redirect=10",
        "redirect=1&redirect_status=308",
        "length=chunked",
        "length=none",
        "gzip=1",
        "gzip=asked",
        "gzip=label",
        "name=..%2Fevil.sh",
        "html=Just+a+moment@1&status=503@1",
        "flip=100@1",
    ],
)
def test_what_can_be_overcome_gives_the_file(server, url, tmp_path, patience, knobs):
    fetched = fetch(wanted(f"{url}/a.bin?{knobs}"), tmp_path / "a.bin", patience)
    assert (tmp_path / "a.bin").read_bytes() == DATA and f"sha256:{fetched.sha256}" == SHA256
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["a.bin"]


@pytest.mark.parametrize(
    ("retry", "at_least", "at_most"), [("7", 7, 7), ("date:90", 80, 90), ("none", 0.5, 2), ("soon", 0.5, 2)]
)
def test_the_pause_that_a_server_asks_for_is_made(server, url, tmp_path, patience, slept, retry, at_least, at_most):
    fetch(wanted(f"{url}/a.bin?status=503@1&retry={retry}"), tmp_path / "a.bin", patience)
    assert len(slept) == 1 and at_least <= slept[0] <= at_most


def test_without_its_length_and_hash_a_file_is_taken_as_it_ends(server, url, tmp_path, patience):
    for number, knobs in enumerate(("", "length=none", "gzip=1", "cut=1000000@1")):
        fetch(wanted(f"{url}/a.bin?{knobs}", n_bytes=None, digest=None), tmp_path / f"{number}", patience)
        assert (tmp_path / f"{number}").read_bytes() == DATA, knobs
    fetch(wanted(f"{url}/empty.bin", n_bytes=None, digest=None), tmp_path / "empty", patience)
    assert (tmp_path / "empty").read_bytes() == b""


@pytest.mark.parametrize("kind", ["md5", "git"])
def test_other_hashes(server, url, tmp_path, patience, kind):
    prefix = b"blob %d\0" % SIZE if kind == "git" else b""
    digest = hashlib.new("sha1" if kind == "git" else "md5", prefix + DATA).hexdigest()
    fetch(wanted(f"{url}/a.bin", digest=f"{kind}:{digest}"), tmp_path / "a.bin", patience)
    with pytest.raises(DownloadError, match="this version of avpipe expects"):
        fetch(wanted(f"{url}/a.bin", digest=f"{kind}:{digest[::-1]}"), tmp_path / "b.bin", patience)


def test_the_next_address_is_tried(server, url, tmp_path, patience):
    addresses = [f"{url}/no.bin", f"{url}/a.bin?flip=3", f"{url}/a.bin?status=429&retry=4000", f"{url}/a.bin?case=2"]
    fetched = fetch(wanted(*addresses), tmp_path / "a.bin", patience)
    assert (tmp_path / "a.bin").read_bytes() == DATA and fetched.url == f"{url}/a.bin"
    assert server.log()["count"] == 4


def test_a_cut_download_goes_on_at_the_next_address(server, url, tmp_path, patience):
    first = f"{url}/a.bin?cut=2000000@1&status=404@2-"
    fetch(wanted(first, f"{url}/a.bin?case=2"), tmp_path / "a.bin", patience)
    assert server.log()["requests"][-1]["range"].startswith("bytes=2000")


def test_a_file_that_is_there_is_not_asked_for(server, url, tmp_path, patience):
    (tmp_path / "a.bin").write_bytes(DATA)
    fetch(wanted(f"{url}/a.bin"), tmp_path / "a.bin", patience)
    assert server.log()["count"] == 0
    (tmp_path / "a.bin").write_bytes(DATA[:-1])  # such as a copy that was cut
    fetch(wanted(f"{url}/a.bin"), tmp_path / "a.bin", patience)
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_messages_hold_no_secrets(server, url, tmp_path, patience):
    address = f"{url.replace('://', '://user:hunter2@')}/a.bin?status=403&key=topsecret"
    with pytest.raises(DownloadError) as error:
        fetch(wanted(address, by_hand="It is at the project's page."), tmp_path / "a.bin", patience)
    text = str(error.value)
    assert "hunter2" not in text and "topsecret" not in text and "HTTP 403" in text
    assert text.endswith("It is at the project's page.")
    for path in tmp_path.iterdir():
        assert b"topsecret" not in path.read_bytes()


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1/a", "file:///etc/passwd", "a.bin", "http://", "http://[::1", "http://127.0.0.1:1/a"]
)
def test_what_is_no_address(tmp_path, patience, address):
    with pytest.raises(DownloadError) as error:
        fetch(wanted(address), tmp_path / "a.bin", patience)
    assert error.value.cause == ("transient" if address.endswith(":1/a") else "bad_url")


def test_a_certificate_that_nobody_signed(folder, tmp_path, patience, monkeypatch):
    try:
        server = faulty_server(folder, tls=True)
    except RuntimeError as error:
        pytest.skip(str(error))
    with server as url:
        with pytest.raises(DownloadError, match="SSL_CERT_FILE") as error:
            fetch(wanted(f"{url}/a.bin"), tmp_path / "a.bin", patience)
        assert error.value.cause == "tls" and server.log()["count"] == 0
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        fetch(wanted(f"{url}/a.bin"), tmp_path / "a.bin", patience)
        down = f"{url}/a.bin?redirect={url.replace('https', 'http').replace(':', '%3A').replace('/', '%2F')}"
        with pytest.raises(DownloadError) as error:
            fetch(wanted(down), tmp_path / "b.bin", patience)
        assert error.value.cause == "redirect"


def test_no_login_of_a_netrc_is_sent(server, url, tmp_path, patience, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(wanted(f"{url}/a.bin?redirect=2"), tmp_path / "a.bin", patience)
    assert not any("Authorization" in request["headers"] for request in server.log()["requests"])


def test_two_that_want_one_file_ask_once(server, url, tmp_path, patience):
    jobs = [
        threading.Thread(target=fetch, args=(wanted(f"{url}/a.bin?bps=6000000"), tmp_path / "a.bin", patience))
        for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert (tmp_path / "a.bin").read_bytes() == DATA and server.log()["count"] == 1


def test_a_download_that_comes_too_slowly_is_a_stall(server, url, tmp_path, slept):
    hasty = Patience(max_tries=2, slow_seconds=0.3, slow_bytes=100_000, sleep=slept.append)
    with pytest.raises(DownloadError) as error:
        fetch(wanted(f"{url}/small.txt?bps=100", n_bytes=1000, digest=None), tmp_path / "a.bin", hasty)
    assert error.value.cause == "transient"


@pytest.mark.parametrize("moment", [0.05, 0.15, 0.3, 0.45, 0.6])
def test_a_killed_download_goes_on(server, url, tmp_path, patience, moment):
    """Killed when a share of the bytes has come; afterwards the rest is asked for and nothing else."""
    address = f"{url}/a.bin?bps=4000000"
    program = f"""
        from pathlib import Path
        from avpipe.sources.download import fetch
        from avpipe.sources.wanted import WantedFile
        fetch(WantedFile("a.bin", ({address!r},), {SIZE}, {SHA256!r}), Path({str(tmp_path / "a.bin")!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    deadline = time.monotonic() + 30
    while server.log()["bytes"] < moment * SIZE and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert_nothing_but_parts(tmp_path)
    fetch(wanted(address), tmp_path / "a.bin", patience)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.bin.lock", "a.bin"]


def test_a_full_disk_keeps_the_part(server, url, tmp_path, patience, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(OSError, match="No space left"):
        fetch(wanted(f"{url}/a.bin"), tmp_path / "a.bin", patience)
    assert_nothing_but_parts(tmp_path)
