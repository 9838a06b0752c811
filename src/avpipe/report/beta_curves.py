"""The figure of seen and unseen accuracy over the calibration constant; the same results give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from avpipe.report.charts import new_figure
from avpipe.report.gzsl import BARS, label
from avpipe.report.summary import group_by
from avpipe.schema.gzsl import GzslRecord, SeedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = (("seen", 0.6), ("unseen", 0.6), ("hm", 1.6))  # metric and width of its line


def plot_beta_curves(record: GzslRecord, target: str | os.PathLike[str]) -> None:
    """HM, S and U on the test clips over the calibration constant beta, as an SVG file.

    A row of panels per benchmark and form, a panel per method, a line per seed, and a mark at the beta that the seed
    chose on its validation clips. Controls are left out; a method without a curve is not calibrated, and its panel
    says so.
    """
    shown = [result for result in record.results if not result.control]
    rows = group_by(shown, lambda each: (each.split, each.features, each.form))
    columns = max((len(row) for row in rows.values()), default=1)
    with new_figure(target, 1.0 + 1.9 * max(columns, 3), 1.0 + 1.8 * max(len(rows), 1)) as figure:
        figure.suptitle(f"{record.dataset}: accuracy in % on test clips over beta", fontsize="medium")
        grid = figure.subplots(max(len(rows), 1), columns, squeeze=False, sharey="row")
        for axes in grid.flat:
            axes.set_axis_off()
        for panels, ((split, features, _), results) in zip(grid, rows.items(), strict=False):
            for axes, result in zip(panels, results, strict=False):
                axes.set_axis_on()
                axes.set_title(label(result), fontsize="small")
                _draw_curves(axes, result.seeds)
            panels[0].set_ylim(bottom=0)  # of the whole row, once all its curves are there
            panels[0].set_ylabel(f"{split},\n{features}", fontsize="small")
        _add_legend(figure)


def _draw_curves(axes: Axes, seeds: Sequence[SeedResult]) -> None:
    drawn = [
        (seed, seed.beta_curve) for seed in seeds if seed.beta_curve is not None and len(seed.beta_curve.betas) > 1
    ]
    for _, curve in drawn:
        for metric, width in _LINES:
            # matplotlib leaves a gap where there is no figure
            values = [float("nan") if value is None else value for value in getattr(curve, metric)]
            axes.plot(curve.betas, values, color=BARS[metric][1], linewidth=width, alpha=0.8)
    for seed, _ in drawn:
        if seed.hm is not None:
            axes.plot(seed.beta, seed.hm, "o", color="black", fillstyle="none", markersize=5)
    if not drawn:
        axes.text(0.5, 0.5, "not calibrated", ha="center", va="center", transform=axes.transAxes, fontsize="small")
        axes.set_xticks([])
    axes.tick_params(labelsize="x-small")


def _add_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=BARS[metric][1], linewidth=width, label=BARS[metric][0])
        for metric, width in reversed(_LINES)
    ]
    text = "beta chosen on validation clips"
    handles.append(Line2D([], [], color="black", marker="o", fillstyle="none", linestyle="none", label=text))
    figure.legend(handles=handles, ncols=4, fontsize="small", loc="outside lower center")
