"""eval.json: the metrics of a dataset and everything that they rest on."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avpipe import versions
from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json
from avpipe.registry import EXTRACTORS
from avpipe.report.comparison import NOTE, compare_methods
from avpipe.report.notices import find_notices
from avpipe.report.published import as_records, find_dataset, read_published
from avpipe.report.summary import summarise

GZSL, RETRIEVAL = "gzsl", "retrieval"
_NEEDED = {
    GZSL: {"dataset", "notices", "results", "comparisons", "benchmarks", "provenance"},
    RETRIEVAL: {"dataset", "notices", "results", "packs", "provenance"},
}
_LIBRARIES = ("avpipe", "torch", "numpy", "av", "h5py", "librosa", "pandas", "pyarrow", "snakemake", "imageio-ffmpeg")


def write_results(
    *,
    dataset: str,
    settings: Mapping[str, Any],
    fidelity: str,
    evaluations: Sequence[str],
    trees: Sequence[str],
    accounting: str | None,
    weights: Sequence[str],
    target: str | os.PathLike[str],
    published: str | None = None,
) -> dict[str, Any]:
    """Put eval.json together.

    Args:
        dataset: its name.
        settings: the dataset's settings, all quirks decided.
        fidelity: the config's word.
        evaluations: evaluation.json of every benchmark, method and form.
        trees: the summary of every benchmark's tree, .../gzsl/<split>/<features>.json.
        accounting: the dataset's account of clips; None where its features were given, not extracted.
        weights: checked weights, named <extractor>.json; empty where nothing was extracted.
        target: eval.json.
        published: CSV of published figures to put beside ours; synthetic data get none.

    Returns:
        What was written.

    Raises:
        AvpipeError: an evaluation is another version's, or the published figures are malformed.
    """
    results = [summarise(read_json(path), path) for path in evaluations]
    benchmarks = {f"{Path(path).parent.name}/{Path(path).stem}": read_json(path) for path in trees}
    checked = {Path(path).stem: read_json(path) for path in weights}
    record = {
        "dataset": dataset,
        "title": settings["title"],
        "notices": find_notices(settings, checked, results, benchmarks),
        "fidelity": {"word": fidelity, **extractor_quirks(settings, list(checked))},
        "results": _with_published(results, dataset, settings, published),
        "comparisons": {"note": NOTE, "pairs": compare_methods(results)},
        "benchmarks": benchmarks,
        **({"clips": read_json(accounting)} if accounting else {}),
        "provenance": {**provenance(checked, has_videos=bool(accounting)), "settings": dict(settings)},
    }
    write_json(target, record)
    return record


def provenance(weights: Mapping[str, Any], *, has_videos: bool) -> dict[str, Any]:
    """Versions of stages and libraries, and the git commit; with the weights and ffmpeg's where videos were read."""
    return {
        "stages": _stage_versions(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        **({"weights": weights, "ffmpeg": _ffmpeg_version()} if has_videos else {}),
        "git_commit": _git_commit(),
    }


def _stage_versions() -> dict[str, str]:
    stages = {name: value for name, value in vars(versions).items() if name.isupper()}
    return stages | {name.upper(): entry.stage for name, entry in EXTRACTORS.items()}


def _with_published(
    results: Sequence[dict[str, Any]], dataset: str, settings: Mapping[str, Any], path: str | None
) -> list[dict[str, Any]]:
    """Results with `published`, metric -> value, source, confirmed; empty for controls and where none are known."""
    table = read_published(path) if path else {}
    known = None if settings["synthetic"] else find_dataset(table, dataset, settings["title"])

    def figures(result: Mapping[str, Any]) -> dict[str, Any]:
        if known is None or result["control"]:
            return {}
        methods = table.get((known, result["split"], result["features"]), {})
        return as_records(methods.get(result["method"], {}))

    return [{**result, "published": figures(result)} for result in results]


def extractor_quirks(settings: Mapping[str, Any], extractors: Sequence[str]) -> dict[str, Any]:
    """Every switch of the extractors that ran, with its value; those of methods and runs are in each result."""
    from avpipe.config.models import Dataset

    features = Dataset.model_validate(dict(settings)).features
    return {
        f"features.{extractor}.{name}": value
        for extractor in extractors
        for name, value in getattr(features, extractor).quirks().items()
    }


def read_record(path: str | os.PathLike[str], kind: str | None = GZSL) -> dict[str, Any]:
    """An eval.json of this version.

    Args:
        path: of the file.
        kind: "gzsl" or "retrieval", which it should be; None: either.

    Raises:
        AvpipeError: it is not readable as one.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AvpipeError(f"{path} was not read as JSON: {error}. Expected an eval.json.") from None
    found = kind_of(record) if isinstance(record, dict) else GZSL
    needed = _NEEDED.get(found, set())
    if not isinstance(record, dict) or not needed or not needed <= record.keys():
        lacks = f" (it lacks {', '.join(sorted(needed - record.keys()))})" if isinstance(record, dict) else ""
        raise AvpipeError(
            f"{path} is not a result of this version of avpipe{lacks}. Expected an eval.json of a "
            "dataset; make it again with Snakemake."
        )
    if kind not in (None, found):
        raise AvpipeError(f"{path} is a result of the kind {found!r}; expected {kind!r}. Give another eval.json.")
    return record


def kind_of(record: Mapping[str, Any]) -> str:
    """Which kind of result a record is, "gzsl" or "retrieval"."""
    return str(record.get("kind", GZSL))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON file that avpipe wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


@functools.cache
def _git_commit() -> str | None:
    """The commit of the checkout avpipe runs from, with "+changes" where files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _ffmpeg_version() -> str:
    from avpipe.media.ffmpeg import ffmpeg_version

    return ffmpeg_version()
