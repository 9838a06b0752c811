"""Audio features of clips of many lengths with frozen BatchNorm statistics, without computing their padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avpipe.errors import AvpipeError
from avpipe.retrieval.models.audio import AudioNetwork
from avpipe.retrieval.models.concatenated import concatenated_features, is_faster
from avpipe.retrieval.models.folded import FoldedAudioNetwork
from avpipe.retrieval.models.pooling import counted_frames, mean_of_first, output_frames

MAX_FRAMES = 1 << 18
_FRAMES_OF_A_BUCKET = 1000  # each forward pass reads all weights, which takes as long as about so many frames


def pool_ragged(
    network: AudioNetwork,
    spectrograms: Sequence[Tensor],
    *,
    window: int,
    n_frames: Sequence[int] | None = None,
    max_frames: int = MAX_FRAMES,
) -> Tensor:
    """What `AudioNetwork` and the published eval pooling make of clips padded to `window`, several times as fast.

    Differentiable. Clips are cut where nothing that is pooled can see. On a CPU many frames go through convolutions
    in the frequency domain, all clips together; elsewhere clips of like lengths are stacked. Which of the two depends
    on sizes alone.

    Args:
        network: in eval mode.
        spectrograms: B clips [n_i, 40] of float16 or float32; n_i may be below the window (padding is implied) or
            above (the rest is cut).
        window: frames that the model reads of a clip.
        n_frames: [B], frames of each clip before it was cut or padded; None: n_i.
        max_frames: frames of one forward pass (stacked: clips times the longest; else half a clip more is taken),
            which bounds the memory it takes; a longer clip goes alone.

    Returns:
        [B, 8 C] on the network's device, in the order of the clips.

    Raises:
        AvpipeError: the network is in train mode, where padding enters the statistics; or counts do not fit.
    """
    counts = [len(each) for each in spectrograms] if n_frames is None else list(n_frames)
    if network.training:
        raise AvpipeError("pool_ragged needs frozen BatchNorm statistics; the audio network is in train mode.")
    if len(counts) != len(spectrograms) or not counts or min(counts) < 0:
        raise AvpipeError(
            f"pool_ragged: {len(counts)} frame counts for {len(spectrograms)} clips; expected one count from 0 for "
            "each of at least one clip."
        )
    outputs = output_frames(window)
    counted = [counted_frames(each, window, outputs) for each in counts]
    folded = network.folded()
    clips = _Clips(spectrograms, counted, [folded.inputs_for(each, window) for each in counted], window)
    is_long = is_faster(folded.stem_weight, len(folded.stem_weight), sum(clips.needed))
    found = (_pool_concatenated if is_long else _pool_buckets)(folded, clips, max_frames)
    return found.to(folded.stem_weight.dtype)  # means of half precision are taken in float32


@dataclass(frozen=True)
class _Clips:
    """Spectrograms, the output frames that are pooled of each, and the frames that decide these."""

    spectrograms: Sequence[Tensor]
    counted: Sequence[int]
    needed: Sequence[int]
    window: int


def _pool_concatenated(folded: FoldedAudioNetwork, clips: _Clips, max_frames: int) -> Tensor:
    means = []
    for group in _groups(clips.needed, max_frames):
        counted = [clips.counted[i] for i in group]
        frames = torch.cat([_cut(clips.spectrograms[i], clips.needed[i], folded.stem_weight) for i in group])
        features = concatenated_features(folded, frames, window=clips.window, counted=counted)
        means += [each.mean(dim=0) for each in features.split(counted)]
    return torch.stack(means)


def _pool_buckets(folded: FoldedAudioNetwork, clips: _Clips, max_frames: int) -> Tensor:
    pieces: list[Tensor] = []
    order: list[int] = []
    for bucket in _buckets(clips.needed, max_frames):
        length = clips.needed[bucket[0]]
        frames = torch.stack([_cut(clips.spectrograms[i], length, folded.stem_weight) for i in bucket])
        # Clips that need the whole window may count fewer frames than others that do.
        counted = [clips.counted[i] for i in bucket]
        pieces.append(mean_of_first(folded(frames, length=clips.window, outputs=max(counted)), counted))
        order += bucket
    return torch.cat(pieces)[torch.tensor(order).argsort().to(pieces[0].device)]


def _groups(needed: Sequence[int], max_frames: int) -> list[list[int]]:
    """Consecutive clips with about as many frames in each group, at most half a clip above the limit."""
    groups: list[list[int]] = []
    left, inside, share = sum(needed), 0, 0.0
    for clip, frames in enumerate(needed):
        if not groups or inside + frames / 2 > share:
            groups.append([])
            inside, share = 0, left / -(-left // max_frames)
        groups[-1].append(clip)
        inside += frames
        left -= frames
    return groups


def _buckets(needed: Sequence[int], max_frames: int) -> list[list[int]]:
    """Clips that are computed together, the longest first in each; together they take the least time."""
    order = sorted(range(len(needed)), key=lambda i: -needed[i])
    # Of the clips in order, cheapest[k] is (cost of the first k, where the last bucket of these begins).
    cheapest = [(0, 0)]
    for end in range(1, len(order) + 1):
        options = []
        for start in range(end - 1, -1, -1):
            frames = needed[order[start]] * (end - start)
            if frames > max_frames and start < end - 1:
                break
            options.append((cheapest[start][0] + frames + _FRAMES_OF_A_BUCKET, start))
        cheapest.append(min(options))
    buckets = []
    end = len(order)
    while end:
        start = cheapest[end][1]
        buckets.append(order[start:end])
        end = start
    return buckets[::-1]


def _cut(spectrogram: Tensor, length: int, like: Tensor) -> Tensor:
    """[length, 40] of the kind of `like`, cut or padded with 0."""
    cut = spectrogram[:length].to(like.device, like.dtype)
    return F.pad(cut, (0, 0, 0, length - len(cut)))
