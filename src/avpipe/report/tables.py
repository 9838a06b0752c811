"""The result table, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avpipe.report.results import METRICS

HEADER = ("split", "features", "method", "class vectors", "S", "U", "HM", "ZSL", "chance ZSL", "seeds")


def result_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per benchmark, method and word-vector alignment; mean ± standard deviation over seeds, in %."""
    rows = []
    for result in record["results"]:
        figures = [_figure(result["mean"][metric], result["std"][metric]) for metric in METRICS]
        rows.append(
            (
                result["split"],
                result["features"],
                result["method"],
                result["text"],
                *figures,
                f"{result['chance_zsl']:.1f}",
                str(result["n_seeds"]),
            )
        )
    return rows


def clip_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What became of the clips: requested, ok and each reason."""
    clips = record["clips"]
    return [("requested", str(clips["requested"])), ("ok", str(clips["ok"]))] + [
        (reason, str(n)) for reason, n in clips["reasons"].items()
    ]


def to_markdown(record: Mapping[str, Any]) -> str:
    """The report of a dataset as Markdown."""
    lines = [f"# {record['dataset']}: {record['title']}", ""]
    lines += [f"> **{notice}**\n" for notice in record["notices"]]
    lines += ["Accuracies in %, mean ± standard deviation over seeds.", "", _row(HEADER), _row(["---"] * len(HEADER))]
    lines += [_row(row) for row in result_rows(record)]
    lines += ["", "## Clips", "", _row(("", "clips")), _row(("---", "---:"))]
    lines += [_row(row) for row in clip_rows(record)]
    for name, benchmark in record["benchmarks"].items():
        lines += ["", f"### {name}", "", _row(("subset", "expected", "used", "missing")), _row(["---"] * 4)]
        for subset, counts in benchmark["subsets"].items():
            missing = ", ".join(f"{reason} {n}" for reason, n in counts["missing"].items()) or "none"
            lines.append(_row((subset, str(counts["expected"]), str(counts["used"]), missing)))
    if failed := record["clips"]["failed"]:
        lines += ["", "## Clips without features", "", _row(("clip", "reason", "stage", "detail")), _row(["---"] * 4)]
        lines += [_row((each["clip_id"], each["reason"], each["stage"], each["detail"])) for each in failed[:50]]
        if len(failed) > 50:
            lines.append(f"\nand {len(failed) - 50} more in eval.json.")
    return "\n".join(lines) + "\n"


def _figure(mean: float, deviation: float | None) -> str:
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
