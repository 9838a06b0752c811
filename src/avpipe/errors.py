"""What can go wrong: errors for the person at the keyboard, and the closed list of reasons a clip may fail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

_NAMES_SHOWN = 10

# Control characters, what else Python takes for the end of a line, and bytes of a file name that are no UTF-8.
_NOT_IN_A_LINE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


class AvpipeError(Exception):
    """A problem that the user can mend; the message says what was found, what was expected and what to do next.

    The command line prints the message alone, without a traceback.
    """


class Reason(StrEnum):
    """Why a requested clip has no result. The list is closed: any other exception fails the job."""

    MISSING = "missing"
    BLOCKED = "blocked"
    TIMEOUT = "timeout"
    DECODE_ERROR = "decode_error"
    NO_VIDEO = "no_video"
    NO_AUDIO = "no_audio"
    TOO_SHORT = "too_short"
    DUPLICATE = "duplicate"
    TOO_LONG = "too_long"
    OUT_OF_MEMORY = "out_of_memory"


class ClipFailure(Exception):  # noqa: N818 - an expected outcome of a clip, not an error of the program
    r"""One clip cannot be processed, for a reason from the closed list.

    Args:
        reason: one of `Reason`.
        detail: one line with numbers, for the status table and the log. File names may hold line breaks: what
            would break the line becomes its escape, such as \n.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        detail = one_line(detail)
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[ClipFailure], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)


def one_line(text: str) -> str:
    r"""Text, such as a file's name, without what would break a line or is no UTF-8: escapes, such as \n, instead."""
    return _NOT_IN_A_LINE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def repeated(names: Iterable[str]) -> list[str]:
    """What occurs more than once, sorted."""
    return sorted(name for name, n in Counter(names).items() if n > 1)


def listed(names: Iterable[str]) -> str:
    """The first ten of some names and how many there are, for an error message."""
    names = sorted(names)
    more = f" … ({len(names)} in all)" if len(names) > _NAMES_SHOWN else f" ({len(names)})"
    return ", ".join(names[:_NAMES_SHOWN]) + more
