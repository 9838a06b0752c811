"""The 24 classes of the embedded zero-shot datasets: what is seen and heard, and word vectors of the same factors.

A class is a combination of five factors, and its word vector is the sum of one random unit vector per factor
value. So whoever learns from seen classes how each factor looks or sounds can recognise a class never seen:
zero-shot learning is possible here by construction, and impossible once the vectors are permuted.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, fields

import numpy as np
import numpy.typing as npt

WORD_DIMENSION = 300


@dataclass(frozen=True)
class DemoClass:
    """One class: what is visible (colour, shape, motion) and what is audible (pitch, rhythm)."""

    colour: str
    shape: str
    motion: str
    pitch: str
    rhythm: str

    @property
    def name(self) -> str:
        """The folder's name, in UCF-101's manner: RedDiscSwayMiddleDrone."""
        return "".join(value.capitalize() for value in astuple(self))

    @property
    def phrase(self) -> str:
        """The name of its word vector; it sorts differently, as some of UCF's do (docs/methods.md, Class vectors)."""
        return f"{self.pitch} {self.rhythm}, {self.colour} {self.shape} in {self.motion}"


def _classes(*rows: str) -> tuple[DemoClass, ...]:
    return tuple(DemoClass(*row.split()) for row in rows)


TRAIN = _classes(
    "red disc sway middle drone",
    "red pole bounce low beat",
    "red plank swell high beat",
    "green disc bounce high beat",
    "green pole swell high drone",
    "green plank sway low beat",
    "blue disc swell low drone",
    "blue pole bounce middle drone",
    "blue plank swell middle beat",
    "yellow disc sway high beat",
    "yellow pole sway low drone",
    "yellow plank bounce middle drone",
)
"""Seen in both stages. Balanced in every factor, so that a linear model can tell the factors apart."""
VAL_UNSEEN = _classes(
    "red disc swell middle beat",
    "green pole swell low drone",
    "green plank bounce high drone",
    "blue plank sway middle drone",
    "yellow disc bounce low beat",
    "yellow pole sway high beat",
)
"""Unseen in stage 1, trained in stage 2; any two differ in three factors or more."""
TEST_UNSEEN = _classes(
    "red disc bounce high drone",
    "green disc sway low drone",
    "green pole bounce middle beat",
    "blue pole swell low beat",
    "blue plank sway high beat",
    "yellow plank swell middle drone",
)
"""Never trained; any two differ in three factors or more, each factor value occurs in seen classes."""
ALL = (*TRAIN, *VAL_UNSEEN, *TEST_UNSEEN)


def word_vectors() -> dict[str, npt.NDArray[np.float32]]:
    """phrase -> float32 [300] of unit length, sorted by phrase."""
    return {demo.phrase: _word_vector(demo) for demo in sorted(ALL, key=lambda demo: demo.phrase)}


def _word_vector(demo: DemoClass) -> npt.NDArray[np.float32]:
    parts = [random_unit_vector(f"{field.name}={getattr(demo, field.name)}") for field in fields(demo)]
    total = np.sum(parts, axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def random_unit_vector(name: str) -> npt.NDArray[np.float64]:
    """A random unit vector, float64 [300], that depends on the name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(WORD_DIMENSION)
    return vector / np.linalg.norm(vector)
