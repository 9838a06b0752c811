"""The figure of a dataset's results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from avpipe.io.atomic import atomic_path

_BARS = (
    ("seen", "seen S", "#8da0cb"),
    ("unseen", "unseen U", "#fc8d62"),
    ("hm", "harmonic mean", "#66c2a5"),
    ("zsl", "ZSL", "#a6761d"),
)


def plot_results(record: Mapping[str, Any], target: str | os.PathLike[str]) -> None:
    """Bars of S, U, HM and ZSL for every result, a dot for each seed, a line at ZSL's chance level; an SVG file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "avpipe"  # the same results give the same bytes
    from matplotlib import pyplot

    results = record["results"]
    figure, axes = pyplot.subplots(figsize=(2.5 + 2.2 * len(results), 4), layout="constrained")
    for offset, (metric, label, colour) in enumerate(_BARS):
        places = [index + 0.2 * (offset - 1.5) for index in range(len(results))]
        axes.bar(places, [each["mean"][metric] for each in results], 0.18, color=colour, label=label)
        for place, each in zip(places, results, strict=True):
            seeds = [seed[metric] for seed in each["seeds"]]
            axes.plot([place] * len(seeds), seeds, ".", color="black", markersize=3)
    for index, each in enumerate(results):
        axes.hlines(each["chance_zsl"], index - 0.42, index + 0.42, colors="grey", linestyles="dashed", linewidth=1)
    names = [f"{each['method']}, {each['text']}\n{each['split']}, {each['features']}" for each in results]
    axes.set_xticks(range(len(results)), names)
    axes.set_ylabel("accuracy in %\n(dots: seeds; dashed: chance ZSL)")
    axes.set_title("\n".join([record["dataset"], *(notice.split(":")[0] for notice in record["notices"][:2])]))
    axes.legend(ncols=4, fontsize="small", loc="upper center")
    axes.set_ylim(0, 120)  # room for the legend above 100
    axes.set_yticks(range(0, 101, 20))
    with atomic_path(target) as temporary:
        figure.savefig(temporary, metadata={"Date": None, "Creator": "avpipe"})
    pyplot.close(figure)
