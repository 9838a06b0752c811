"""Fetching one file: goes on where it was cut, checks length and hash, and only then gives it its name.

Source of the rules: docs/sources.md, Downloads.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import random
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock
from urllib3.exceptions import HTTPError as Urllib3Error

from avpipe.errors import AvpipeError
from avpipe.io.atomic import publish
from avpipe.io.space import require_space
from avpipe.sources.partial import Part
from avpipe.sources.wanted import PATIENCE, Fetched, Patience, WantedFile, without_secrets
from avpipe.sources.web import (
    FINAL,
    CarefulSession,
    Cause,
    Fault,
    ask,
    check_is_data,
    content_range,
    fault_of,
    headers_for,
    linked,
    validator,
)

_log = logging.getLogger(__name__)
_BLOCK_BYTES = 1 << 16
_BEGINNING_BYTES = 4096


class DownloadError(AvpipeError):
    """A file was not fetched from any of its addresses; `cause` is that of the last one."""

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


def fetch(
    file: WantedFile, target: Path, patience: Patience = PATIENCE, keep: Callable[[Fetched], None] | None = None
) -> Fetched:
    """Fetch a file to `target`, which appears whole and checked or not at all.

    What a killed or failed download has got lies beside it as `<name>.part` and is gone on with. Of several processes
    that fetch one file, one does; the others wait for it.

    Args:
        file: what to fetch.
        target: where it belongs.
        patience: when to wait, try again or give up.
        keep: is told what was fetched before it gets its name, and may raise.

    Raises:
        DownloadError: no address gave the file; says why for each and what to do.
        OSError: the disk is full; the part is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_file() and (found := fits(target, file)) is not None:
            there = Fetched(target.stat().st_size, found, "", _today())
            if keep is not None:
                keep(there)
            return there
        part = Part.beside(target)
        faults: list[Fault] = []
        with CarefulSession() as session:
            for position, url in enumerate(file.urls):
                is_last = position == len(file.urls) - 1
                fetched = _from_one_address(session, url, file, part, patience, faults, is_last=is_last)
                if fetched is not None:
                    if keep is not None:
                        keep(fetched)
                    publish(part.path, target)
                    part.remove()
                    return fetched
    nowhere = f"what lies at {target} is not {_expected(file)}" if target.is_file() else "no address is known"
    told = "; ".join(dict.fromkeys(fault.detail for fault in faults)) or nowhere
    raise DownloadError(
        " ".join(
            [f"{file.name} was not fetched: {told}.", *_next_step(faults), *([file.by_hand] if file.by_hand else [])]
        ),
        faults[-1].cause if faults else Cause.BAD_URL,
    )


def _from_one_address(
    session: requests.Session,
    url: str,
    file: WantedFile,
    part: Part,
    patience: Patience,
    faults: list[Fault],
    *,
    is_last: bool,
) -> Fetched | None:
    """Try an address until the part is the file, or until it is given up: None, with the reason added to `faults`."""
    furthest, tries, restarts = part.size(), 0, 0
    while True:
        try:
            known, response = _receive(session, url, file, part, patience)
            found = _checked(url, known, part)
            return replace(found, host=urlsplit(response.url).hostname or "", etag=response.headers.get("ETag", ""))
        except Fault as fault:
            _log.info("%s: %s", file.name, fault)
            if part.size() > furthest:
                furthest, tries = part.size(), 0
            tries += 1
            restarts += fault.cause is Cause.CHECKSUM
            pause = _pause(fault, tries, restarts, patience, is_last=is_last)
            if pause is None:
                faults.append(fault)
                return None
        patience.sleep(pause)


def _pause(fault: Fault, tries: int, restarts: int, patience: Patience, *, is_last: bool) -> float | None:
    """Seconds until the next try at the same address; None: it is given up."""
    if fault.cause in FINAL or fault.cause is Cause.HOST_STOPPED:
        return None
    if fault.cause is Cause.CHECKSUM:
        return 0.0 if is_last and restarts < 2 else None
    if tries >= (2 if fault.cause is Cause.BLOCKED else patience.max_tries):
        return None
    if fault.wait_seconds is not None:
        if fault.wait_seconds > patience.max_retry_after:
            fault.cause = Cause.HOST_STOPPED
            fault.detail += f", to be asked again in {fault.wait_seconds:.0f} s"
            return None
        return fault.wait_seconds
    return min(2.0 ** (tries - 1) * random.uniform(0.75, 1.25), patience.max_pause_seconds)


def _receive(
    session: requests.Session, url: str, file: WantedFile, part: Part, patience: Patience
) -> tuple[WantedFile, requests.Response]:
    """One request: add to the part what the answer has, or begin it anew; the answer, and what it says of the file.

    Raises:
        Fault: the part is not whole afterwards, or the answer is not the file.
    """
    start = part.begin(url, file.n_bytes, has_digest=file.digest is not None)
    with closing(ask(session, url, headers_for(start, part.validator), patience.stall_seconds)) as response:
        file = _as_announced(file, response, url)
        try:
            start, total = _accept(response, url, file, part, start)
            for block in _blocks(response, patience, is_beginning=start == 0):
                part.add(block)
                if total is not None and part.size() > total and not part.encoding:
                    part.remove()
                    raise Fault(Cause.TOO_LONG, f"{without_secrets(url)} gives more than {total:,} bytes")
                part.tell(file.name, total)
        except (requests.RequestException, Urllib3Error, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.errno:
                raise
            raise fault_of(error, url) from error
        finally:
            part.close()
    if total is not None and part.size() < total and not part.encoding:
        raise Fault(Cause.TRANSIENT, f"{without_secrets(url)} ended after {part.size():,} of {total:,} bytes")
    return file, response


def _as_announced(file: WantedFile, response: requests.Response, url: str) -> WantedFile:
    """A file whose hash nobody else knows, with the one that its host announces."""
    announced = linked(response) if file.digest is None else None
    if announced is None:
        return file
    digest, n_bytes = announced
    if None not in (n_bytes, file.n_bytes) and n_bytes != file.n_bytes:
        raise Fault(Cause.CHECKSUM, f"{without_secrets(url)} has {n_bytes:,} bytes, which are not {_expected(file)}")
    n_bytes = n_bytes if file.n_bytes is None else file.n_bytes
    return replace(file, digest=digest, n_bytes=n_bytes, known_from="its host announces")


def _accept(response: requests.Response, url: str, file: WantedFile, part: Part, start: int) -> tuple[int, int | None]:
    """Where the body of an answer belongs and the whole file's length, None where nobody knows it.

    Raises:
        Fault: the answer does not go on where the part ends; the next try begins anew.
    """
    where = without_secrets(url)
    if response.status_code in (206, 416):
        first, total = content_range(response) or (None, None)
        whole = total if file.n_bytes is None else file.n_bytes
        if response.status_code == 416 and start and total == start == whole:
            return start, total
        is_same = part.validator is None or validator(response) in (None, part.validator)
        if response.status_code == 416 or not start or first != start or total not in (None, whole) or not is_same:
            part.remove()
            raise Fault(Cause.TRANSIENT, f"{where} does not go on at byte {start:,}", wait_seconds=0.0)
        return start, whole
    length = response.headers.get("Content-Length", "")
    encoding = response.headers.get("Content-Encoding", "").lower().replace("identity", "")
    announced = int(length) if length.isdecimal() else None
    if not encoding and None not in (file.n_bytes, announced) and announced != file.n_bytes:
        check_is_data(response.raw.read(_BEGINNING_BYTES), response)
        raise Fault(Cause.CHECKSUM, f"{where} has {announced:,} bytes, which are not {_expected(file)}")
    total = announced if file.n_bytes is None else file.n_bytes
    part.restart(url, validator(response), encoding)
    require_space(part.path.parent, total or 0, file.name)
    return 0, total


def _blocks(response: requests.Response, patience: Patience, *, is_beginning: bool) -> Iterator[bytes]:
    """The body as it comes, undecoded; its beginning is looked at before it is given.

    Raises:
        Fault: it is a web page, or comes too slowly.
    """
    if response.status_code == 416:
        return
    since, received = time.monotonic(), 0
    beginning = b""
    while block := response.raw.read1(_BLOCK_BYTES):
        received += len(block)
        if (elapsed := time.monotonic() - since) > patience.slow_seconds:
            if received < patience.slow_bytes:
                raise Fault(Cause.TRANSIENT, f"{without_secrets(response.url)}: {received:,} bytes in {elapsed:.0f} s")
            since, received = time.monotonic(), 0
        if is_beginning:
            beginning += block
            if len(beginning) < _BEGINNING_BYTES:
                continue
            check_is_data(beginning, response)
            block, is_beginning = beginning, False
        yield block
    if is_beginning:
        check_is_data(beginning, response)
        yield beginning


def _checked(url: str, file: WantedFile, part: Part) -> Fetched:
    """The record of a part that is the file.

    Raises:
        Fault: its length or hash is another one; the part is gone.
    """
    found = fits(part.path, file)
    if part.encoding and (found is None or (file.digest is None and not file.name.endswith((".gz", ".tgz")))):
        found = _undo_encoding(part, file) or found
    if found is not None:
        return Fetched(part.size(), found, without_secrets(url), _today())
    size = part.size()
    part.remove()
    raise Fault(Cause.CHECKSUM, f"{without_secrets(url)} gave {size:,} bytes, which are not {_expected(file)}")


def _undo_encoding(part: Part, file: WantedFile) -> str | None:
    """Unpack a part that came with Content-Encoding; None, and nothing changed, where that is not the file either."""
    unpacked = part.path.with_name(f"{part.path.name}~unpacked")
    most = file.n_bytes if file.n_bytes is not None else 1000 * part.size()
    try:
        with gzip.open(part.path) as packed, unpacked.open("wb") as out:
            while block := packed.read(_BLOCK_BYTES):
                out.write(block)
                if out.tell() > most:
                    return None
        found = fits(unpacked, file)
        if found is not None:
            unpacked.replace(part.path)
        return found
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    finally:
        unpacked.unlink(missing_ok=True)


def fits(path: Path, file: WantedFile) -> str | None:
    """The sha256 of a file that has the wanted length and hash; None where it has not."""
    size = path.stat().st_size
    if file.n_bytes not in (None, size):
        return None
    kind, _, wanted = (file.digest or "").partition(":")
    hashes = {"sha256": hashlib.sha256()}
    if kind == "md5":
        hashes["md5"] = hashlib.md5(usedforsecurity=False)
    elif kind == "git":
        hashes["git"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            for each in hashes.values():
                each.update(block)
    if kind and (kind not in hashes or not hashes[kind].hexdigest().startswith(wanted.lower())):
        return None
    return hashes["sha256"].hexdigest()


def _expected(file: WantedFile) -> str:
    length = "those" if file.n_bytes is None else f"the {file.n_bytes:,} bytes"
    return f"{length} that {file.known_from}" + (f" ({file.digest})" if file.digest else "")


def _next_step(faults: list[Fault]) -> list[str]:
    """What a person can do about the last fault, besides getting the file by hand."""
    said = {
        Cause.TLS: "If your network has certificates of its own, set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to them.",
        Cause.TRANSIENT: "Run the same command again: it goes on where it was.",
        Cause.HOST_STOPPED: "Run the same command again later: it goes on where it was.",
        Cause.CHECKSUM: "The file there is another one, or does not arrive as it is.",
    }
    return [said[fault.cause] for fault in faults[-1:] if fault.cause in said]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
