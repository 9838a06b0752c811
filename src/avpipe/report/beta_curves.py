"""The figure of seen over unseen accuracy for all calibration constants; the same results give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avpipe.report.charts import new_figure
from avpipe.report.gzsl import BARS, label
from avpipe.report.summary import group_by
from avpipe.schema.gzsl import GzslRecord, SeedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOUR = BARS["hm"][1]
_CHOSEN = "beta chosen on validation clips"
_MARK: dict[str, Any] = {"marker": "o", "color": "black", "fillstyle": "none", "markersize": 5, "linestyle": "none"}


def plot_beta_curves(record: GzslRecord, target: str | os.PathLike[str]) -> None:
    """S over U on the test clips, as the calibration constant beta moves from one end to the other, as an SVG file.

    A row of panels per benchmark and form, a panel per method, a line per seed, and a mark at the beta that the seed
    chose on its validation clips. Controls are left out; a method without a curve is not calibrated, and its panel
    says so.
    """
    from matplotlib.lines import Line2D

    shown = [result for result in record.results if not result.control]
    rows = group_by(shown, lambda each: (each.split, each.features, each.form))
    columns = max((len(row) for row in rows.values()), default=1)
    with new_figure(target, 1.0 + 1.9 * max(columns, 3), 1.0 + 1.8 * max(len(rows), 1)) as figure:
        figure.suptitle(
            f"{record.dataset}: seen (up) over unseen accuracy (to the right) in % on test clips, for every beta",
            fontsize="medium",
        )
        grid = figure.subplots(max(len(rows), 1), columns, squeeze=False, sharex="row", sharey="row")
        for axes in grid.flat:
            axes.set_axis_off()
        for panels, ((split, features, _), results) in zip(grid, rows.items(), strict=False):
            for axes, result in zip(panels, results, strict=False):
                axes.set_axis_on()
                area = "" if result.mean.ausuc is None else f"\nAUSUC {result.mean.ausuc:.1f} %"
                axes.set_title(label(result) + area, fontsize="small")
                _draw_curves(axes, result.seeds)
            panels[0].set_xlim(left=0)  # of the whole row, once all its curves are there
            panels[0].set_ylim(bottom=0)
            panels[0].set_ylabel(f"{split},\n{features}", fontsize="small")
        line, mark = Line2D([], [], color=_COLOUR, label="a seed"), Line2D([], [], label=_CHOSEN, **_MARK)
        figure.legend(handles=[line, mark], ncols=2, fontsize="small", loc="outside lower center")


def _draw_curves(axes: Axes, seeds: Sequence[SeedResult]) -> None:
    drawn = [(seed, seed.beta_curve) for seed in seeds if seed.beta_curve is not None]
    for _, curve in drawn:
        axes.plot(curve.unseen, curve.seen, color=_COLOUR, linewidth=1.0, alpha=0.8)
    for seed, _ in drawn:
        if seed.seen is not None and seed.unseen is not None:
            axes.plot(seed.unseen, seed.seen, **_MARK)
    if not drawn:
        axes.text(0.5, 0.5, "not calibrated", ha="center", va="center", transform=axes.transAxes, fontsize="small")
    axes.tick_params(labelsize="x-small")
