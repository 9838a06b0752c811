"""The figure of a dataset's results, for any task; the same results give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from avpipe.io.manifest import result_file
from avpipe.schema.stored import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Bar:
    """One metric of one result.

    Attributes:
        mean: over seeds; None leaves a gap.
        seeds: the figure of each seed that has it, a dot each.
        published: a published figure, an open diamond.
        chance: what guessing would have, a dashed line.
    """

    mean: float | None
    seeds: Sequence[float]
    published: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Group:
    """The bars of one result, one for each metric; hatched for a control."""

    label: str
    is_control: bool
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Panel:
    """Results that may be compared."""

    title: str
    groups: Sequence[Group]


@dataclass(frozen=True)
class BarChart:
    """Rows of panels.

    Attributes:
        title: of the whole.
        rows: the panels; those of a row have one axis.
        metrics: name and colour of each bar of a group.
        axis: what is measured, with its unit.
        chance: what the lines of guessing are called.
    """

    title: str
    rows: Sequence[Sequence[Panel]]
    metrics: Sequence[tuple[str, str]]
    axis: str
    chance: str = "chance"


def plot_bars(chart: BarChart, target: str | os.PathLike[str]) -> None:
    """Draw a chart as an SVG file."""
    n_rows, n_columns = max(len(chart.rows), 1), max((len(row) for row in chart.rows), default=1)
    widest = max((len(panel.groups) for row in chart.rows for panel in row), default=1)
    with new_figure(target, 2.0 + 0.85 * n_columns * max(widest, 4), 0.75 + 3.1 * n_rows) as figure:
        figure.suptitle(chart.title, fontsize="medium")
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey="row")
        for all_axes, row in zip(grid, chart.rows, strict=False):
            for axes, panel in zip(all_axes, row, strict=True):
                _draw(axes, panel, [colour for _, colour in chart.metrics])
            all_axes[0].set_ylabel(chart.axis)
            all_axes[0].set_ylim(bottom=0)
        _add_legend(figure, chart)


@contextmanager
def new_figure(target: str | os.PathLike[str], width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in inches that is written to `target` at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # A fixed salt, or matplotlib names the parts of the picture anew each time.
    with matplotlib.rc_context({"svg.hashsalt": "avpipe"}), result_file(target) as temporary:
        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
            figure.savefig(temporary, metadata={"Date": None, "Creator": "avpipe"})
        finally:
            pyplot.close(figure)


def title_of(record: Record) -> str:
    """The dataset and the warnings, which begin in capitals, by their subjects."""
    subjects = [notice.partition(":")[0].partition(",")[0] for notice in record.notices]
    warnings = dict.fromkeys(each for each in subjects if each.isupper())
    return "\n".join([record.dataset, *([", ".join(warnings)] if warnings else [])])


def _draw(axes: Axes, panel: Panel, colours: Sequence[str]) -> None:
    step = 0.8 / len(colours)
    for index, group in enumerate(panel.groups):
        hatch = "////" if group.is_control else None
        for offset, (bar, colour) in enumerate(zip(group.bars, colours, strict=True)):
            x = index + step * (offset - (len(colours) - 1) / 2)
            if bar.mean is not None:
                axes.bar(x, bar.mean, 0.9 * step, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            axes.plot([x] * len(bar.seeds), bar.seeds, ".", color="black", markersize=3)
            if bar.published is not None:
                axes.plot(x, bar.published, "D", color="black", fillstyle="none", markersize=4)
            if bar.chance is not None:
                ends = (x - step / 2, x + step / 2)
                axes.hlines(bar.chance, *ends, colors="grey", linestyles="dashed", linewidth=1)
    axes.set_xticks(range(len(panel.groups)), [group.label for group in panel.groups], fontsize="x-small")
    axes.set_xlim(-0.6, max(len(panel.groups), 1) - 0.4)
    axes.set_title(panel.title, fontsize="small", loc="left")


def _add_legend(figure: Figure, chart: BarChart) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=name) for name, colour in chart.metrics]
    handles += [
        Line2D([], [], color="black", marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color="black", marker="D", fillstyle="none", linestyle="none", label="published"),
        Line2D([], [], color="grey", linestyle="dashed", label=chart.chance),
        Patch(facecolor="grey", edgecolor="white", hatch="////", linewidth=0, label="control"),
    ]
    figure.legend(handles=handles, ncols=4, fontsize="small", loc="outside lower center")
