"""What FFmpeg's libraries say while they read and decode: they conceal damage, and tell of it in their log only."""

from __future__ import annotations

import logging
import re
from typing import Any

import av.logging
from av.error import FFmpegError

# Messages at error level about what is no part of a picture: side information that cameras write in their own ways, and
# packets that hold nothing else.
_HARMLESS = re.compile(r"\bSEI\b|no frame!|[Uu]ser[ _-]?data|[Cc]aption|[Tt]imecode")

av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)  # FFmpeg's threads share one log: equal messages of two files are two
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False


class listening:  # noqa: N801
    """Collect what FFmpeg says at error level in this thread; decoders must not use threads of their own.

    Entered for every packet: a generator instead of a class would take twice as long.
    """

    def __enter__(self) -> list[str]:
        self._said: list[str] = []
        self._capture = av.logging.Capture()
        self._capture.__enter__()
        return self._said

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._capture.__exit__(kind, error, trace)
        self._said += [message.strip() for _, _, message in self._capture.logs]


def harmful(said: list[str]) -> list[str]:
    """Those of FFmpeg's messages that are about pictures or sound."""
    return [message for message in said if not _HARMLESS.search(message)]


def explain(error: FFmpegError, said: list[str]) -> str:
    """Say in one line why FFmpeg stopped; its error numbers mean other things elsewhere, so its messages come first."""
    return f"FFmpeg says: {said[-1] if said else error.strerror or str(error)}"
