"""Small videos made by the ffmpeg program, and the frames that the program reads from them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
UNCOMPRESSED = ("-c:v", "rawvideo", "-pix_fmt", "yuv444p")  # of any size; H.264 refuses odd and tiny ones


def run(*arguments: str) -> bytes:
    """Run the program; what it writes to its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def make_video(
    target: Path, size: str = "320x240", rate: str = "25", seconds: float = 2.0, codec: tuple[str, ...] = H264
) -> Path:
    """A moving test picture."""
    run("-f", "lavfi", "-i", f"testsrc2=rate={rate}:duration={seconds},scale={size}", *codec, str(target))
    return target


def turn(path: Path, target: Path, degrees: int) -> Path:
    """The same video with a rotation tag, `degrees` counted against the clock."""
    run("-display_rotation", str(degrees), "-i", str(path), "-c", "copy", str(target))
    return target


def program_frames(path: Path, filters: str, width: int, height: int) -> Frames:
    """What the program gives with these filters, which follow its own rotation: uint8 [n, height, width, 3]."""
    raw = run("-i", str(path), "-vf", filters, "-fps_mode", "cfr", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
