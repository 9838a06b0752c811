"""What is in a pack and what is not."""

from __future__ import annotations

from collections import Counter

import numpy as np

from avpipe.retrieval.packs.pack import FRAMES_PER_SECOND, Pack
from avpipe.schema.retrieval import CaptionCounts, LongerClips, LongestClip, PackSummary


def summarise_pack(pack: Pack, *, window: int) -> PackSummary:
    """Clips that a pack has and lacks, and how long they are.

    Args:
        pack: the clips.
        window: spectrogram frames that the networks read of a clip.
    """
    info = pack.info
    longest = int(np.argmax(pack.n_frames))
    longer = int((pack.n_frames > window).sum())
    return PackSummary(
        origin=info.origin,
        sha256=info.sha256,
        digest=pack.digest,
        expected=info.expected,
        used=len(pack),
        missing=dict(sorted(Counter(clip["reason"] for clip in info.missing).items())),
        missing_clips=info.missing,
        unlisted=info.expected - len(pack) - len(info.missing),
        silent_clips=[clip_id for index, clip_id in enumerate(pack.ids) if _is_silent(pack, index)],
        total_seconds=int(pack.n_frames.sum()) / FRAMES_PER_SECOND,
        longest=LongestClip(clip_id=pack.ids[longest], seconds=int(pack.n_frames[longest]) / FRAMES_PER_SECOND),
        longer_than_window=LongerClips(window_frames=window, clips=longer, share=longer / len(pack)),
        captions=CaptionCounts(
            total=sum(map(len, pack.captions)), clips_without=sum(not captions for captions in pack.captions)
        ),
        warnings=info.warnings,
        provenance=info.provenance,
    )


def _is_silent(pack: Pack, index: int) -> bool:
    """Whether a spectrogram is all zeros; most are told by their first frame, so little of the file is read."""
    spectrogram = pack.spectrogram(index)
    return not spectrogram[0].any() and not spectrogram.any()
