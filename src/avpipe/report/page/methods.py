"""The picture that compares results: a row for each, a mark for each figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from avpipe.report.document import figure
from avpipe.report.gzsl_notices import label
from avpipe.report.page.drawing import colour, style_axes
from avpipe.report.page.parts import Gallery, Key, Picture
from avpipe.schema.gzsl import GzslResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METRICS = {"hm": ("harmonic mean HM", "green"), "zsl": ("zero-shot ZSL", "purple")}
_ROW, _CHARACTER = 0.3, 0.062  # inches


@dataclass(frozen=True)
class Mark:
    """A figure of a row: the mean, the figure of each seed, and the published one."""

    mean: float | None
    seeds: Sequence[float]
    published: float | None = None


@dataclass(frozen=True)
class Row:
    """A result: what it is called, and for each metric its mark and what guessing would have, where that is shown."""

    name: str
    marks: Sequence[Mark]
    chance: Sequence[float | None]


def method_picture(results: Sequence[GzslResult]) -> Gallery:
    """HM and ZSL of every method and form of a benchmark."""
    rows = [
        Row(
            label(each),
            [
                Mark(
                    getattr(each.mean, metric),
                    [value for seed in each.seeds if (value := getattr(seed, metric)) is not None],
                    each.published[metric].value if metric in each.published else None,
                )
                for metric in _METRICS
            ],
            (None, each.chance_zsl),
        )
        for each in results
    ]
    return row_gallery("HM and ZSL in %", rows, list(_METRICS.values()), "chance ZSL")


def row_gallery(title: str, rows: Sequence[Row], metrics: Sequence[tuple[str, str]], chance: str) -> Gallery:
    """A picture with a row for each result.

    Args:
        title: of the picture.
        rows: the results.
        metrics: name and colour of each mark of a row.
        chance: what the lines of guessing are called.
    """
    told = "; ".join(
        f"{row.name}: "
        + ", ".join(f"{name} {figure(mark.mean)}" for (name, _), mark in zip(metrics, row.marks, strict=True))
        for row in rows
    )
    widest = max(len(row.name) for row in rows)
    picture = Picture(
        title,
        f"{title}. {told}.",
        partial(draw_rows, rows=rows, colours=[hue for _, hue in metrics]),
        (max(4.2, 3.0 + _CHARACTER * widest), 0.6 + _ROW * len(rows)),
        (0.3 + _CHARACTER * widest, 0.45),
        is_wide=True,
    )
    keys = [Key(name, hue, "dot") for name, hue in metrics]
    keys.append(Key("a seed (small)", "muted", "dot"))
    if any(mark.published is not None for row in rows for mark in row.marks):
        keys.append(Key("published", "ink", "diamond"))
    if any(value is not None for row in rows for value in row.chance):
        keys.append(Key(chance, "muted", "dashes"))
    return Gallery([picture], keys)


def draw_rows(axes: Axes, rows: Sequence[Row], colours: Sequence[str]) -> None:
    """Means large, seeds small, published figures as diamonds; the first row is the uppermost."""
    step = 0.5 / max(len(colours) - 1, 1)
    for place, row in enumerate(rows):
        for number, (mark, hue) in enumerate(zip(row.marks, colours, strict=True)):
            y = place - 0.25 + step * number
            axes.plot(mark.seeds, [y] * len(mark.seeds), ".", color=colour("muted"), markersize=3)
            if mark.mean is not None:
                axes.plot(mark.mean, y, "o", color=colour(hue), markersize=5.5)
            if mark.published is not None:
                axes.plot(mark.published, y, "D", color=colour("ink"), fillstyle="none", markersize=5)
            if (chance := row.chance[number]) is not None:
                axes.vlines(chance, y - 0.2, y + 0.2, colors=colour("muted"), linestyles=(0, (2, 1)))
    style_axes(axes, "%")
    axes.grid(visible=False, axis="y")
    axes.hlines([place + 0.5 for place in range(len(rows) - 1)], -2, 102, colors=colour("muted"), linewidth=0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
