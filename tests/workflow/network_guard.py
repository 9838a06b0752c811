"""No network for a project: every process of its runs says that it is watched, and is refused what would connect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from project import Project

# A hook of the interpreter sees what any library does. Binding is no connection: urllib3 asks so whether there is IPv6.
_GUARD = """
import os, socket, sys


def write(line):
    descriptor = os.open({record!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (line + "\\n").encode())
    os.close(descriptor)


def watch(event, arguments):
    used = event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        used = arguments[0].family in (socket.AF_INET, socket.AF_INET6)
    if used:
        write(f"{{event}} {{arguments[1:]}} by {{sys.argv}}")
        raise OSError("this test allows no network")


write("watched: " + " ".join(sys.orig_argv).replace("\\n", " "))
sys.addaudithook(watch)
"""


class Guard:
    """Watches a project that has the library in src/, from now on."""

    def __init__(self, project: Project, record: Path) -> None:
        self._record = record
        (project.folder / "src" / "sitecustomize.py").write_text(_GUARD.format(record=str(record)))
        call = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
        tried = subprocess.run([sys.executable, "-c", call], env=project.environment, capture_output=True, check=False)
        if b"allows no network" not in tried.stderr or not self.tried():
            pytest.fail("the guard lets a connection through")
        record.unlink()

    def watched(self) -> str:
        """The command lines of all processes."""
        return "\n".join(line for line in self._lines() if line.startswith("watched: "))

    def tried(self) -> list[str]:
        """What would have opened a connection."""
        return [line for line in self._lines() if not line.startswith("watched: ")]

    def _lines(self) -> list[str]:
        return self._record.read_text().splitlines() if self._record.exists() else []
