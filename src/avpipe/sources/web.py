"""One request for a file: a careful session, and what each kind of answer or fault means for a download.

Causes and what follows from them: docs/sources.md, Downloads.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.util.retry import Retry

from avpipe import __version__
from avpipe.sources.wanted import without_secrets

MOST_REDIRECTS = 10
SECONDS_TO_CONNECT = 20.0
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class Cause(StrEnum):
    """Why a file was not fetched. The list is closed."""

    GONE = "gone"
    BLOCKED = "blocked"
    TRANSIENT = "transient"
    TLS = "tls"
    REDIRECT = "redirect"
    HTML_PAGE = "html_page"
    TOO_LONG = "too_long"
    CHECKSUM = "checksum"
    HOST_STOPPED = "host_stopped"
    BAD_URL = "bad_url"


FINAL = frozenset({Cause.GONE, Cause.TLS, Cause.REDIRECT, Cause.HTML_PAGE, Cause.TOO_LONG, Cause.BAD_URL})
"""Causes that no second try at the same address mends."""


class Fault(Exception):  # noqa: N818 - an outcome of one request, which the download decides about
    """One request did not give the file.

    Args:
        cause: one of `Cause`.
        detail: one line for a person, without anything secret.
        wait_seconds: how long the server asks us to wait; None: it does not say.
    """

    def __init__(self, cause: Cause, detail: str, wait_seconds: float | None = None) -> None:
        super().__init__(f"{cause.value}: {detail}")
        self.cause = cause
        self.detail = detail
        self.wait_seconds = wait_seconds


class CarefulSession(requests.Session):
    """Verified TLS always, proxies of the environment, but no .netrc; never from https to http."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = MOST_REDIRECTS
        # Tries are counted by the download, which goes on where the last one ended.
        self.mount("https://", HTTPAdapter(max_retries=Retry(0, redirect=False)))
        self.mount("http://", HTTPAdapter(max_retries=Retry(0, redirect=False)))
        self.headers.update({"User-Agent": f"avpipe/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"})
        self.auth = _no_login

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Send no login along with a redirect; requests would look it up in .netrc."""
        prepared_request.headers.pop("Authorization", None)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where an answer leads to.

        Raises:
            Fault: from https to http, or to something that is neither.
        """
        target = super().get_redirect_target(resp)
        scheme = urlsplit(target).scheme if target else ""
        if scheme and (scheme not in ("http", "https") or (scheme == "http" and resp.url.startswith("https:"))):
            raise Fault(Cause.REDIRECT, f"{without_secrets(resp.url)} redirects to {without_secrets(target or '')}")
        return target


def _no_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def ask(session: requests.Session, url: str, headers: Mapping[str, str], stall_seconds: float) -> requests.Response:
    """Open the answer to a request for a file; its body has not been read.

    Raises:
        Fault: there is no answer that could hold the file.
    """
    try:
        response = session.get(url, headers=dict(headers), stream=True, timeout=(SECONDS_TO_CONNECT, stall_seconds))
    except (requests.RequestException, Urllib3Error, UnicodeError) as error:
        raise fault_of(error, url) from error
    if response.status_code in (200, 206, 416):
        return response
    response.close()
    raise _refusal(response, url)


def fault_of(error: Exception, url: str) -> Fault:
    """What an exception of requests or urllib3 means."""
    where = without_secrets(url)
    if isinstance(error, requests.exceptions.SSLError) or _is_caused_by(error, ssl.SSLError):
        return Fault(Cause.TLS, f"{where}: the server's certificate or encryption is not accepted ({_short(error)})")
    if isinstance(error, requests.TooManyRedirects):
        return Fault(Cause.REDIRECT, f"{where}: more than {MOST_REDIRECTS} redirects")
    bad = requests.exceptions
    if isinstance(error, bad.InvalidURL | bad.InvalidSchema | bad.MissingSchema | UnicodeError):
        return Fault(Cause.BAD_URL, f"{where} is no address of a file ({_short(error)})")
    return Fault(Cause.TRANSIENT, f"{where}: {_short(error)}")


def _is_caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an exception is of a kind, was caused by one, or carries one as its first argument."""
    for _ in range(10):
        if error is None or isinstance(error, kind):
            break
        inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        error = getattr(error, "reason", None) or inner or error.__cause__ or error.__context__
        error = error if isinstance(error, BaseException) else None
    return isinstance(error, kind)


def _refusal(response: requests.Response, url: str) -> Fault:
    """What a status without the file means."""
    status, where = response.status_code, without_secrets(url)
    said = f"{where}: HTTP {status} {response.reason or ''}".rstrip()
    if status in (404, 410):
        return Fault(Cause.GONE, said)
    if status in _TRANSIENT:
        return Fault(Cause.TRANSIENT, said, retry_after(response))
    if status in (401, 403, 407, 451):
        return Fault(Cause.BLOCKED, said)
    return Fault(Cause.TRANSIENT if status >= 500 else Cause.GONE, said)


def retry_after(response: requests.Response) -> float | None:
    """The seconds of a Retry-After header, of either form; None where it is absent or no such thing."""
    try:
        return Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, OverflowError, Urllib3Error):
        return None


def content_range(response: requests.Response) -> tuple[int, int | None] | None:
    """First byte and total size that a 206 or 416 announces; total None: `*`; None: no header that can be read.

    A 416 announces no first byte: it is given as -1.
    """
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if found is None:
        return None
    first, total = found.groups()
    return int(first) if first else -1, None if total == "*" else int(total)


def validator(response: requests.Response) -> str | None:
    """What tells whether the file is still the same: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[^"]*"', etag):
        return etag
    return response.headers.get("Last-Modified")


def linked(response: requests.Response) -> tuple[str, int | None] | None:
    """Hash and length of a large file on Hugging Face, which says them with the redirect to it; None elsewhere.

    A length that is not announced is None.
    """
    for each in (*response.history, response):
        etag, size = (each.headers.get(f"X-Linked-{name}", "").strip('"') for name in ("Etag", "Size"))
        if re.fullmatch("[0-9a-f]{64}", etag):
            return f"sha256:{etag}", int(size) if size.isdecimal() else None
    return None


def check_is_data(beginning: bytes, response: requests.Response) -> None:
    """Raise Fault if a page for people came where a file was due."""
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    is_page = text.startswith((b"<!doctype html", b"<html"))
    if is_page or response.headers.get("Content-Type", "").lower().startswith("text/html"):
        found = re.search(rb"<title[^>]*>(.*?)</title>", beginning, re.IGNORECASE | re.DOTALL)
        title = " ".join(found[1].decode(errors="replace").split())[:200] if found else "without a title"
        raise Fault(Cause.HTML_PAGE, f"{without_secrets(response.url)} gave a web page ({title}) instead of the file")


def _short(error: Exception) -> str:
    """The kind of an exception and its text, without addresses, which may hold a password or key."""
    inner = getattr(error.args[0] if error.args else None, "reason", None)  # what urllib3 gave up for, in fewer words
    error = inner if isinstance(inner, Exception) else error
    text = re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\")>]+", lambda found: without_secrets(found[0]), str(error))
    text = re.sub(r"(url: )\S*\?\S*", r"\1…", text)
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def headers_for(first_byte: int, seen: str | None) -> dict[str, Any]:
    """The headers that ask for a file from a byte on, if it is still the one of this validator."""
    if not first_byte:
        return {}
    return {"Range": f"bytes={first_byte}-"} | ({"If-Range": seen} if seen else {})
