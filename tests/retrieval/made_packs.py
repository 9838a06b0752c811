"""Small packs of drawn numbers."""

from __future__ import annotations

import numpy as np

from avpipe.retrieval.packs import ClipSource, Pack, PackInfo

LENGTHS = (30, 16, 45, 1)


def make_pack(lengths=LENGTHS, *, dtype=np.float32, origin="extracted", captions=None, seed=0, **parts) -> Pack:
    """A pack of clips with spectrograms of these lengths; `parts` replace what is drawn."""
    rng = np.random.default_rng(seed)
    n = len(lengths)
    drawn = {
        "ids": [f"clip{number}" for number in range(n)],
        "video_2d": rng.random((n, 2048), np.float32),
        "video_3d": rng.random((n, 2048), np.float32),
        "audio": (-80 * rng.random((sum(lengths), 40))).astype(dtype),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "n_frames": np.array(lengths, np.int64),
        "captions": captions or [(f"Boil the pasta {number}", "パスタを茹でる") for number in range(n)],
        "eval_captions": [""] * (n - 1) + ["the fixed one"],
        "sources": [ClipSource(f"videos/{number}.mp4", 1.5, None) for number in range(n)],
        "info": PackInfo(
            origin,
            n + 1,
            [{"clip_id": "mute", "reason": "no_audio", "detail": "no sound track"}],
            "5eed",
            {"audio": {"stage": "spectrogram/1"}},
            ["1 clip is odd"],
        ),
    }
    return Pack(**(drawn | parts))
