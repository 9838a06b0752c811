"""One run of a retrieval model, as a workflow hands it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from avpipe.retrieval.settings import Run


@dataclass(frozen=True)
class RunJob:
    """One run in one variant, as plain values that a workflow can hand over.

    Attributes:
        name: of the run.
        variant: "main", or "permuted": trained with pictures permuted among the clips, a control.
        run: the run's settings as plain values, quirks decided.
        audio_frames: spectrogram frames that are read of a clip, or that a window has.
        max_words: known words of a caption that are read.
        seeds: of weights, order and draws.
        long_clips: in tests, "cut" or "average".
    """

    name: str
    variant: Literal["main", "permuted"]
    run: Mapping[str, Any]
    audio_frames: int
    max_words: int
    seeds: Sequence[int]
    long_clips: Literal["cut", "average"] = "cut"

    def settings(self) -> Run:
        """The run's settings."""
        return Run.model_validate(dict(self.run))
