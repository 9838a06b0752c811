"""Settings of the feature extractors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avpipe.config.quirks import Settings, quirk


class C3DSettings(Settings):
    """C3D (Sports-1M), features after the ReLU of fc7, 4096 per window."""

    rate_hz: float = Field(25.0, gt=0, le=240, description="Frame rate to which every video is brought, in Hz.")
    stride_frames: int = Field(16, ge=1, description="Frames between the starts of two windows; published: 16.")
    invert_colours: bool | None = quirk(
        published=True,
        corrected=False,
        description="Colour negative by byte overflow, as published for UCF and VGGSound (docs/fidelity.md).",
    )
    batch_size: int = Field(8, ge=1, description="Windows per forward pass; windows of many clips share one.")


class VGGishSettings(Settings):
    """VGGish, 128 per 0.96 s example."""

    postprocess: bool = Field(True, description="Apply the published PCA and 8-bit quantisation, as AVCA did.")
    final_relu: bool = Field(True, description="ReLU on the embedding, as in the port that AVCA used.")
    resampler: Literal["resampy-0.2.2", "resampy-0.4"] = Field(
        "resampy-0.2.2",
        description="Filter of the resampler to 16 kHz; AVCA's environment pins 0.2.2 (docs/fidelity.md).",
    )
    batch_size: int = Field(32, ge=1, description="Examples per forward pass; examples of many clips share one.")
