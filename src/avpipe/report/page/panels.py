"""The page's pictures of trainings and tests: one small chart each, whose lines are seeds or terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from avpipe.report.page.drawing import LINES, colour, style_axes
from avpipe.report.page.parts import Key, Picture, Sign
from avpipe.report.page.sources import Epochs, Trained
from avpipe.schema.gzsl import SeedResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATES = {"seen": ("seen S", "blue"), "unseen": ("unseen U", "orange"), "hm": ("harmonic mean HM", "green")}
"""What the page calls a rate, and its colour."""
RATE_KEYS = [*(Key(name, hue) for name, hue in RATES.values()), Key("chosen epoch", "ink", "ring")]
_SIGNS: dict[str, Sign] = {"-": "line", "--": "dashes", ":": "dots"}
_DASHES = list(_SIGNS)
_SEED: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.45}


def loss_pictures(name: str, trained: Sequence[Trained], stage: int) -> list[Picture]:
    """The whole loss of every seed and, where there are several, the terms that it consists of."""
    stages = [each.stages[stage] for each in trained if stage in each.stages]
    if not stages:
        return []
    first, last = (fmean(each.losses["loss"][place] for each in stages) for place in (0, -1))
    told = f"Loss of {name}: mean over seeds {first:.3g} in the first epoch, {last:.3g} in the last."
    whole = Picture("Loss: thin a seed, thick the mean", told, partial(draw_losses, stages=stages))
    terms = [term for term in stages[0].losses if term != "loss"]
    if not terms:
        return [whole]
    styles = {term: (LINES[i % len(LINES)], _DASHES[i // len(LINES) % 3]) for i, term in enumerate(terms)}
    ends = ", ".join(f"{term} {fmean(each.losses[term][-1] for each in stages):.3g}" for term in terms)
    parts = Picture(
        "Terms of the loss, means over seeds",
        f"Terms of the loss of {name}; in the last epoch: {ends}.",
        partial(draw_terms, stages=stages, styles=styles),
        keys=[Key(term, hue, _SIGNS[dash]) for term, (hue, dash) in styles.items()],
    )
    return [whole, parts]


def draw_losses(axes: Axes, stages: Sequence[Epochs]) -> None:
    """The whole loss over epochs."""
    _draw_seeds(axes, [each.losses["loss"] for each in stages], colour("ink"))
    _style_epochs(axes)


def draw_terms(axes: Axes, stages: Sequence[Epochs], styles: Mapping[str, tuple[str, str]]) -> None:
    """Terms of the loss over epochs, each the mean over seeds."""
    for term, (hue, dash) in styles.items():
        axes.plot(_mean([each.losses[term] for each in stages]), color=colour(hue), linestyle=dash)
    _style_epochs(axes)


def rate_picture(title: str, trained: Sequence[Trained], stage: int) -> Picture | None:
    """S, U and HM over the epochs of a stage, and which of them was chosen; None where no epoch was scored."""
    stages = [each.stages[stage] for each in trained if stage in each.stages and each.stages[stage].rates]
    if not stages:
        return None
    chosen = ", ".join(str(each.chosen) for each in stages)
    told = f"{title}: seen, unseen and harmonic mean in % over epochs; chosen epochs {chosen}."
    return Picture(title, told, partial(draw_rates, stages=stages), keys=RATE_KEYS)


def draw_rates(axes: Axes, stages: Sequence[Epochs]) -> None:
    """S, U and HM over epochs; a ring at each seed's chosen epoch."""
    for rate, (_, hue) in RATES.items():
        _draw_seeds(axes, [each.rates[rate] for each in stages], colour(hue))
    for each in stages:
        if each.chosen is not None and each.chosen < len(each.rates["hm"]):
            axes.plot(each.chosen, each.rates["hm"][each.chosen], "o", color=colour("ink"), fillstyle="none", ms=5)
    _style_epochs(axes, "%")
    axes.set_ylim(0, 102)


def curve_picture(title: str, seeds: Sequence[SeedResult], area: float | None) -> Picture | None:
    """S over U on the test clips for every calibration constant; None for a method that is not calibrated."""
    if not any(seed.beta_curve for seed in seeds):
        return None
    told = f"{title}: seen over unseen accuracy in % as beta changes" + (
        "" if area is None else f", AUSUC {area:.1f} %"
    )
    chosen = "; ".join(
        f"seed {seed.seed}: U {seed.unseen:.1f}, S {seed.seen:.1f}"
        for seed in seeds
        if seed.seen is not None and seed.unseen is not None
    )
    name = title if area is None else f"{title}: AUSUC {area:.1f} %"
    return Picture(name, f"{told}. At the chosen beta: {chosen}.", partial(draw_curves, seeds=seeds), (3.0, 2.7))


def draw_curves(axes: Axes, seeds: Sequence[SeedResult]) -> None:
    """A line for each seed and a ring where its chosen beta lies."""
    for seed in seeds:
        if seed.beta_curve is not None:
            axes.plot(seed.beta_curve.unseen, seed.beta_curve.seen, color=colour("green"), linewidth=1.0, alpha=0.8)
    for seed in seeds:
        if seed.seen is not None and seed.unseen is not None:
            axes.plot(seed.unseen, seed.seen, "o", color=colour("ink"), fillstyle="none", markersize=5)
    style_axes(axes, "unseen U in %", "seen S in %")
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)


def rank_picture(title: str, shares: Sequence[Sequence[float]], missed: float) -> Picture:
    """How many queries have which rank.

    Args:
        title: of the picture.
        shares: of each seed, the share of queries of rank 1, 2, 3 to 4, 5 to 8 and so on, in %.
        missed: share of the queries without a rank, in %.
    """
    n_bars = max(map(len, shares))
    rows = [[*row, *[0.0] * (n_bars - len(row)), missed] for row in shares]
    ranges = ["1", "2", *(f"{2**place + 1}–{2 ** (place + 1)}" for place in range(1, n_bars - 1))][:n_bars]
    means = _mean(rows)
    told = ", ".join(f"{name} {mean:.1f} %" for name, mean in zip([*ranges, "missed"], means, strict=True))
    if not missed:
        rows, means = [row[:-1] for row in rows], means[:-1]
    names = [*ranges, *(["missed"] if missed else [])]
    draw = partial(draw_ranks, names=names, rows=rows, means=means)
    return Picture(title, f"Queries by rank, {title}: {told}.", draw, margins=(0.45, 0.72))


def draw_ranks(axes: Axes, names: Sequence[str], rows: Sequence[Sequence[float]], means: Sequence[float]) -> None:
    """A bar for each range of ranks, a dot for each seed."""
    axes.bar(range(len(names)), means, 0.8, color=colour("blue"))
    for row in rows if len(rows) > 1 else ():
        axes.plot(row, ".", color=colour("ink"), markersize=3)
    style_axes(axes, "rank", "% of queries")
    axes.grid(visible=False, axis="x")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)


def _draw_seeds(axes: Axes, rows: Sequence[Sequence[float]], drawn_as: str) -> None:
    """Each seed thin and their mean thick; one seed alone is thick. A single epoch is a dot."""
    marker = "." if max(map(len, rows)) == 1 else ""
    for row in rows if len(rows) > 1 else ():
        axes.plot(row, color=drawn_as, marker=marker, **_SEED)
    axes.plot(_mean(rows), color=drawn_as, marker=marker)


def _style_epochs(axes: Axes, y_label: str = "") -> None:
    from matplotlib.ticker import MaxNLocator

    style_axes(axes, "epoch, from 0", y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each epoch that all seeds have."""
    return [fmean(values) for values in zip(*rows, strict=False)]
