"""A dataset's results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avpipe.report.markdown import figure
from avpipe.report.summary import METRICS, by_benchmark, chooses_on_test, dagger
from avpipe.report.tables import FOOTNOTE, clip_rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
"""Columns that the tables need at most."""
_N_FAILED = 10


def print_result(record: Mapping[str, Any], console: Console) -> None:
    """Print the notices, a table for each benchmark and the account of clips of an eval.json."""
    from rich.text import Text

    for notice in record["notices"]:
        console.print(Text(notice, style="bold yellow"))
    console.print(
        f"{record['dataset']}: accuracies in %, mean±standard deviation over seeds; published: HM/ZSL", markup=False
    )
    for (split, features), results in by_benchmark(record["results"]).items():
        heading = f"\n{split}, {features} (chance ZSL {results[0]['chance_zsl']:.1f})"
        console.print(heading, style="bold", markup=False, highlight=False)
        console.print(_table(results))
        if any(map(chooses_on_test, results)):
            console.print(FOOTNOTE)
    if rows := clip_rows(record):
        console.print("clips: " + ", ".join(f"{name} {n}" for name, n in rows))
        for each in record["clips"]["failed"][:_N_FAILED]:
            line = f"  {each['clip_id']}: {each['reason']} ({each['detail']})"
            console.print(line, highlight=False, markup=False)
        if (more := len(record["clips"]["failed"]) - _N_FAILED) > 0:
            console.print(f"  and {more} more in eval.json")


def _table(results: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    is_published = any(each.get("published") for each in results)
    table = Table(box=None, pad_edge=False)
    for name in ("method", "form"):
        table.add_column(name, overflow="fold")
    for name in ("S", "U", "HM", "ZSL", "seeds", *(["published"] if is_published else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        mean, deviation = result["mean"], result["std"]
        figures = [figure(mean[key], deviation[key], separator="±", mark=dagger(result)) for key in METRICS]
        published = result.get("published") or {}
        both = "/".join(f"{published[key]['value']:.2f}" if key in published else "–" for key in ("hm", "zsl"))
        table.add_row(
            result["method"],
            result["form"],
            *figures,
            str(result["n_seeds"]),
            *([both if published else ""] if is_published else []),
        )
    return table
