"""Fetching one video: tries in fresh folders, a time limit that leaves nothing running, and a probe at the end.

yt-dlp's success proves nothing: it has given a file of 2 of 5 seconds after a cut connection, kept junk that lay under
the name, and ended without a file at all. Source: docs/sources.md, Videos.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.io.atomic import publish, scratch_directory
from avpipe.media.probe import probe_media
from avpipe.sources.web import without_secrets
from avpipe.sources.youtube.messages import INCOMPLETE, STALLED, Again, Answer, answer_to

LONGEST_DIFFERENCE_SECONDS = 1.0
_KEY = re.compile("(?i)(cookie|authorization|po_token|key|token|password)([=:]\\s*)\\S+")


@dataclass(frozen=True)
class VideoRequest:
    """A video to fetch.

    Attributes:
        url: its address.
        needs_sound: whether a video without sound is incomplete.
        seconds: its length where that is known. A file whose length differs by more than a second is incomplete; what
            the site says of the length comes first.
        max_height: of its pictures, in pixels.
        timeout_seconds: longest time for a try.
        tries: how many there may be where another may help.
        cookies: a file of cookies, of which a copy is used, since yt-dlp writes into it; None: none.
        segment: start and end in seconds of what is fetched, encoded again; None: the whole video.
    """

    url: str
    needs_sound: bool = True
    seconds: float | None = None
    max_height: int = 480
    timeout_seconds: float = 600.0
    tries: int = 3
    cookies: str | None = None
    segment: tuple[float, float] | None = None


@dataclass(frozen=True)
class VideoOutcome:
    """What became of a video.

    Attributes:
        path: the file; None: there is none.
        cause: `ok`, or a cause of `avpipe.sources.youtube.messages`.
        reason: for the clips of a video that is not there; None: it is there, or was not really tried.
        again: whether and when to try again.
        detail: what was said, without secrets.
        tries: how many there were.
        format: yt-dlp's name of what it chose.
        version: of yt-dlp.
        seconds: length of the file.
    """

    path: Path | None
    cause: str
    reason: Reason | None
    again: Again
    detail: str
    tries: int
    format: str = ""
    version: str = ""
    seconds: float | None = None


def require_yt_dlp() -> None:
    """Raise AvpipeError where yt-dlp is not installed."""
    if importlib.util.find_spec("yt_dlp") is None:
        raise AvpipeError(
            "Videos from YouTube and other sites need yt-dlp, which is not installed. Install it with "
            "`pip install 'avpipe[youtube]'`, or put the videos in place by hand."
        )


def fetch_video(request: VideoRequest, stem: Path, *, sleep: Callable[[float], None] = time.sleep) -> VideoOutcome:
    """Fetch a video to `stem` with the suffix of its container, whole or not at all.

    Raises:
        AvpipeError: yt-dlp is not installed, or said what is not in the table of its messages.
    """
    require_yt_dlp()
    outcome = None
    for number in range(1, request.tries + 1):
        with scratch_directory(stem) as folder:
            outcome = _try(request, folder, stem, number)
        if outcome.again is not Again.NOW:
            break
        if number < request.tries:
            sleep(2.0**number)
    assert outcome is not None
    return outcome


def _try(request: VideoRequest, folder: Path, stem: Path, number: int) -> VideoOutcome:
    said = _ask(request, folder)

    def failed(answer: Answer, detail: str) -> VideoOutcome:
        version = said.get("version", "") if said else ""
        return VideoOutcome(None, answer.cause, answer.reason, answer.again, _scrubbed(detail), number, version=version)

    if said is None:
        return failed(STALLED, f"not done after {request.timeout_seconds:g} s")
    if "error" in said:
        text = " ".join([*said["warnings"], said["error"]])
        answer = answer_to(said["error"]) or answer_to(text)
        if answer is None:
            raise AvpipeError(
                f"{without_secrets(request.url)}: yt-dlp said what this version of avpipe does not know: "
                f"{_scrubbed(text)} Update both, or leave the video out."
            )
        return failed(answer, said["error"])
    files = [path for path in (folder / "download").iterdir() if path.is_file()]
    if len(files) != 1 or files[0].suffix in (".part", ".ytdl"):
        return failed(INCOMPLETE, f"yt-dlp ended without an error and left {len(files)} files")
    try:
        told = None if request.segment else said["seconds"]
        length = check_video(files[0], request.needs_sound, request.seconds if told is None else told)
    except ClipFailure as failure:
        return failed(INCOMPLETE, failure.detail.replace(str(files[0]), "the file"))
    target = stem.with_name(stem.name + files[0].suffix)
    publish(files[0], target)
    return VideoOutcome(target, "ok", None, Again.NO, "", number, said["format"], said["version"], length)


def check_video(path: Path, needs_sound: bool, seconds: float | None) -> float:
    """The length of a whole file, in seconds; `seconds`: what it should be, where that is known.

    Raises:
        ClipFailure: it lacks pictures, the sound that is needed, or some of its length.
    """
    info = probe_media(path)
    if info.video is None:
        raise ClipFailure(Reason.NO_VIDEO, "no pictures in it")
    if needs_sound and info.audio is None:
        raise ClipFailure(Reason.NO_AUDIO, "no sound in it")
    length = info.duration_seconds
    if seconds is not None and abs(length - seconds) > LONGEST_DIFFERENCE_SECONDS:
        raise ClipFailure(Reason.DECODE_ERROR, f"{length:.2f} s, expected {seconds:.2f} s")
    return length


def _ask(request: VideoRequest, folder: Path) -> dict[str, Any] | None:
    """The worker's answer; None: it was not done in time and is gone, with all that it had started."""
    (folder / "download").mkdir()
    tools = folder / "tools"  # yt-dlp's library looks for a program of this name on the path
    tools.mkdir()
    (tools / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    cookies = None
    if request.cookies is not None:
        cookies = str(folder / "cookies.txt")
        with open(cookies, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as copy:
            copy.write(Path(request.cookies).read_bytes())
    asked = {
        "url": request.url, "folder": str(folder / "download"), "max_height": request.max_height,
        "cookies": cookies, "segment": request.segment,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "avpipe.sources.youtube.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}", "YTDLP_NO_PLUGINS": "1"},
    )  # fmt: skip
    try:
        answer, errors = process.communicate(json.dumps(asked), timeout=request.timeout_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    try:
        return json.loads(answer)
    except ValueError:
        raise AvpipeError(
            f"{without_secrets(request.url)}: the process that fetches the video ended with status "
            f"{process.returncode}: {_scrubbed(errors[-500:])} Run the command again."
        ) from None


def _scrubbed(text: str) -> str:
    """A message in one line, without logins, keys and colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\")>\]]+", lambda found: without_secrets(found[0]), text)
    return _KEY.sub(r"\1\2…", " ".join(text.split()))[:500]
