"""A small retrieval problem and models small enough to train on it within a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avpipe.retrieval.packs import ClipSource, Pack, PackInfo
from avpipe.retrieval.settings import Run
from avpipe.retrieval.text import WordTable

WORDS = ["pan", "oil", "cut", "fry", "mix", "egg", "stir", "add"]
SIZES = {"embedding_dim": 8, "audio_channels": 2}


def word_table(dimension: int = 300) -> WordTable:
    vectors = np.random.default_rng(11).normal(size=(len(WORDS), dimension)).astype(np.float32)
    return WordTable(WORDS, vectors, "made")


def make_pack(n: int = 24, *, seed: int = 0, frames: tuple[int, int] = (40, 90), missing: int = 0) -> Pack:
    """Clips of which sound, pictures and captions are noisy images of one hidden code of 4 numbers."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    to_audio, to_video = fixed.normal(size=(4, 40)), fixed.normal(size=(4, 4096))
    codes = rng.normal(size=(n, 4))
    lengths = rng.integers(*frames, size=n)
    pairs = zip(codes, lengths, strict=True)
    audio = [-40 + 8 * (code @ to_audio) + rng.normal(size=(length, 40)) for code, length in pairs]
    video = (codes @ to_video + 0.1 * rng.normal(size=(n, 4096))).astype(np.float32)
    # Of the words for the signs of the code's numbers each caption has three, in any order.
    words = [[WORDS[2 * place + (value > 0)] for place, value in enumerate(code)] for code in codes]
    captions = [tuple(" ".join(rng.permutation(each)[:3]) for _ in range(rng.integers(1, 4))) for each in words]
    return Pack(
        ids=[f"clip{seed}-{index:03d}" for index in range(n)],
        video_2d=video[:, :2048],
        video_3d=video[:, 2048:],
        audio=np.clip(np.concatenate(audio), -80, 0).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_frames=lengths.astype(np.int64),
        captions=captions,
        eval_captions=[each[0] for each in captions],
        sources=[ClipSource()] * n,
        info=PackInfo(
            origin="extracted",
            expected=n + missing,
            missing=[{"clip_id": f"lost{i}", "reason": "no_audio", "detail": ""} for i in range(missing)],
        ),
    )


def run_settings(**changes: Any) -> Run:
    """A run in which every quirk is decided."""
    values: dict[str, Any] = {
        **SIZES, "weights": "random", "epochs": 3, "batch_size": 8, "learning_rate": 1e-3,
    } | changes  # fmt: skip
    return Run(**values).resolved("corrected")


def changed(run: Run, **changes: Any) -> Run:
    """A run with other settings."""
    return run.model_copy(update=changes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
