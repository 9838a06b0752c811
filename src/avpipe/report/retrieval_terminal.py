"""A dataset's retrieval results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avpipe.report.markdown import figure
from avpipe.report.retrieval_summary import DIRECTIONS, RECALLS, Result, by_subset, direction_label, run_label
from avpipe.report.retrieval_tables import HEADINGS
from avpipe.report.tables import clip_rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN = (*RECALLS, "median_rank")


def print_retrieval(record: Mapping[str, Any], console: Console) -> None:
    """Print the notices, a table for each subset and the account of clips of a retrieval eval.json."""
    from rich.text import Text

    for notice in record["notices"]:
        console.print(Text(notice, style="bold yellow"))
    console.print(f"{record['dataset']}: R@k in %, mean±standard deviation over seeds", markup=False, highlight=False)
    for subset, results in by_subset(record["results"]).items():
        chance, protocol = results[0]["chance"], results[0]["protocol"]
        guessing = "/".join(f"{chance[key]:.1f}" for key in RECALLS)
        heading = f"\n{subset}: {protocol['gallery']} candidates (chance R@1/5/10 {guessing})"
        console.print(heading, style="bold", markup=False, highlight=False)
        console.print(_table(results))
        for result in results:
            if known := result["published"]:
                console.print(_published_line(result, known), markup=False, highlight=False)
    if rows := clip_rows(record):
        console.print("clips: " + ", ".join(f"{name} {n}" for name, n in rows))
        if record["clips"]["failed"]:
            console.print("eval.json names the clips without features and says why.")


def _table(results: Sequence[Result]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("run", "query → candidates"):
        table.add_column(name, overflow="fold")
    for name in (*(HEADINGS[key] for key in _SHOWN), "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        seeds = "–" if result["seeds"][0]["seed"] is None else str(result["n_seeds"])
        for direction in DIRECTIONS:
            mean, deviation = result[direction]["mean"], result[direction]["std"]
            figures = [figure(mean[key], deviation[key], separator="±") for key in _SHOWN]
            table.add_row(run_label(result), direction_label(result, direction), *figures, seeds)
    return table


def _published_line(result: Result, known: Mapping[str, Any]) -> str:
    figures = ", ".join(f"{HEADINGS[key]} {known[key]:g}" for key in _SHOWN if key in known)
    return f"published for {result['run']}, {direction_label(result, DIRECTIONS[0])}: {figures} ({known['source']})"
