"""How much of a clip's pictures and sound was decoded: decoders tell whoever asked in the same thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# A packet and an encoder's delay: sound need not end with the last picture.
_PADDING_SECONDS = 0.1


@dataclass
class Decoded:
    """What came out of the decoders for one clip.

    Attributes:
        pictures_due: pictures that there should be; 0: none were read to their end.
        pictures: those that came out.
        sound_seconds: length of the sound, without silence that was put in gaps; None: none was read.
        is_silent: whether all samples were 0; None: none was read.
    """

    pictures_due: int = 0
    pictures: int = 0
    sound_seconds: float | None = None
    is_silent: bool | None = None

    def shares(self, clip_seconds: float | None) -> DecodedShares:
        """Compare with what there should be.

        Args:
            clip_seconds: length of the clip; None: not known.
        """
        pictures = self.pictures / self.pictures_due if self.pictures_due else None
        sound = None
        if self.sound_seconds is not None and clip_seconds:
            is_whole = self.sound_seconds >= clip_seconds - _PADDING_SECONDS
            sound = 1.0 if is_whole else self.sound_seconds / clip_seconds
        return DecodedShares(pictures, sound, self.is_silent)


@dataclass(frozen=True)
class DecodedShares:
    """How much of a clip was decoded.

    Attributes:
        pictures_share, sound_share: 0 to 1; None: not known, or there are none.
        silent_sound: whether the whole sound is digital silence; None: no sound was read.
    """

    pictures_share: float | None = None
    sound_share: float | None = None
    silent_sound: bool | None = None

    @property
    def detail(self) -> str:
        """What is not as it should be, in one line; empty where all is."""
        said = [
            f"{100 * share:.1f} % of {what}"
            for share, what in ((self.pictures_share, "the pictures decoded"), (self.sound_share, "the clip has sound"))
            if share is not None and share < 1
        ]
        return "; ".join([*said, *(["the sound is digital silence"] if self.silent_sound else [])])


_asked = threading.local()


@contextmanager
def watching() -> Iterator[Decoded]:
    """Let the decoders of this thread tell what comes out of them."""
    before, _asked.decoded = now_watched(), Decoded()
    try:
        yield _asked.decoded
    finally:
        _asked.decoded = before


def now_watched() -> Decoded | None:
    """Where to tell it; None: nobody asked."""
    return getattr(_asked, "decoded", None)
