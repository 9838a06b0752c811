"""Which class is taken for which: a matrix over all seeds, its picture and its largest entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from avpipe.report.document import Paragraph, Table, plain_columns
from avpipe.report.page.drawing import colour
from avpipe.report.page.parts import Fold, Gallery, Key, Part, Picture
from avpipe.report.page.sources import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_KEPT = "The distances of the test clips are not kept here, so there is nothing to draw."
_NAMED = 80  # classes; of more no name could be read
_LETTERS = 24
_CELL, _LARGE_SIDE, _LETTER = 0.105, 6.4, 0.058  # inches
_LISTED = 30
_KEYS = [Key("right", "blue", "field"), Key("wrong", "red", "field")]


@dataclass(frozen=True)
class Confusion:
    """Test clips by their class and the class that they are taken for.

    Attributes:
        classes: C names, the seen ones first.
        n_seen: how many of them are seen.
        counts: int [C, C], clips of the row's class taken for the column's, in all seeds.
        n_seeds: number of seeds.
    """

    classes: list[str]
    n_seen: int
    counts: npt.NDArray[np.int64]
    n_seeds: int

    def taken_for(self, name: str) -> str:
        """The wrong class that a class is most often taken for, with its share; empty where it never is."""
        place = self.classes.index(name)
        row = self.counts[place].copy()
        total, row[place] = row.sum(), 0
        if not row.any():
            return ""
        return f"{self.classes[row.argmax()]} ({100 * row.max() / total:.0f} %)"


def confusion_of(trained: Sequence[Trained]) -> Confusion | None:
    """The matrix of all seeds; None where a seed's predictions are not kept, or its classes are others."""
    found = [each.predictions for each in trained if each.predictions is not None]
    if not found or len(found) < len(trained) or any(each.classes != found[0].classes for each in found):
        return None
    first = found[0]
    order = np.argsort(~np.array(first.seen), kind="stable")
    counts = np.zeros((len(order), len(order)), np.int64)
    for each in found:
        np.add.at(counts, (each.labels, each.predicted), 1)
    classes = [first.classes[place] for place in order]
    return Confusion(classes, sum(first.seen), counts[np.ix_(order, order)], len(found))


def confusion_parts(name: str, found: Confusion | None) -> list[Part]:
    """The picture and the largest confusions."""
    if found is None:
        return [Paragraph(NOT_KEPT)]
    n_right, n_all = int(np.trace(found.counts)), int(found.counts.sum())
    is_named = len(found.classes) <= _NAMED
    side = max(_CELL * len(found.classes), 2.2) if is_named else _LARGE_SIDE
    margin = 0.4 + (_LETTER * min(_LETTERS, max(map(len, found.classes))) if is_named else 0.1)
    picture = Picture(
        f"{name}: rows are the classes of the clips, columns what they are taken for; the lines part seen from unseen",
        f"Confusion matrix of {name}: {n_right:,} of {n_all:,} tests of clips are right, over {found.n_seeds} seeds.",
        partial(draw_matrix, found=found, is_named=is_named),
        (side + margin, side + margin),
        (margin - 0.12, margin - 0.12),
        is_wide=True,
        keys=_KEYS,
    )
    return [Gallery([picture]), *_largest(found)]


def draw_matrix(axes: Axes, found: Confusion, is_named: bool) -> None:
    """Shares of each row, the stronger the larger; equal areas look equal in a light and a dark scheme."""
    from matplotlib.colors import to_rgb

    totals = np.maximum(found.counts.sum(1, keepdims=True), 1)
    pixels = np.empty((*found.counts.shape, 4))
    pixels[..., :3] = to_rgb(colour("red"))
    pixels[np.eye(len(totals), dtype=bool), :3] = to_rgb(colour("blue"))
    pixels[..., 3] = np.sqrt(found.counts / totals)  # or the many small ones could not be seen
    axes.imshow(pixels, interpolation="none", aspect="auto")
    size, border = len(found.classes), found.n_seen - 0.5
    axes.vlines(border, -0.5, size - 0.5, colors=colour("muted"), linewidth=0.7)
    axes.hlines(border, -0.5, size - 0.5, colors=colour("muted"), linewidth=0.7)
    axes.spines[:].set_visible(True)
    if is_named:
        places, names = list(range(size)), [_shortened(name) for name in found.classes]
    else:
        places = [found.n_seen // 2, (found.n_seen + size) // 2]
        names = [f"{found.n_seen} seen", f"{size - found.n_seen} unseen"]
    letters = 5.5 if is_named else 8.0
    axes.set_xticks(places, names, rotation=90 if is_named else 0, fontsize=letters)
    axes.set_yticks(places, names, rotation=0 if is_named else 90, va="center", fontsize=letters)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class of the clip")


def _largest(found: Confusion) -> list[Part]:
    wrong = found.counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    rows = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[row, column]:
            total = found.counts[row].sum()
            part = f"{wrong[row, column]} of {total}"
            rows.append((found.classes[row], found.classes[column], part, f"{100 * wrong[row, column] / total:.1f}"))
    if not rows:
        return []
    columns = plain_columns("class of the clip", "taken for", "tests of clips, all seeds", "%", n_text=2)
    return [Fold(f"The {len(rows)} most frequent confusions", [Table(columns, rows)])]


def _shortened(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
