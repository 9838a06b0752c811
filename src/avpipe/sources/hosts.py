"""Turns at a host: at most so many requests at a time, pauses between them, and none once it has walled us.

The state of each host lies in a folder that the jobs of all runs share: whose turn it is, when the next one may begin,
how often in a row the host has answered with a wall, and until when it is left alone.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import BaseModel

from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json

WALLS_IN_A_ROW = 3
AT_A_TIME = 2  # of YouTube: one
_RATE_LIMIT_SECONDS = 3600.0  # which YouTube names itself
_UNTIL_ANOTHER_RUN = 1e12
_YOUTUBE = re.compile(r"(.*\.)?(youtube\.com|youtu\.be|youtube-nocookie\.com)")


class HostStoppedError(AvpipeError):
    """A host is left alone for now; the message says why and until when."""


@dataclass
class Turn:
    """The right to ask a host once; `walled` or `done` says what came of it.

    Attributes:
        host: its name.
        wall: the cause of a wall that was met; None: there was none.
    """

    host: str
    wall: str | None = None
    is_final: bool = False
    detail: str = ""

    def walled(self, cause: str, detail: str, *, is_final: bool) -> None:
        """The answer was a wall; `is_final`: no further one is waited for."""
        self.wall, self.detail, self.is_final = cause, detail, is_final


class _State(BaseModel):
    """What is kept of a host; times in seconds since 1970."""

    next_at: float = 0.0
    walls: int = 0
    stopped_until: float = 0.0
    cause: str = ""
    detail: str = ""


class Hosts:
    """Turns at hosts.

    Args:
        folder: of the shared state.
        pause_seconds: shortest and longest pause between two videos of YouTube; other hosts need none.
        sleep: waits.
    """

    def __init__(
        self, folder: Path, pause_seconds: Sequence[float], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._folder = folder
        self._pause = pause_seconds
        self._sleep = sleep

    @contextlib.contextmanager
    def turn(self, url: str) -> Iterator[Turn]:
        """Wait for a turn at the host of an address.

        Raises:
            HostStoppedError: it is left alone.
        """
        host = host_of(url)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._slot(host):
            self.refuse_stopped(host)
            if (wait := self._read(host).next_at - time.time()) > 0:
                self._sleep(wait)
            turn = Turn(host)
            try:
                yield turn
            finally:
                self._note(turn)

    @contextlib.contextmanager
    def _slot(self, host: str) -> Iterator[None]:
        """One of the places at a host, whoever else waits for them."""
        locks = [
            FileLock(self._path(host, f".{number}.lock")) for number in range(1 if host == "youtube" else AT_A_TIME)
        ]
        while True:
            for lock in locks:
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=0)
                    try:
                        yield
                    finally:
                        lock.release()
                    return
            self._sleep(0.2)

    def _note(self, turn: Turn) -> None:
        """What a turn means for the next one."""
        with FileLock(self._path(turn.host, ".lock")):
            state = self._read(turn.host)
            state.walls = 0 if turn.wall is None else state.walls + 1
            state.next_at = time.time() + (
                random.uniform(self._pause[0], self._pause[1]) if turn.host == "youtube" else 0.0
            )
            if turn.wall is not None and (turn.is_final or state.walls >= WALLS_IN_A_ROW):
                rests = time.time() + _RATE_LIMIT_SECONDS
                state.stopped_until = rests if turn.wall == "rate_limited" else _UNTIL_ANOTHER_RUN
                state.cause, state.detail = turn.wall, turn.detail
            write_json(self._path(turn.host, ".json"), state.model_dump())

    def refuse_stopped(self, host: str) -> None:
        """Raise HostStoppedError if a host is left alone."""
        state = self._read(host)
        if state.stopped_until <= time.time():
            return
        until = ""
        if state.stopped_until < _UNTIL_ANOTHER_RUN:
            until = f" until {datetime.fromtimestamp(state.stopped_until, UTC):%Y-%m-%d %H:%M} UTC"
        raise HostStoppedError(f"{host} is left alone{until}: {state.cause} ({state.detail})")

    def _read(self, host: str) -> _State:
        with contextlib.suppress(OSError, ValueError):  # there is none, or one that a full disk has spoilt
            return _State.model_validate_json(self._path(host, ".json").read_bytes())
        return _State()

    def _path(self, host: str, suffix: str) -> Path:
        return self._folder / f"{host}{suffix}"


def host_of(url: str) -> str:
    """The host of an address as it is named here: all of YouTube's are one, and a port is part of the name."""
    parts = urlsplit(url)
    name = (parts.hostname or "").lower()
    if _YOUTUBE.fullmatch(name):
        return "youtube"
    return re.sub(r"[^a-z0-9.-]", "_", f"{name}-{parts.port}" if parts.port else name)


def stops(folder: Path) -> list[str]:
    """A line for each host that is left alone now."""
    lines = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            Hosts(folder, (0.0, 0.0)).refuse_stopped(path.stem)
        except HostStoppedError as error:
            lines.append(str(error))
    return lines


def begin_run(folder: Path) -> None:
    """Ask hosts again that were left alone for the rest of a run; those that named an hour are left alone for it."""
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with FileLock(path.with_suffix(".lock")), contextlib.suppress(OSError, ValueError):
            state = _State.model_validate_json(path.read_bytes())
            if state.stopped_until >= _UNTIL_ANOTHER_RUN:
                state.walls, state.stopped_until = 0, 0.0
                write_json(path, state.model_dump())
