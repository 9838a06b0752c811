"""A process for one video: a request as JSON on stdin, an answer as JSON on stdout.

It is a process of its own so that a time limit can end it with everything that it has started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

FORMAT = (
    "bv*[height<={0}][vcodec^=avc1]+ba[ext=m4a]/b[height<={0}][ext=mp4]/bv*[height<={0}]+ba/b[height<={0}]/bv*+ba/b"
)


class _Quiet:
    """Keeps what yt-dlp would print."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def debug(self, message: str) -> None:
        """Nothing."""

    def warning(self, message: str) -> None:
        """Keep a warning: some of them are the cause of the error that follows."""
        self.warnings.append(message)

    def error(self, message: str) -> None:
        """Nothing: it comes as an exception as well."""


def download(request: dict[str, Any]) -> dict[str, Any]:
    """Download a video into a folder.

    Args:
        request: `url`, `folder` (empty), `max_height`, and `cookies` and `segment` or None.

    Returns:
        `format`, `seconds` as the site says (None: it does not), `version` of yt-dlp; or `error` with `warnings`.
    """
    import yt_dlp

    messages = _Quiet()
    options: dict[str, Any] = {
        "outtmpl": {"default": os.path.join(request["folder"], "v.%(ext)s")},  # noqa: PTH118 - yt-dlp takes text
        "format": FORMAT.format(request["max_height"]),
        "merge_output_format": "mkv/mp4",
        "logger": messages,
        "quiet": True,
        "noprogress": True,
        "retries": 3,
        "extractor_retries": 3,
        "socket_timeout": 20,
        "continuedl": False,
        "overwrites": True,
        "cachedir": False,
        "noplaylist": True,
        "usenetrc": False,
        "cookiefile": request.get("cookies"),
    }
    if request.get("segment"):
        options["download_ranges"] = yt_dlp.utils.download_range_func(None, [request["segment"]])
        options["force_keyframes_at_cuts"] = True
    try:
        with yt_dlp.YoutubeDL({key: value for key, value in options.items() if value is not None}) as loader:
            found = loader.extract_info(request["url"], download=True)
        found = found or {}
        length = found.get("duration")
        return {
            "format": str(found.get("format_id")),
            "seconds": float(length) if isinstance(length, int | float) else None,
            "version": yt_dlp.version.__version__,
        }
    except (yt_dlp.utils.YoutubeDLError, OSError) as error:
        return {"error": str(error), "warnings": messages.warnings, "version": yt_dlp.version.__version__}


def _end_with(parent: int) -> None:
    """Wait until the process that asked is gone, however it ended, then end all of this process's group."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Answer the request on stdin."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answer = download(json.load(sys.stdin))
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
