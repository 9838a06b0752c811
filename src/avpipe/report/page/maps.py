"""A map of test clips and class vectors, made of the distances between them alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avpipe.gzsl.scores import Scores
from avpipe.report.page.drawing import colour
from avpipe.report.page.parts import Key, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

EXPLANATION = (
    "Clips and class vectors in the plane that shows most of the distances between them: the two largest principal "
    "components of the squared distances, their means over clips and over classes taken off. A clip lies in the "
    "direction of the classes that it is near to; where clips are few, a faint line leads to their own class. Clips "
    "of unseen classes that lie among seen classes are those that are hard to tell apart."
)
_MOST_CLIPS, _MOST_LINES = 1000, 500


@dataclass(frozen=True)
class Map:
    """Places in the plane.

    Attributes:
        clips: [N, 2].
        classes: [C, 2], of the class vectors.
        labels: int [N], the row of each clip's class.
        seen: bool [C].
        share: of the distances' variance that the plane shows, 0 to 1.
    """

    clips: Floats
    classes: Floats
    labels: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_]
    share: float


def map_of(scores: Scores) -> Map:
    """The places of all test clips and classes of one seed, in its reported mode.

    Of squared Euclidean distances, means taken off both ways leave -2 times the inner products of clips and class
    vectors about their centres, whose principal components give places of both. Signs are fixed, so that the same
    distances give the same map.
    """
    nearness = -(scores.distances[scores.tested.score_mode].astype(np.float64) ** 2)
    nearness -= nearness.mean(0)
    nearness -= nearness.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(nearness.T @ nearness)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    clips = nearness @ axes
    share = float(values[::-1][:2].sum() / max(values.sum(), np.finfo(float).tiny))
    return Map(_scaled(clips), _scaled(axes), scores.labels, np.array(scores.tested.seen), share)


def map_picture(name: str, scores: Scores) -> Picture:
    """The map of one seed."""
    found = map_of(scores)
    n_clips, n_classes = len(found.labels), len(found.seen)
    drawn = (
        f"{min(n_clips, _MOST_CLIPS):,} of {n_clips:,} test clips"
        if n_clips > _MOST_CLIPS
        else f"{n_clips:,} test clips"
    )
    title = f"{name}, seed {scores.tested.seed}: {drawn}; the plane shows {100 * found.share:.0f} % of the variance"
    return Picture(
        title,
        f"Map of {n_classes} class vectors and test clips of {title}.",
        partial(draw_map, found=found),
        (5.0, 3.8),
        (0.12, 0.12),
        is_wide=True,
        keys=[
            Key("clip of a seen class", "blue", "dot"),
            Key("clip of an unseen class", "orange", "dot"),
            Key("vector of a seen class", "blue", "diamond"),
            Key("vector of an unseen class", "orange", "diamond"),
        ],
    )


def draw_map(axes: Axes, found: Map) -> None:
    """Clips as dots, class vectors as diamonds, seen and unseen ones in their colours."""
    n_clips = len(found.labels)
    drawn = np.unique(np.linspace(0, n_clips - 1, min(n_clips, _MOST_CLIPS)).round().astype(int))
    if len(drawn) <= _MOST_LINES:
        ends = np.stack([found.clips[drawn], found.classes[found.labels[drawn]]])
        axes.plot(ends[..., 0], ends[..., 1], color=colour("muted"), linewidth=0.4, alpha=0.3)
    size = 6.0 if len(drawn) <= _MOST_LINES else 3.5
    for is_seen, hue in ((True, "blue"), (False, "orange")):
        shown = drawn[found.seen[found.labels[drawn]] == is_seen]
        axes.plot(*found.clips[shown].T, ".", color=colour(hue), markersize=size, alpha=0.75, markeredgewidth=0)
        axes.plot(*found.classes[found.seen == is_seen].T, "D", color=colour(hue), fillstyle="none", markersize=5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


def _scaled(places: Floats) -> Floats:
    """Places in units of their mean distance from the centre: only directions of the two kinds can be compared."""
    centred = places - places.mean(0)
    return centred / max(np.sqrt((centred**2).sum(1).mean()), np.finfo(float).tiny)
