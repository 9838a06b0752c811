"""Picture and sound of one clip of the embedded dataset, as arrays: pure functions of the clip's description.

What makes the class is large, saturated and in the middle of the picture, because networks with random
weights, which the dataset must work with, see colour and layout best. What varies between clips is drawn from
the clip's seeds: place, size, speed, phase, hue, background, loudness, tuning, noise.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from avpipe.demo.classes import DemoClass

WIDTH, HEIGHT = 160, 120
SAMPLE_RATE_HZ = 44100

_HUES = {"red": 0.0, "yellow": 1 / 6, "green": 1 / 3, "blue": 2 / 3}
_HALF_SIZES = {"disc": (27, 27), "pole": (13, 44), "plank": (44, 13)}  # pixels, half width and half height
_FREQUENCIES_HZ = {"low": 150.0, "middle": 600.0, "high": 2400.0}


class Visible(Protocol):
    """What is seen of a class or a scene: colour, shape, and how the object moves (sway, bounce, swell)."""

    @property
    def colour(self) -> str:
        """Key of the hue."""

    @property
    def shape(self) -> str:
        """Key of the half sizes."""

    @property
    def motion(self) -> str:
        """sway, bounce or swell; anything else rests."""


@dataclass(frozen=True)
class Variation:
    """What differs between the clips of a class.

    Attributes:
        centre: of the object, pixels from the middle of the picture, right and down.
        scale: factor on the object's size.
        rate_hz: of the motion; phase: where it starts, in turns.
        hue_shift: in turns of the colour circle.
        background: grey level in 0..255 of the backdrop, slope: its change over the picture, right and down.
        grain: standard deviation of the backdrop's fixed noise, grey levels.
        tuning: factor on the pitch; beats_hz: of the rhythm; loudness: peak in 0..1; hiss: noise relative to
            it.
        noise_seed: of the two noises.
    """

    centre: tuple[float, float]
    scale: float
    rate_hz: float
    phase: float
    hue_shift: float
    background: float
    slope: tuple[float, float]
    grain: float
    tuning: float
    beats_hz: float
    loudness: float
    hiss: float
    noise_seed: int


def name_seed(name: str) -> int:
    """A seed that depends on a name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def draw_variation(group_seed: int, clip_seed: int) -> Variation:
    """A clip's variation: what a scene has in common comes from its group, as in UCF-101, the rest from the clip."""
    group, clip = np.random.default_rng(group_seed), np.random.default_rng(clip_seed)
    return Variation(
        centre=(float(clip.uniform(-6, 6)), float(clip.uniform(-6, 6))),
        scale=float(group.uniform(0.9, 1.1)),
        rate_hz=float(clip.uniform(1.4, 2.0)),
        phase=float(clip.uniform(0, 1)),
        hue_shift=float(group.uniform(-0.02, 0.02)),
        background=float(group.uniform(40, 90)),
        slope=(float(group.uniform(-20, 20)), float(group.uniform(-20, 20))),
        grain=float(group.uniform(2, 8)),
        tuning=float(group.uniform(0.92, 1.08)),
        beats_hz=float(clip.uniform(5.0, 6.5)),
        loudness=float(clip.uniform(0.25, 0.6)),
        hiss=float(group.uniform(0.005, 0.03)),
        noise_seed=clip_seed,
    )


def picture(demo: Visible, variation: Variation, time_seconds: float) -> npt.NDArray[np.uint8]:
    """The frame at a time, uint8 [120, 160, 3] RGB."""
    x, y = np.linspace(-80, 80, WIDTH), np.linspace(-60, 60, HEIGHT)[:, None]
    backdrop = _backdrop(variation)
    wave = np.sin(2 * np.pi * (variation.rate_hz * time_seconds + variation.phase))
    dx = 22 * wave if demo.motion == "sway" else 0.0
    dy = 22 * wave if demo.motion == "bounce" else 0.0
    grow = 1 + 0.45 * wave if demo.motion == "swell" else 1.0
    inside = _coverage(demo, x - variation.centre[0] - dx, y - variation.centre[1] - dy, variation.scale * grow)
    colour = np.array(colorsys.hsv_to_rgb((_HUES[demo.colour] + variation.hue_shift) % 1, 0.95, 0.95)) * 255
    frame = backdrop[..., None] * (1 - inside[..., None]) + colour * inside[..., None]
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)  # one per clip that is being drawn
def _backdrop(variation: Variation) -> npt.NDArray[np.float64]:
    x, y = np.linspace(-80, 80, WIDTH), np.linspace(-60, 60, HEIGHT)[:, None]
    noise = np.random.default_rng(variation.noise_seed).standard_normal((HEIGHT, WIDTH)) * variation.grain
    return variation.background + variation.slope[0] * x / 80 + variation.slope[1] * y / 60 + noise


def _coverage(
    demo: Visible, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], scale: float
) -> npt.NDArray[np.float64]:
    """How much of each pixel the object covers, 0..1, with an edge one pixel wide."""
    half_width, half_height = (size * scale for size in _HALF_SIZES[demo.shape])
    if demo.shape == "disc":
        distance = np.hypot(x, y) - half_width
    else:
        distance = np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
    return np.clip(0.5 - distance, 0, 1)


def sound(demo: DemoClass, variation: Variation, duration_seconds: float) -> npt.NDArray[np.float32]:
    """The sound track, float32 [samples] at 44.1 kHz in -1..1, one channel."""
    time = np.arange(round(duration_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    frequency = _FREQUENCIES_HZ[demo.pitch] * variation.tuning
    tone = sum(np.sin(2 * np.pi * frequency * k * time + k) / k for k in (1, 2, 3))
    if demo.rhythm == "beat":
        within_beat = (time * variation.beats_hz + variation.phase) % 1
        tone = tone * np.clip((0.45 - within_beat) * 40, 0, 1) * np.clip(within_beat * 40, 0, 1)
    noise = np.random.default_rng(variation.noise_seed + 1).standard_normal(len(time)) * variation.hiss
    return (variation.loudness * (tone / 1.8 + noise)).clip(-1, 1).astype(np.float32)
