"""eval.md: a dataset's results as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avpipe.report.comparison import compare_with_best
from avpipe.report.markdown import escape, figure, table
from avpipe.report.summary import DAGGER, METRICS, best_result, by_benchmark, chooses_on_test, dagger, label

_SHORT = ("S", "U", "HM", "ZSL")
_N_FAILED = 50  # clips named on the page
FOOTNOTE = f"{DAGGER} The epoch is the one that did best on the test clips themselves, as published."

Result = Mapping[str, Any]


def to_markdown(record: Mapping[str, Any]) -> str:
    """The page of a dataset, from the record that `avpipe.report.results.write_results` returned."""
    lines = [f"# {escape(record['dataset'])}: {escape(record['title'])}", ""]
    lines += [f"> **{escape(notice)}**\n" for notice in record["notices"]]
    lines += ["Accuracies in %, mean ± sample standard deviation over seeds; docs/results.md explains the columns."]
    for (split, features), results in by_benchmark(record["results"]).items():
        lines += ["", f"## {escape(split)}, {escape(features)}", ""]
        lines += _result_table(results)
        lines += _mode_table(results)
        lines += _per_class_table(results, record["benchmarks"].get(f"{split}/{features}", {}))
        lines += _comparison_tables(results, record["comparisons"]["note"])
    lines += clip_tables(record)
    return "\n".join(lines) + "\n"


def clip_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What became of the clips: requested, ok and each reason; nothing where features were given ready-made."""
    clips = record.get("clips")
    if clips is None:
        return []
    return [("requested", str(clips["requested"])), ("ok", str(clips["ok"]))] + [
        (reason, str(n)) for reason, n in clips["reasons"].items()
    ]


def forms_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """form -> its results without controls, in order of appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if not result["control"]:
            groups.setdefault(result["form"], []).append(result)
    return groups


def published_text(result: Result, metrics: Sequence[str]) -> str:
    """Published figures such as "63.15 / 30.72 (unconfirmed)"; empty where none is known."""
    known = result.get("published") or {}
    figures = [known.get(metric) for metric in metrics]
    if not any(figures):
        return ""
    text = " / ".join(f"{each['value']:.2f}" if each else "–" for each in figures)
    return text if all(each["confirmed"] for each in figures if each) else f"{text} (unconfirmed)"


def _result_table(results: Sequence[Result]) -> list[str]:
    extra: dict[str, tuple[str, ...]] = {}
    if any(result.get("published") for result in results):
        extra = {"published HM / ZSL": ("hm", "zsl"), "published S / U": ("seen", "unseen")}
    rows = [
        (
            result["method"],
            result["form"],
            result["text"],
            *_figures(result, dagger(result)),
            f"{result['chance_zsl']:.1f}",
            str(result["n_seeds"]),
            *(published_text(result, metrics) for metrics in extra.values()),
        )
        for result in results
    ]
    header = ("method", "form", "class vectors", *_SHORT, "chance ZSL", "seeds", *extra)
    footnote = ["", FOOTNOTE] if any(map(chooses_on_test, results)) else []
    return [*table(header, rows, n_text=3), *footnote]


def _mode_table(results: Sequence[Result]) -> list[str]:
    """Every mode of the methods that have several."""
    rows = []
    for result in results:
        reported = {seed.get("score_mode") for seed in result["seeds"]}
        if len(result["modes"]) > 1:
            for mode, each in result["modes"].items():
                name = f"{mode} (reported)" if mode in reported else mode
                rows.append((f"{result['method']}, {result['form']}", name, *_figures(each, dagger(result))))
    if not rows:
        return []
    heading = ["", "By what is compared with the class vectors: embeddings of sound, of pictures, or both.", ""]
    return [*heading, *table(("method", "mode", *_SHORT), rows, n_text=2)]


def _per_class_table(results: Sequence[Result], tree: Mapping[str, Any]) -> list[str]:
    """Classes of the best method in a fold, and above it those without clips."""
    best = best_result(results)
    if best is None or not best["per_class"]:
        return []
    unseen = set(tree.get("subsets", {}).get("stage_2_test_unseen", {}).get("classes", {}))
    unseen |= {name for name, each in best["per_class"].items() if each["zsl"] is not None}
    rows = [
        (
            name,
            "unseen" if name in unseen else "seen",
            str(each["clips"]),
            figure(each["gzsl"], None),
            figure(each["zsl"], None),
        )
        for name, each in best["per_class"].items()
    ]
    empty = [name for name, each in best["per_class"].items() if not each["clips"]]
    lines = ["", f"Classes without test clips, left out of all averages: {escape(', '.join(empty))}."] if empty else []
    summary = f"<summary>Each class: {escape(label(best))}, the best mean HM; means over seeds</summary>"
    fold = table(("class", "", "test clips", "among all classes", "among unseen classes"), rows, n_text=2)
    return [*lines, "", "<details>", summary, "", *fold, "", "</details>"]


def _comparison_tables(results: Sequence[Result], note: str) -> list[str]:
    """For each form with several methods: the best against each other one."""
    tables: list[str] = []
    for form, group in forms_of(results).items():
        marks = {each["method"]: dagger(each) for each in group}
        rows = [
            (
                f"{each['first']} − {each['second']}{marks[each['second']]}",
                str(each["n"]),
                *_difference(each["hm"]),
                *_difference(each["zsl"]),
            )
            for each in compare_with_best(group)
        ]
        if rows:
            tables += ["", f"Form '{escape(form)}', the method with the best mean HM against each other one:", ""]
            words = ("difference", "95 % interval", "better / equal / worse")
            header = ("methods", "seeds", *(f"{metric}: {word}" for metric in ("HM", "ZSL") for word in words))
            tables += table(header, rows)
    return ["", "### Methods compared", "", note, *tables] if tables else []


def _difference(figures: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if figures is None:
        return "–", "–", "–"
    return (
        f"{figures['mean']:+.2f} ± {figures['std']:.2f}",
        f"{figures['low']:+.2f} to {figures['high']:+.2f}",
        f"{figures['wins']} / {figures['ties']} / {figures['losses']}",
    )


def clip_tables(record: Mapping[str, Any]) -> list[str]:
    """The account of clips: in total, per benchmark and subset, and those without features."""
    rows = clip_rows(record)
    lines = ["", "## Clips"] if rows or record["benchmarks"] else []
    if rows:
        lines += ["", *table(("", "clips"), rows)]
    for name, benchmark in record["benchmarks"].items():
        lines += ["", f"### {escape(name)}", "", *_subset_table(benchmark)]
    failed = record["clips"]["failed"] if rows else []
    if failed:
        rows_failed = [(each["clip_id"], each["reason"], each["stage"], each["detail"]) for each in failed[:_N_FAILED]]
        header = ("clip", "reason", "stage", "detail")
        lines += ["", "## Clips without features", "", *table(header, rows_failed, n_text=4)]
    if len(failed) > _N_FAILED:
        lines.append(f"\nand {len(failed) - _N_FAILED} more in eval.json.")
    return lines


def _subset_table(benchmark: Mapping[str, Any]) -> list[str]:
    shared = benchmark.get("shared_sources") or {}
    rows = []
    for subset, counts in benchmark["subsets"].items():
        missing = ", ".join(f"{reason} {n}" for reason, n in counts["missing"].items()) or "none"
        row = [subset, missing, str(counts["expected"]), str(counts["used"])]
        if shared:
            row.append(str(shared[subset]["shared"]) if subset in shared else "–")
        rows.append(row)
    header = ["subset", "missing", "expected", "used", *(["share a source video with training"] if shared else [])]
    return table(header, rows, n_text=2)


def _figures(summary: Mapping[str, Any], mark: str) -> list[str]:
    mean, deviation = summary["mean"], summary["std"]
    return [figure(mean[metric], deviation[metric], mark=mark) for metric in METRICS]
