"""What yt-dlp's messages mean: a cause, the reason that a clip gets, and whether to ask again.

yt-dlp has no codes for most of them, only words; they are compared without capitals and with one kind of apostrophe,
the specific ones first. Source: docs/sources.md, Videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from avpipe.errors import Reason


class Again(Enum):
    """Whether and when to try a video again."""

    NO = "no"
    NOW = "now"
    """In this run, in a fresh folder, a few times."""
    LATER = "later"
    """In a later run."""
    STOP_HOST = "stop_host"
    """Nothing more is asked of this host in this run, and the video is not recorded as gone."""
    STOP_RUN = "stop_run"
    """No video can be had before something is mended here."""


@dataclass(frozen=True)
class Answer:
    """What a message means: its cause by name, the clip's reason (None: not tried), and whether to ask again."""

    cause: str
    reason: Reason | None
    again: Again


_MISSING, _BLOCKED = Reason.MISSING, Reason.BLOCKED
_TRANSIENT = Answer("transient", Reason.TIMEOUT, Again.NOW)
INCOMPLETE = Answer("incomplete", Reason.DECODE_ERROR, Again.NOW)
STALLED = Answer("stalled", Reason.TIMEOUT, Again.NOW)

TABLE: tuple[tuple[str, Answer], ...] = (
    ("confirm you're not a bot", Answer("bot_wall", None, Again.STOP_HOST)),
    ("captcha challenge", Answer("bot_wall", None, Again.STOP_HOST)),
    ("all player responses are invalid", Answer("bot_wall", None, Again.STOP_HOST)),
    ("rate-limited by youtube", Answer("rate_limited", None, Again.STOP_HOST)),
    ("this content isn't available, try again later", Answer("rate_limited", None, Again.STOP_HOST)),
    ("http error 429", Answer("rate_limited", None, Again.STOP_HOST)),
    ("no supported javascript runtime", Answer("tool_outdated", None, Again.STOP_RUN)),
    ("n challenge solving failed", Answer("tool_outdated", None, Again.STOP_RUN)),
    ("signature solving failed", Answer("tool_outdated", None, Again.STOP_RUN)),
    ("requested format is not available", Answer("tool_outdated", None, Again.STOP_RUN)),
    ("confirm your age", Answer("age", _BLOCKED, Again.NO)),
    ("age-restricted", Answer("age", _BLOCKED, Again.NO)),
    ("members-only", Answer("members", _BLOCKED, Again.NO)),
    ("available to this channel's members", Answer("members", _BLOCKED, Again.NO)),
    ("private video", Answer("private", _MISSING, Again.NO)),
    ("not made this video available in your country", Answer("region", _BLOCKED, Again.NO)),
    ("not available in your country", Answer("region", _BLOCKED, Again.NO)),
    ("blocked it in your country", Answer("region", _BLOCKED, Again.NO)),
    ("not available from your location", Answer("region", _BLOCKED, Again.NO)),
    ("account associated with this video has been terminated", Answer("terminated", _MISSING, Again.NO)),
    ("uploader has closed their youtube account", Answer("terminated", _MISSING, Again.NO)),
    ("has been removed", Answer("removed", _MISSING, Again.NO)),
    ("removed for violating", Answer("removed", _MISSING, Again.NO)),
    ("this video does not exist", Answer("removed", _MISSING, Again.NO)),
    ("this live event will begin", Answer("live", _MISSING, Again.NO)),
    ("premieres in", Answer("live", _MISSING, Again.NO)),
    ("drm protected", Answer("drm", _MISSING, Again.NO)),
    ("unsupported url", Answer("bad_url", _MISSING, Again.NO)),
    ("incomplete youtube id", Answer("bad_url", _MISSING, Again.NO)),
    ("is not a valid url", Answer("bad_url", _MISSING, Again.NO)),
    ("http error 404", Answer("gone", _MISSING, Again.NO)),
    ("http error 410", Answer("gone", _MISSING, Again.NO)),
    ("http error 403", Answer("forbidden", _BLOCKED, Again.NOW)),
    ("http error 401", Answer("forbidden", _BLOCKED, Again.NO)),
    ("no space left on device", Answer("disk_full", None, Again.STOP_RUN)),
    ("disk quota exceeded", Answer("disk_full", None, Again.STOP_RUN)),
    ("certificate verify failed", Answer("tls", None, Again.STOP_RUN)),
    ("http error 5", _TRANSIENT),
    ("http error 408", _TRANSIENT),
    ("http error 425", _TRANSIENT),
    ("timed out", _TRANSIENT),
    ("timeout", _TRANSIENT),
    ("connection reset", _TRANSIENT),
    ("connection refused", _TRANSIENT),
    ("connection aborted", _TRANSIENT),
    ("remote end closed connection", _TRANSIENT),
    ("more expected", _TRANSIENT),
    ("temporary failure in name resolution", _TRANSIENT),
    ("failed to resolve", _TRANSIENT),
    ("unable to download video data", _TRANSIENT),
    ("video unavailable", Answer("unavailable", _MISSING, Again.LATER)),
    ("video is unavailable", Answer("unavailable", _MISSING, Again.LATER)),
    ("video is not available", Answer("unavailable", _MISSING, Again.LATER)),
)
"""Part of a message, in small letters, and its meaning; the first that fits counts."""


def answer_to(message: str) -> Answer | None:
    """What a message of yt-dlp means; None: it is not in the table, and the job fails with it."""
    text = message.replace("\u2019", "'").replace("\u2018", "'").casefold()
    return next((answer for part, answer in TABLE if part in text), None)
