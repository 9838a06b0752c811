"""The figure of a dataset's retrieval results; the same results give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avpipe.report.figures import new_figure, title_of
from avpipe.report.retrieval_summary import DIRECTIONS, RECALLS, Result, by_subset, direction_label, run_label
from avpipe.report.retrieval_tables import HEADINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"r1": "#8da0cb", "r5": "#66c2a5", "r10": "#fc8d62"}
_BAR = 0.26  # width of a bar, where runs are 1 apart


def plot_retrieval(record: Mapping[str, Any], target: str | os.PathLike[str]) -> None:
    """A row of panels per subset, one for each direction, with bars of R@1, R@5 and R@10 for every run, as SVG.

    A dot for each seed, hatched bars for controls, open diamonds for published figures, a line at each bar's chance
    level.
    """
    groups = by_subset(record["results"])
    widest = max((len(group) for group in groups.values()), default=1)
    with new_figure(target, 2.0 + 1.7 * max(widest, 3), 0.8 + 3.0 * max(len(groups), 1)) as figure:
        figure.suptitle(title_of(record), fontsize="medium")
        grid = figure.subplots(max(len(groups), 1), len(DIRECTIONS), squeeze=False, sharey="row")
        for panels, (subset, results) in zip(grid, groups.items(), strict=False):
            for axes, direction in zip(panels, DIRECTIONS, strict=True):
                _draw_bars(axes, results, direction)
                axes.set_title(f"{subset}, {direction.replace('_', ' ')}", fontsize="small", loc="left")
            panels[0].set_ylabel("R@k in %")
            panels[0].set_ylim(bottom=0)
        _legend(figure)


def _draw_bars(axes: Axes, results: Sequence[Result], direction: str) -> None:
    for index, result in enumerate(results):
        for offset, metric in enumerate(RECALLS):
            place = index + _BAR * (offset - 1)
            mean, hatch = result[direction]["mean"][metric], "////" if result["control"] else None
            axes.bar(place, mean, 0.9 * _BAR, color=_COLOURS[metric], hatch=hatch, edgecolor="white", linewidth=0)
            seeds = [seed[direction][metric] for seed in result["seeds"]]
            axes.plot([place] * len(seeds), seeds, ".", color="black", markersize=3)
            if direction == DIRECTIONS[0] and metric in result["published"]:
                known = result["published"][metric]
                axes.plot(place, known, "D", color="black", fillstyle="none", markersize=4)
            ends = (place - _BAR / 2, place + _BAR / 2)
            axes.hlines(result["chance"][metric], *ends, colors="grey", linestyles="dashed", linewidth=1)
    labels = [f"{run_label(each, separator=chr(10))}\n{direction_label(each, direction)}" for each in results]
    axes.set_xticks(range(len(results)), labels, fontsize="x-small")
    axes.set_xlim(-0.6, max(len(results), 1) - 0.4)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=HEADINGS[metric]) for metric, colour in _COLOURS.items()]
    handles += [
        Line2D([], [], color="black", marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color="black", marker="D", fillstyle="none", linestyle="none", label="published"),
        Line2D([], [], color="grey", linestyle="dashed", label="chance"),
        Patch(facecolor="grey", edgecolor="white", hatch="////", linewidth=0, label="control"),
    ]
    figure.legend(handles=handles, ncols=4, fontsize="small", loc="outside lower center")
