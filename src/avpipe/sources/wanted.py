"""A file to fetch, how patiently, and what was fetched; without the libraries that do it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class WantedFile:
    """A file to fetch.

    Attributes:
        name: for messages.
        urls: where it lies, the first one tried first.
        n_bytes: its length; None: not known.
        digest: `sha256:<hex>` (of which some publish the beginning alone), `md5:<hex>` or `git:<hex>`, the blob id that
            git gives the file; None: not known.
        by_hand: what to do where it cannot be fetched, a sentence.
    """

    name: str
    urls: tuple[str, ...]
    n_bytes: int | None = None
    digest: str | None = None
    by_hand: str = ""


@dataclass(frozen=True)
class Patience:
    """When a download waits, tries again or gives up.

    Attributes:
        max_tries: requests without progress before the next address.
        stall_seconds: longest time without a byte.
        slow_seconds, slow_bytes: fewer bytes in this time count as a stall.
        max_pause_seconds: longest pause between two tries that we choose.
        max_retry_after: longest pause that a server may ask for, in seconds; longer: it is left alone.
        sleep: waits.
    """

    max_tries: int = 8
    stall_seconds: float = 60.0
    slow_seconds: float = 300.0
    slow_bytes: int = 300_000
    max_pause_seconds: float = 300.0
    max_retry_after: float = 3600.0
    sleep: Callable[[float], None] = time.sleep


PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched: its length, sha256, address without secrets, and the date (UTC)."""

    n_bytes: int
    sha256: str
    url: str
    date: str
