"""eval.md of retrieval: a dataset's results as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avpipe.report.markdown import escape, figure, table
from avpipe.report.retrieval_summary import DIRECTIONS, METRICS, RECALLS, Result, by_subset, direction_label, run_label
from avpipe.report.tables import clip_tables

HEADINGS = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank", "mean_rank": "mean rank"}
"""What tables and figures call a metric."""


def to_markdown(record: Mapping[str, Any]) -> str:
    """The page of a dataset, from the record that `write_retrieval_results` returned."""
    lines = [f"# {escape(record['dataset'])}: {escape(record['title'])}", ""]
    lines += [f"> **{escape(notice)}**\n" for notice in record["notices"]]
    lines += [
        "R@k: share of queries, in %, whose own clip is among the first k; ranks count from 1. Mean ± sample standard "
        "deviation over seeds. Sound and text are the language side."
    ]
    for subset, results in by_subset(record["results"]).items():
        mark = ", diagnostic" if results[0]["diagnostic"] else ""
        lines += ["", f"## {escape(subset)}{mark}", ""]
        lines += [f"{escape(text)}\n" for text in dict.fromkeys(each["protocol"]["text"] for each in results)]
        lines += _result_table(results)
        lines += _published_table(results)
    lines += _packs(record["packs"])
    return "\n".join([*lines, *clip_tables({**record, "benchmarks": {}})]) + "\n"


def start_text(result: Result) -> str:
    """What a run started from: the word or path of its settings; a file's digest is shortened."""
    start = result["start"]
    return start["spec"] if start["sha256"] is None else f"{start['spec']} ({start['sha256'][:8]})"


def _result_table(results: Sequence[Result]) -> list[str]:
    rows = [
        (
            run_label(result),
            result["model"],
            result["regime"],
            start_text(result),
            direction_label(result, direction),
            *(figure(result[direction]["mean"][key], result[direction]["std"][key]) for key in METRICS),
            " / ".join(f"{result['chance'][key]:.1f}" for key in RECALLS),
            f"{result['protocol']['n_ranked']} of {result['protocol']['n_queries']}",
            str(result["protocol"]["gallery"]),
            "–" if result["seeds"][0]["seed"] is None else str(result["n_seeds"]),
        )
        for result in results
        for direction in DIRECTIONS
    ]
    texts = ("run", "model", "regime", "weights", "query → candidates")
    return table((*texts, *HEADINGS.values(), "chance R@1 / 5 / 10", "ranked", "gallery", "seeds"), rows, n_text=5)


def _published_table(results: Sequence[Result]) -> list[str]:
    rows = [
        (
            run_label(result),
            direction_label(result, DIRECTIONS[0]),
            known["source"],
            *(_published_figure(known, key, ours) for key, ours in shown.items()),
        )
        for result in results
        if (known := result["published"])
        for shown in [{key: result[DIRECTIONS[0]]["mean"][key] for key in METRICS[:4]}]
    ]
    if not rows:
        return []
    header = ("run", "query → candidates", "source", *(HEADINGS[key] for key in METRICS[:4]))
    return ["", "Published, and ours in brackets:", "", *table(header, rows, n_text=3)]


def _published_figure(known: Mapping[str, Any], key: str, ours: float | None) -> str:
    published = f"{known[key]:g}" if key in known else "–"
    return f"{published} ({figure(ours, None)})"


def _packs(packs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not packs:
        return []
    rows = []
    for name, pack in packs.items():
        counts = {**pack["missing"], "unlisted": pack["unlisted"]}
        missing = ", ".join(f"{reason} {n}" for reason, n in counts.items() if n) or "none"
        rows.append((name, pack["origin"], missing, str(pack["expected"]), str(pack["used"])))
    return ["", "## Subsets", "", *table(("subset", "features", "missing", "expected", "used"), rows, n_text=3)]
