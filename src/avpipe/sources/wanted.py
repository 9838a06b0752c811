"""A file to fetch, how patiently, and what was fetched; without the libraries that do it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


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
        known_from: who says so, for messages.
    """

    name: str
    urls: tuple[str, ...]
    n_bytes: int | None = None
    digest: str | None = None
    by_hand: str = ""
    known_from: str = "this version of avpipe expects"


def direct(url: str) -> str:
    """The address of a file itself, where what people share is that of a page about it: Dropbox's `dl=0`."""
    parts = urlsplit(url)
    if (parts.hostname or "").removeprefix("www.") != "dropbox.com":
        return url
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "dl"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("dl", "1")])))


def without_secrets(url: str) -> str:
    """An address without login, query and fragment, any of which may hold a password or key."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(an address that cannot be read)"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


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
    """A file that was fetched.

    Attributes:
        n_bytes, sha256: its length and digest.
        url: its address without secrets, empty where it was there already.
        date: today's (UTC).
        host: which server gave it in the end, after redirects.
        etag: what that server calls this version of it.
    """

    n_bytes: int
    sha256: str
    url: str
    date: str
    host: str = ""
    etag: str = ""
