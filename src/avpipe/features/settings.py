"""Settings of the feature extractors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avpipe.settings import Precision, Settings, quirk

Storage = Literal["float32", "float16"]


class ExtractorSettings(Settings):
    """What all extractors share."""

    storage: Storage | None = Field("float32", description="Type in which the rows over time are stored.")


class NetworkSettings(ExtractorSettings):
    """What all extractors with a network share."""

    precision: Precision = Field(
        "float32",
        description="Arithmetic of the network: float32; tf32 (on a GPU; elsewhere it is float32); bfloat16 or float16 "
        "by autocast, several times slower on a processor without such units (docs/fidelity.md has the differences).",
    )
    batch_size: int = Field(8, ge=1, description="Windows per forward pass; windows of many clips share one.")


class FrameNetworkSettings(NetworkSettings):
    """What the two networks of video_feature_extractor share."""

    rotation: Literal["squeezed", "upright"] | None = quirk(
        published="squeezed",
        corrected="upright",
        description="Video with a rotation tag: turned upright, or turned and squeezed to the unturned size "
        "(docs/fidelity.md).",
    )
    storage: Storage | None = quirk(
        published="float16", corrected="float32", description="Type in which the rows over time are stored."
    )


class FrameSettings(FrameNetworkSettings):
    """What networks that see one frame at a time share."""

    rate_hz: float = Field(1.0, gt=0, le=240, description="Frames per second that are read; published: 1.")
    batch_size: int = Field(8, ge=1, description="Frames per forward pass; frames of one size share one.")


class ResNet152Settings(FrameSettings):
    """ResNet-152 (ImageNet), 2048 per frame, unit length."""


class ResNeXt101Settings(FrameNetworkSettings):
    """3D ResNeXt-101 (Kinetics), 2048 per 16 frames, unit length."""

    rate_hz: float = Field(24.0, gt=0, le=240, description="Frames per second that are read; published: 24.")
    stride_frames: int = Field(16, ge=1, description="Frames between the starts of two windows; published: 16.")


class C3DSettings(NetworkSettings):
    """C3D (Sports-1M), features after the ReLU of fc7, 4096 per window."""

    rate_hz: float = Field(25.0, gt=0, le=240, description="Frame rate to which every video is brought, in Hz.")
    stride_frames: int = Field(16, ge=1, description="Frames between the starts of two windows; published: 16.")
    invert_colours: bool | None = quirk(
        published=True,
        corrected=False,
        description="Colour negative by byte overflow, as published for UCF and VGGSound (docs/fidelity.md).",
    )


class VGGishSettings(NetworkSettings):
    """VGGish, 128 per 0.96 s example."""

    postprocess: bool = Field(True, description="Apply the published PCA and 8-bit quantisation, as AVCA did.")
    final_relu: bool = Field(True, description="ReLU on the embedding, as in the port that AVCA used.")
    resampler: Literal["resampy-0.2.2", "resampy-0.4"] = Field(
        "resampy-0.2.2",
        description="Filter of the resampler to 16 kHz; AVCA's environment pins 0.2.2 (docs/fidelity.md).",
    )
    batch_size: int = Field(32, ge=1, description="Examples per forward pass; examples of many clips share one.")


class SeLaViSettings(NetworkSettings):
    """SeLaVi (VGGSound), 512 of video and 512 of audio per window of 1 s."""

    windows: Literal["avca", "full"] | None = quirk(
        published="avca",
        corrected="full",
        description="Which windows: avca, whose windows overlap and leave out up to half of the clip; full, from "
        "the clip's start to its end (docs/fidelity.md).",
    )
    window_frames: int = Field(30, ge=1, description="Frames per window, chosen evenly; published: 30.")
    audio_rate_hz: int = Field(
        44100,
        ge=8000,
        le=192000,
        description="Sample rate of the spectrogram; AVCA used 44100, SeLaVi's own code 48000 and 24000.",
    )
    rotation: Literal["coded", "upright"] | None = quirk(
        published="coded",
        corrected="upright",
        description="Video with a rotation tag: left as coded, or turned upright (docs/fidelity.md).",
    )
    batch_size: int = Field(4, ge=1, description="Windows per forward pass; windows of many clips share one.")


class SpectrogramSettings(ExtractorSettings):
    """AVLnet's log-mel spectrogram, 40 bands per 10 ms, in dB below the clip's loudest cell."""

    quantise: bool | None = quirk(
        published=True,
        corrected=False,
        description="Lower the sound by 4 dB and round it to 16 bits after resampling, as the published sox command "
        "does (docs/fidelity.md).",
    )
