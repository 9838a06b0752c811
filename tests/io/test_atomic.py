"""Files and folders appear whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from avpipe.io.atomic import atomic_directory, atomic_path, write_bytes, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a.h5"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".h5" and temporary.parent == target.parent
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole" and names(target.parent) == ["a.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_debris(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "tree"
    for content in ("old", "new"):
        with atomic_directory(target) as temporary:
            (temporary / content).write_text(content)
    assert names(target) == ["new"] and names(tmp_path) == ["tree"]


def test_an_error_leaves_the_old_folder(tmp_path):
    target = tmp_path / "tree"
    with atomic_directory(target) as temporary:
        (temporary / "old").touch()
    with pytest.raises(ValueError), atomic_directory(target) as temporary:
        (temporary / "half").touch()
        raise ValueError
    assert names(target) == ["old"] and names(tmp_path) == ["tree"]


KILLED = """
import os, signal, sys
from avpipe.io.atomic import atomic_directory, atomic_path
with {what}(sys.argv[1]) as temporary:
    {write}
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("atomic_path", "temporary.write_text('half')"),
        ("atomic_directory", "(temporary / 'half').write_text('half')"),
    ],
)
def test_debris_of_a_killed_writer_is_removed_by_the_next(tmp_path, what, write):
    target = tmp_path / "it[1]"
    subprocess.run([sys.executable, "-c", KILLED.format(what=what, write=write), str(target)], check=False)
    assert not target.exists() and len(names(tmp_path)) == 1
    if what == "atomic_path":
        write_text(target, "whole")
    else:
        with atomic_directory(target):
            pass
    assert names(tmp_path) == ["it[1]"]


def test_temporaries_of_living_writers_and_other_machines_are_kept(tmp_path):
    alive = tmp_path / f".a~{socket.gethostname()}-{os.getpid()}-00000000~.txt"
    elsewhere = tmp_path / ".a~elsewhere-1-00000000~.txt"
    other_file = tmp_path / f".ab~{socket.gethostname()}-999999999-00000000~.txt"
    for path in (alive, elsewhere, other_file):
        path.touch()
    write_text(tmp_path / "a.txt", "whole")
    assert alive.exists() and elsewhere.exists() and other_file.exists()


def _write_often(path, letter, n_bytes):
    for _ in range(20):
        write_bytes(path, letter * n_bytes)


def test_a_reader_never_sees_a_mixture(tmp_path):
    path, n_bytes = tmp_path / "a.bin", 200_000
    write_bytes(path, b"x" * n_bytes)
    threads = [threading.Thread(target=_write_often, args=(path, letter, n_bytes)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        data = path.read_bytes()
        assert len(data) == n_bytes and len(set(data)) == 1
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["a.bin"]


def test_long_and_foreign_names(tmp_path):
    target = tmp_path / ("ü~*" * 60 + ".txt")  # 240 bytes; a temporary name made longer would not fit
    write_text(target, "whole")
    assert target.read_text() == "whole" and len(names(tmp_path)) == 1


def test_json_is_readable_and_strict(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ä": [1, 2.5]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"nan": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ä": [1, 2.5]}


@pytest.mark.parametrize("pid", ["abc", "0", "-1", "99999999999999999999", "9999999999"])
def test_a_foreign_file_named_like_a_temporary_is_left_alone(tmp_path, pid):
    foreign = tmp_path / f".a~{socket.gethostname()}-{pid}-00~.txt"
    foreign.touch()
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"
    assert foreign.exists()
