"""How much of the clips that are ok was decoded, for the account of a dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from avpipe.inventory.status import OK, ClipStatus

THRESHOLD = 0.95
"""Clips of which less was decoded are named in the account."""


def summarise_decoding(stages: Mapping[str, list[ClipStatus]], failed: Collection[str] = ()) -> dict[str, Any]:
    """How much of the clips in some stages was decoded.

    Args:
        stages: the rows of each stage's status tables.
        failed: clips that are not used, and not counted here.

    Returns:
        `decoded`, the schema's `DecodedSummary`: each clip with the lowest shares of any stage; and `silent_sound`, the
        clips whose sound is digital silence.
    """
    shares: dict[str, dict[str, float | None]] = {}
    silent: set[str] = set()
    for row in (row for rows in stages.values() for row in rows if row.status == OK):
        if row.clip_id in failed:
            continue
        clip = shares.setdefault(row.clip_id, {"pictures_share": None, "sound_share": None})
        for name in clip:
            clip[name] = min((share for share in (clip[name], getattr(row, name)) if share is not None), default=None)
        if row.silent_sound:
            silent.add(row.clip_id)
    lacking = [{"clip_id": clip_id, **clip} for clip_id, clip in shares.items() if _lowest(clip) < THRESHOLD]
    lowest = {}
    for name in ("pictures_share", "sound_share"):
        known = [value for clip in shares.values() if (value := clip[name]) is not None]
        lowest[f"lowest_{name}"] = min(known, default=None)
    lacking.sort(key=lambda clip: (_lowest(clip), clip["clip_id"]))
    return {
        "decoded": {"threshold": THRESHOLD, "below": len(lacking), **lowest, "clips": lacking},
        "silent_sound": sorted(silent),
    }


def _lowest(clip: Mapping[str, Any]) -> float:
    return min((clip[name] for name in ("pictures_share", "sound_share") if clip[name] is not None), default=1.0)
