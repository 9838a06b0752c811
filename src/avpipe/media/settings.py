"""Settings of how media files are brought to a frame rate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avpipe.settings import Settings


class FrameRate(Settings):
    """How videos are brought to the frame rate of an extractor."""

    mode: Literal["stream", "file"] = Field(
        "stream",
        description="stream: frames are chosen while decoding, nothing is encoded again. file: near-lossless clips "
        "are written first, as the published pipeline did, and deleted after use unless Snakemake runs with --notemp. "
        "Both choose the same frames.",
    )
    crf: int = Field(6, ge=0, le=51, description="Quality of the written clips (x264 CRF; 0 is lossless).")
