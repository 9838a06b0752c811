"""What the retrieval models are trained on: batches of clips, and the packs they come from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.retrieval.packs import Pack
from avpipe.retrieval.text import WordTable

_CAPTIONS, PICTURES = 0xCA97, 0x91C7  # keep a seed's streams apart
_SHARE_OF_GPU = 0.25  # of the free memory that spectrograms may take; networks and activations want the rest


@dataclass(frozen=True)
class Batch:
    """Some clips. B clips; clip i has n_i stored spectrogram frames, at most the window's.

    Attributes:
        audio: spectrograms, each [n_i, 40], float16 or float32.
        n_frames: frames that each clip had before it was cut to the window; what follows n_i is silence.
        video: [B, 4096], the two halves normalised.
        text: [B, max_words, word_dim] float32, zeros after the last known word; None for models without text.
    """

    audio: list[Tensor]
    n_frames: list[int]
    video: Tensor
    text: Tensor | None


class Source(Protocol):
    """What the training loop reads from."""

    @property
    def n_items(self) -> int:
        """Clips of a pack, or videos of a corpus."""

    @property
    def window(self) -> int:
        """Spectrogram frames that are read of a clip."""

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> clips or videos that are not among the items."""

    def batch(self, *, seed: int, epoch: int, items: Sequence[int]) -> Batch:
        """The clips of `items` at this visit: a pure function of its arguments (and of the source's content).

        It is called in another thread than the training.
        """

    def permuted(self, seed: int) -> Source:
        """The same items with pictures permuted among them: a control that no model can learn retrieval from."""

    def fingerprint(self) -> str:
        """Digest of everything that batches depend on."""


@dataclass(frozen=True, eq=False)
class PackSource:
    """Clips of a pack. On a GPU one copy of all spectrograms stays there if it fits; else they are read as needed.

    Attributes:
        pack: the clips.
        words: vectors of the captions' words; None for models without text.
        max_words: known words of a caption that are read.
        window: spectrogram frames that are read of a clip.
        audio: all spectrograms [sum of T, 40] on the device; None where they are read from the pack.
        video: visual vectors [n, 4096] on the device, row i the picture of clip i.
        pictures: seed of the permutation that gave the clips other clips' pictures; None: their own.
    """

    pack: Pack
    words: WordTable | None
    max_words: int
    window: int
    audio: Tensor | None
    video: Tensor
    pictures: int | None = None

    @classmethod
    def make(
        cls, pack: Pack, words: WordTable | None, *, max_words: int, window: int, device: torch.device
    ) -> PackSource:
        """Put the visual vectors, and if they fit the spectrograms, onto the device.

        Raises:
            AvpipeError: captions are read, and clips have none.
        """
        if words is not None:
            require_captions(pack)
        audio = None
        if device.type == "cuda" and pack.audio.nbytes <= _SHARE_OF_GPU * torch.cuda.mem_get_info(device)[0]:
            audio = torch.from_numpy(np.array(pack.audio)).to(device)
        return cls(pack, words, max_words, window, audio, torch.from_numpy(pack.visual()).to(device))

    def permuted(self, seed: int) -> PackSource:
        """The same clips, each with another's picture, the same one in every epoch."""
        if self.pictures is not None:
            raise ValueError("the pictures are permuted already")
        rows = np.random.default_rng([seed, PICTURES]).permutation(self.n_items)
        return replace(self, video=self.video[torch.from_numpy(rows).to(self.video.device)], pictures=seed)

    @property
    def n_items(self) -> int:
        """Clips."""
        return len(self.pack)

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> clips that the pack lacks."""
        return dict(Counter(each["reason"] for each in self.pack.info.missing))

    def batch(self, *, seed: int, epoch: int, items: Sequence[int]) -> Batch:
        """The clips, each with one of its captions, drawn anew in each epoch."""
        rows = torch.as_tensor(items, device=self.video.device)
        return Batch(
            audio=[self._spectrogram(item) for item in items],
            n_frames=[int(self.pack.n_frames[item]) for item in items],
            video=self.video[rows],
            text=self._text(seed, epoch, items),
        )

    def fingerprint(self) -> str:
        """Digest of the clips, the word vectors and how they are read."""
        parts = [self.pack.digest, self.window, self.pictures]
        if self.words is not None:
            vectors = hashlib.sha256(self.words.vectors.tobytes()).hexdigest()
            parts += [self.max_words, self.words.words, vectors]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _spectrogram(self, item: int) -> Tensor:
        begin, end = (int(each) for each in self.pack.offsets[item : item + 2])
        end = min(end, begin + self.window)
        if self.audio is not None:
            return self.audio[begin:end]
        return torch.from_numpy(np.array(self.pack.audio[begin:end]))

    def _text(self, seed: int, epoch: int, items: Sequence[int]) -> Tensor | None:
        if self.words is None:
            return None
        drawn = np.random.default_rng([seed, epoch, _CAPTIONS]).random(self.n_items)
        captions = [self.pack.captions[item] for item in items]
        chosen = [each[int(drawn[item] * len(each))] for each, item in zip(captions, items, strict=True)]
        return torch.from_numpy(np.stack([self.words.matrix(caption, self.max_words) for caption in chosen]))


def require_captions(pack: Pack) -> None:
    """Check that every clip has a caption.

    Raises:
        AvpipeError: says how many have none.
    """
    without = [clip_id for clip_id, captions in zip(pack.ids, pack.captions, strict=True) if not captions]
    if without:
        raise AvpipeError(
            f"{len(without)} of {len(pack)} clips have no caption, such as {without[0]!r}, and this model reads them. "
            "Give every clip one, or take avlnet, which reads sound and pictures alone."
        )
