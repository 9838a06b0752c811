"""Small sounds, and packs of them with random visual vectors."""

import wave

import numpy as np

from avpipe.features.spectrogram import log_mel
from avpipe.retrieval.packs import ClipSource, Pack, PackInfo
from avpipe.retrieval.text import WordTable

RATE_HZ = 16_000


def sound(number, seconds=1.0):
    """A tone that differs from that of any other number, with some noise: int16 [n]."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(number).normal(size=len(times))
    tone = np.sin(2 * np.pi * (200 + 300 * number) * times * (1 + 0.1 * times))
    return (8000 * tone + 500 * noise).astype(np.int16)


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.asarray(samples, "<i2").tobytes())
    return path


def make_pack(seconds=(1.0, 0.7, 1.5), **changes):
    """A pack of clips c0, c1, ... whose sounds are `sound(0)`, `sound(1)`, ... of these lengths."""
    n = len(seconds)
    spectrograms = [np.ascontiguousarray(log_mel(sound(i, each)).T) for i, each in enumerate(seconds)]
    lengths = [len(each) for each in spectrograms]
    rng = np.random.default_rng(0)
    values = {
        "ids": [f"c{i}" for i in range(n)],
        "video_2d": rng.random((n, 2048), dtype=np.float32),
        "video_3d": rng.random((n, 2048), dtype=np.float32),
        "audio": np.concatenate(spectrograms),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "n_frames": np.array(lengths, np.int64),
        "captions": [(f"stir bowl {i}", "pour milk") for i in range(n)],
        "eval_captions": [""] * n,
        "sources": [ClipSource(f"film{i}.mp4", 2.0 * i, 2.0 * i + each) for i, each in enumerate(seconds)],
        "info": PackInfo("extracted", n + 1, [{"clip_id": "gone", "reason": "no_audio", "detail": "none"}]),
    }
    return Pack(**{**values, **changes})


def make_words(dimension=12):
    words = ["bowl", "milk", "pour", "stir"]
    return WordTable(words, np.random.default_rng(1).normal(size=(4, dimension)).astype(np.float32), "made up")
