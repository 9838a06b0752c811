"""eval.json of retrieval: the recalls of a dataset's runs and everything that they rest on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.io.atomic import write_json
from avpipe.report.results import RETRIEVAL, extractor_quirks, provenance, read_json
from avpipe.report.retrieval_notices import find_retrieval_notices
from avpipe.report.retrieval_published import find_published, read_published_recalls
from avpipe.report.retrieval_summary import summarise_retrieval


def write_retrieval_results(
    *,
    dataset: str,
    settings: Mapping[str, Any],
    fidelity: str,
    evaluations: Sequence[str],
    packs: Sequence[str],
    accounting: str | None,
    weights: Sequence[str],
    target: str | os.PathLike[str],
    published: str | None = None,
) -> dict[str, Any]:
    """Put eval.json of retrieval together.

    Args:
        dataset: its name.
        settings: the dataset's settings, all quirks decided.
        fidelity: the config's word.
        evaluations: evaluation.json of every run and variant.
        packs: the summary of every pack that was trained or tested on, .../<dataset>/retrieval/packs/<subset>.json.
        accounting: the dataset's account of clips; None where its features were given, not extracted.
        weights: checked weights of the extractors, named <extractor>.json; empty where nothing was extracted.
        target: eval.json.
        published: CSV of published figures to put beside ours; synthetic data get none.

    Returns:
        What was written.

    Raises:
        AvpipeError: an evaluation is another version's, or the published figures are malformed.
    """
    results = [result for path in evaluations for result in summarise_retrieval(read_json(path), path)]
    summaries = {_subset_name(path, dataset): read_json(path) for path in packs}
    checked = {Path(path).stem: read_json(path) for path in weights}
    table = read_published_recalls(published) if published and not settings["synthetic"] else []
    record = {
        "kind": RETRIEVAL,
        "dataset": dataset,
        "title": settings["title"],
        "notices": find_retrieval_notices(settings, checked, results, summaries),
        "fidelity": {"word": fidelity, **extractor_quirks(settings, list(checked))},
        "results": [{**each, "published": find_published(table, each, dataset, settings["title"])} for each in results],
        "packs": summaries,
        **({"clips": read_json(accounting)} if accounting else {}),
        "provenance": {**provenance(checked, has_videos=bool(accounting)), "settings": dict(settings)},
    }
    write_json(target, record)
    return record


def _subset_name(summary: str, dataset: str) -> str:
    """The dataset's own subset, or <dataset>/<subset> of another one, as results name them."""
    path = Path(summary)
    other = path.parents[2].name
    return path.stem if other == dataset else f"{other}/{path.stem}"
