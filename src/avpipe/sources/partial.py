"""What has come of a file so far, kept beside it so that a killed download goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import BinaryIO

from avpipe.io.atomic import write_json

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10.0


class Part:
    """The bytes of a file that have come so far, beside it; with them whose they are.

    Attributes:
        path: `<name>.part`.
        validator: ETag or date of the file that they belong to, if any.
        encoding: the Content-Encoding that they came with; such parts cannot be gone on with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.validator: str | None = None
        self.encoding = ""
        self._url = ""
        self._stream: BinaryIO | None = None
        self._told = self._began = time.monotonic()
        self._had = 0

    @classmethod
    def beside(cls, target: Path) -> Part:
        """The part of a file that is to lie at `target`, with what an earlier run has got."""
        part = cls(target.with_name(f"{target.name}.part"))
        try:
            known = json.loads(part._facts().read_text(encoding="utf-8"))
            part._url, part.validator, part.encoding = known["url"], known["validator"], known["encoding"]
        except (OSError, ValueError, KeyError, TypeError):
            part.remove()
        return part

    def size(self) -> int:
        """Bytes so far."""
        if self._stream is not None:
            return self._stream.tell()
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, url: str, n_bytes: int | None, *, has_digest: bool) -> int:
        """The byte from which to ask an address; what cannot be gone on with is removed.

        Args:
            url: the address.
            n_bytes: the file's length; None: not known.
            has_digest: whether its hash is known, so that another file could not pass for it.
        """
        is_known = has_digest and n_bytes is not None
        is_same = self._url == identity(url)
        if self.encoding or self.size() > (n_bytes or self.size()) or not (is_known or (is_same and self.validator)):
            self.remove()
        if not is_same:
            self.validator = None
        self._had, self._began = self.size(), time.monotonic()
        return self.size()

    def restart(self, url: str, seen: str | None, encoding: str) -> None:
        """Begin anew, with the file that now lies at an address."""
        self.remove()
        self._url, self.validator, self.encoding = identity(url), seen, encoding
        write_json(self._facts(), {"url": self._url, "validator": seen, "encoding": encoding})
        self._had = 0

    def add(self, block: bytes) -> None:
        """Write what came."""
        if self._stream is None:
            self._stream = self.path.open("ab")
        self._stream.write(block)

    def close(self) -> None:
        """End writing for now."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def remove(self) -> None:
        """Forget all of it."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._facts().unlink(missing_ok=True)
        self.validator, self.encoding, self._url = None, "", ""

    def tell(self, name: str, total: int | None) -> None:
        """A line for a person now and then: how much, how fast, how long still."""
        now = time.monotonic()
        if now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        rate = (self.size() - self._had) / max(now - self._began, 1e-6)
        of_all = f" of {total / 1e6:,.1f}" if total else ""
        left = f", about {(total - self.size()) / rate:.0f} s left" if total and rate else ""
        _log.info("%s: %s%s MB, %s MB/s%s", name, f"{self.size() / 1e6:,.1f}", of_all, f"{rate / 1e6:.2f}", left)

    def _facts(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")


def identity(url: str) -> str:
    """An address as it may be written down: its digest, since it may hold a key."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
