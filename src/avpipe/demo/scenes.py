"""Scenes of the embedded dataset demo_retrieval: what is seen, heard and said of each combination of factors.

Three latent factors are shared by picture, sound and caption: colour and pitch, shape and rhythm, motion and
timbre. So whoever hears a scene knows how it looks, and retrieval is possible by construction; it is not once
pictures are permuted among the scenes. Loudness is not a factor: a spectrogram is relative to its own loudest
cell (docs/networks.md, Spectrogram of AVLnet).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from avpipe.demo.render import SAMPLE_RATE_HZ, Variation, draw_variation, name_seed

_PITCH_OF_COLOUR = {"red": "deep", "yellow": "low", "green": "high", "blue": "shrill"}
_RHYTHM_OF_SHAPE = {"disc": "drone", "pole": "beat", "plank": "flutter"}
_TIMBRE_OF_MOTION = {"rest": "ring", "sway": "buzz", "swell": "hiss"}

_FREQUENCIES_HZ = {"deep": 180.0, "low": 450.0, "high": 1100.0, "shrill": 2700.0}
_RATE_OF_RHYTHM = {"beat": 0.55, "flutter": 1.7}  # times the variation's beats_hz: about 3 and 10 Hz
_HARMONICS_OF_TIMBRE = {"ring": 1, "buzz": 8, "hiss": 1}  # of equal amplitude
_BREATH_OF_TIMBRE = {"ring": 0.0, "buzz": 0.0, "hiss": 0.25}  # deviation of the noise that sounds with the tone
_FADE_SECONDS = 0.01  # at both ends of a scene, so that cuts do not click

PHRASINGS = (
    "a {colour} {shape} {moves} over a {pitch} {rhythm} that {sounds}",
    "The {pitch} {rhythm} {sounds} while the {colour} {shape} {moves}",
    "{moving} to a {sounding} {pitch} {rhythm}, the {shape} is {colour}",
)
UNKNOWN_WORDS = frozenset({"a", "to"})
"""Words of captions that words.vec lacks, as GoogleNews' vectors do."""


@dataclass(frozen=True, order=True)
class Combination:
    """One value of each factor, named by what is seen."""

    colour: str
    shape: str
    motion: str

    @property
    def pitch(self) -> str:
        """The pitch that goes with the colour."""
        return _PITCH_OF_COLOUR[self.colour]

    @property
    def rhythm(self) -> str:
        """The rhythm that goes with the shape."""
        return _RHYTHM_OF_SHAPE[self.shape]

    @property
    def timbre(self) -> str:
        """The timbre that goes with the motion."""
        return _TIMBRE_OF_MOTION[self.motion]


COMBINATIONS = tuple(
    Combination(*values) for values in itertools.product(_PITCH_OF_COLOUR, _RHYTHM_OF_SHAPE, _TIMBRE_OF_MOTION)
)
"""All 36, in a fixed order."""


def caption(combination: Combination, phrasing: int) -> str:
    """The caption of a scene, which names all six values; `phrasing` counts from 0 in `PHRASINGS`."""
    return PHRASINGS[phrasing].format(
        colour=combination.colour,
        shape=combination.shape,
        moves=f"{combination.motion}s",
        moving=f"{combination.motion}ing",
        pitch=combination.pitch,
        rhythm=combination.rhythm,
        sounds=_third_person(combination.timbre),
        sounding=f"{combination.timbre}ing",
    )


def _third_person(verb: str) -> str:
    return f"{verb}es" if verb.endswith(("s", "z")) else f"{verb}s"


def scene_variation(film_id: str, clip_id: str) -> Variation:
    """What is drawn for a scene, from its film's name and its own.

    Films differ less in their backdrops than groups of demo_gzsl do. Networks with random weights average over the
    picture, and as drawn there, backdrops made 71 % of the variance of ResNet-152's clip vectors; shapes made 3 %.
    """
    drawn = draw_variation(name_seed(film_id), name_seed(clip_id))
    return replace(
        drawn,
        centre=(0.5 * drawn.centre[0], 0.5 * drawn.centre[1]),
        scale=1.1 * drawn.scale,
        rate_hz=1.3 * drawn.rate_hz,
        background=42 + 0.2 * drawn.background,
        slope=(0.2 * drawn.slope[0], 0.2 * drawn.slope[1]),
        grain=0.25 * drawn.grain,
        hiss=0.3 * drawn.hiss,
    )


def scene_sound(combination: Combination, variation: Variation, duration_seconds: float) -> npt.NDArray[np.float32]:
    """The sound of a scene, float32 [samples] at 44.1 kHz in -1..1, one channel."""
    time = np.arange(round(duration_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    frequency = _FREQUENCIES_HZ[combination.pitch] * variation.tuning
    noise = np.random.default_rng(variation.noise_seed + 1).standard_normal((2, len(time)))
    harmonics = range(1, _HARMONICS_OF_TIMBRE[combination.timbre] + 1)
    # Phases of k^2 radians keep the harmonics from peaking together.
    tone = sum(np.sin(2 * np.pi * frequency * k * time + k**2) for k in harmonics)
    tone = tone + _BREATH_OF_TIMBRE[combination.timbre] * noise[0]
    if combination.rhythm in _RATE_OF_RHYTHM:
        within_beat = (time * variation.beats_hz * _RATE_OF_RHYTHM[combination.rhythm] + variation.phase) % 1
        tone = tone * np.clip((0.5 - within_beat) * 20, 0, 1) * np.clip(within_beat * 20, 0, 1)
    fade = np.clip(np.minimum(time, duration_seconds - time) / _FADE_SECONDS, 0, 1)
    sound = variation.loudness * (tone / np.abs(tone).max() + variation.hiss * noise[1]) * fade
    return sound.clip(-1, 1).astype(np.float32)
