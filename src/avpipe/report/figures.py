"""The figures of a dataset's results; the same results give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from avpipe.io.atomic import atomic_path
from avpipe.report.summary import by_benchmark, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = (
    ("seen", "seen S", "#8da0cb"),
    ("unseen", "unseen U", "#fc8d62"),
    ("hm", "harmonic mean HM", "#66c2a5"),
    ("zsl", "zero-shot ZSL", "#a6761d"),
)
_CURVES = (("seen", 0.6), ("unseen", 0.6), ("hm", 1.6))  # metric and width of its line
_COLOURS = {metric: colour for metric, _, colour in _BARS}
_LABELS = {metric: text for metric, text, _ in _BARS}

Result = Mapping[str, Any]


def plot_results(record: Mapping[str, Any], target: str | os.PathLike[str]) -> None:
    """A panel per benchmark with bars of S, U, HM and ZSL for every method and form, as an SVG file.

    A dot for each seed, hatched bars for controls, open diamonds for published figures, a line at ZSL's chance level.
    """
    groups = by_benchmark(record["results"])
    widest = max((len(group) for group in groups.values()), default=1)
    with new_figure(target, 2.0 + 0.85 * max(widest, 4), 0.7 + 3.2 * max(len(groups), 1)) as figure:
        figure.suptitle(title_of(record), fontsize="medium")
        panels = figure.subplots(max(len(groups), 1), 1, squeeze=False)[:, 0]
        for axes, ((split, features), results) in zip(panels, groups.items(), strict=False):
            _draw_bars(axes, results)
            axes.set_title(f"{split}, {features}", fontsize="small", loc="left")
        _legend(figure)


def plot_beta_curves(record: Mapping[str, Any], target: str | os.PathLike[str]) -> None:
    """HM, S and U on the test clips over the calibration constant beta, as an SVG file.

    A row of panels per benchmark and form, a panel per method, a line per seed, and a mark at the beta that the seed
    chose on its validation clips. Controls are left out; a method without a curve is not calibrated, and its panel
    says so.
    """
    rows = _curve_rows(record["results"])
    columns = max((len(row) for row in rows.values()), default=1)
    with new_figure(target, 1.0 + 1.9 * max(columns, 3), 1.0 + 1.8 * max(len(rows), 1)) as figure:
        figure.suptitle(f"{record['dataset']}: accuracy in % on test clips over beta", fontsize="medium")
        grid = figure.subplots(max(len(rows), 1), columns, squeeze=False, sharey="row")
        for axes in grid.flat:
            axes.set_axis_off()
        for panels, ((split, features, _), results) in zip(grid, rows.items(), strict=False):
            for axes, result in zip(panels, results, strict=False):
                axes.set_axis_on()
                axes.set_title(label(result), fontsize="small")
                _draw_curves(axes, result["seeds"])
            panels[0].set_ylim(bottom=0)  # of the whole row, once all its curves are there
            panels[0].set_ylabel(f"{split},\n{features}", fontsize="small")
        _curve_legend(figure)


@contextmanager
def new_figure(target: str | os.PathLike[str], width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in inches that is written to `target` at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # A fixed salt, or matplotlib names the parts of the picture anew each time.
    with matplotlib.rc_context({"svg.hashsalt": "avpipe"}), atomic_path(target) as temporary:
        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
            figure.savefig(temporary, metadata={"Date": None, "Creator": "avpipe"})
        finally:
            pyplot.close(figure)


def title_of(record: Mapping[str, Any]) -> str:
    """The dataset and the warnings, which begin in capitals, by their subjects."""
    subjects = [notice.partition(":")[0].partition(",")[0] for notice in record["notices"]]
    warnings = dict.fromkeys(each for each in subjects if each.isupper())
    return "\n".join([record["dataset"], *([", ".join(warnings)] if warnings else [])])


def _draw_bars(axes: Axes, results: Sequence[Result]) -> None:
    for index, result in enumerate(results):
        for offset, (metric, _, colour) in enumerate(_BARS):
            place = index + 0.2 * (offset - 1.5)
            mean = result["mean"][metric]
            if mean is not None:
                hatch = "////" if result["control"] else None
                axes.bar(place, mean, 0.18, color=colour, hatch=hatch, edgecolor="white", linewidth=0)
            seeds = [seed[metric] for seed in result["seeds"] if seed[metric] is not None]
            axes.plot([place] * len(seeds), seeds, ".", color="black", markersize=3)
            if metric in (result.get("published") or {}):
                value = result["published"][metric]["value"]
                axes.plot(place, value, "D", color="black", fillstyle="none", markersize=4)
        axes.hlines(result["chance_zsl"], index - 0.42, index + 0.42, colors="grey", linestyles="dashed", linewidth=1)
    axes.set_xticks(range(len(results)), [label(each, separator="\n") for each in results], fontsize="x-small")
    axes.set_xlim(-0.6, max(len(results), 1) - 0.4)
    axes.set_ylabel("accuracy in %")
    axes.set_ylim(bottom=0)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=text) for _, text, colour in _BARS]
    handles += [
        Line2D([], [], color="black", marker=".", linestyle="none", label="a seed"),
        Line2D([], [], color="black", marker="D", fillstyle="none", linestyle="none", label="published"),
        Line2D([], [], color="grey", linestyle="dashed", label="chance ZSL"),
        Patch(facecolor="grey", edgecolor="white", hatch="////", linewidth=0, label="control"),
    ]
    figure.legend(handles=handles, ncols=4, fontsize="small", loc="outside lower center")


def _curve_rows(results: Sequence[Result]) -> dict[tuple[str, str, str], list[Result]]:
    rows: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if not result["control"]:
            rows.setdefault((result["split"], result["features"], result["form"]), []).append(result)
    return rows


def _draw_curves(axes: Axes, seeds: Sequence[Mapping[str, Any]]) -> None:
    drawn = [seed for seed in seeds if len((seed.get("beta_curve") or {}).get("betas", [])) > 1]
    for seed in drawn:
        curve = seed["beta_curve"]
        for metric, width in _CURVES:
            # matplotlib leaves a gap where there is no figure
            values = [float("nan") if value is None else value for value in curve[metric]]
            axes.plot(curve["betas"], values, color=_COLOURS[metric], linewidth=width, alpha=0.8)
    for seed in drawn:
        if seed["hm"] is not None:
            axes.plot(seed["beta"], seed["hm"], "o", color="black", fillstyle="none", markersize=5)
    if not drawn:
        axes.text(0.5, 0.5, "not calibrated", ha="center", va="center", transform=axes.transAxes, fontsize="small")
        axes.set_xticks([])
    axes.tick_params(labelsize="x-small")


def _curve_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_COLOURS[metric], linewidth=width, label=_LABELS[metric])
        for metric, width in reversed(_CURVES)
    ]
    text = "beta chosen on validation clips"
    handles.append(Line2D([], [], color="black", marker="o", fillstyle="none", linestyle="none", label=text))
    figure.legend(handles=handles, ncols=4, fontsize="small", loc="outside lower center")
