"""How a stage's fingerprint is compared with the recorded one; the test asserts it, and make.py keeps what agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
from extractor_steps import first_difference

from avpipe import versions

TRAINED = (
    versions.GZSL_TRAIN,
    versions.GZSL_EVALUATE,
    versions.RETRIEVAL_TRAIN,
    versions.RETRIEVAL_EVALUATE,
    versions.RETRIEVAL_INDEX,
)
"""Stages whose fingerprint has an entry for each method or model."""
RTOL, ATOL = 2e-3, 2e-4
"""Other CPUs sum float32 in another order; five Adam steps amplify that most."""


def difference(version: str, recorded: Any, now: Any) -> str | None:
    """What differs between a stage's recorded fingerprint and the present one, in words; None where they agree."""
    if version in TRAINED:
        if recorded.keys() != now.keys():
            return f"is of {', '.join(now)}; recorded are {', '.join(recorded)}"
        differing = [name for name, values in recorded.items() if not _close(values, now[name])]
        return f"differs for {', '.join(differing)}" if differing else None
    if isinstance(recorded, dict):
        return first_difference(recorded, now)
    if isinstance(recorded, str):
        return None if recorded == now else f"is {now}, recorded is {recorded}"
    return None if _close(recorded, now) else f"is {now}, recorded are {recorded}"


def keep_what_agrees(recorded: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The present fingerprints, but with the recorded numbers wherever they agree.

    Another machine's last digits would otherwise change every line, and hide the one that matters.
    """
    kept = dict(now)
    for version, fingerprint in recorded.items():
        if version in TRAINED and version in now:
            kept[version] = {
                name: fingerprint[name] if name in fingerprint and _close(fingerprint[name], values) else values
                for name, values in now[version].items()
            }
        elif version in now and difference(version, fingerprint, now[version]) is None:
            kept[version] = fingerprint
    return kept


def _close(recorded: list[float], now: list[float]) -> bool:
    return len(recorded) == len(now) and bool(np.allclose(now, recorded, rtol=RTOL, atol=ATOL))
