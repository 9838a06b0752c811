"""Whether a dataset's results are whole: files, manifests, what was made from what, the account, and the figures."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from avpipe import versions
from avpipe.errors import AvpipeError
from avpipe.io.manifest import SUFFIX, Manifest, StrPath, find_damage, read_json, read_manifest
from avpipe.io.reading import MAKE_AGAIN
from avpipe.report import gzsl, retrieval
from avpipe.schema.gzsl import METRICS, BenchmarkSummary, GzslEvaluation, GzslRecord, SeedResult
from avpipe.schema.reading import read_any_record, read_evaluation, read_summary
from avpipe.schema.retrieval import DIRECTIONS, RECALLS, PackSummary, Ranking, RetrievalEvaluation
from avpipe.schema.stored import Account, Weights

_DELETED_AFTER_USE = (versions.TRIM, versions.CONVERT_FPS)
_OF_SEEDS = (
    "stage.json",
    "test.json",
    "predicted.json",
    "seed.json",
)  # which say themselves what of the inputs they rest on
_TOLERANCE = 1e-6  # percentages that were summed in another order


@dataclass(frozen=True)
class Finding:
    """What is wrong with a result: its file or folder, and a phrase."""

    result: Path
    fault: str


@dataclass(frozen=True)
class Verification:
    """What was found out about a dataset's results.

    Attributes:
        checked: number of results that have a manifest.
        findings: what is wrong.
        to_delete: the results that are wrong and all that were made from them.
        unchecked: files that no manifest names.
        modified_ns: the newest time stamp of the results and of what they were made from.
    """

    checked: int
    findings: list[Finding]
    to_delete: list[Path]
    unchecked: list[Path]
    modified_ns: int


def verify_results(folder: Path, *, is_finished: bool = True) -> Verification:
    """Check everything below a dataset's folder of results.

    Args:
        folder: results/<dataset>.
        is_finished: whether eval.json has to be there.

    Raises:
        AvpipeError: there is no such folder.
    """
    if not folder.is_dir():
        raise AvpipeError(f"{folder} is no folder; expected that of a dataset's results, such as results/demo.")
    findings: list[Finding] = []
    manifests: dict[Path, Manifest] = {}
    results = [path.with_name(path.name.removesuffix(SUFFIX)) for path in _visible(folder, f"*{SUFFIX}")]
    known = set(results)
    for result in results:  # it grows by what they were made from, such as packs of another dataset
        with _noted(findings, result):
            manifests[result] = manifest = read_manifest(result)
            if result.exists() or manifest.stage not in _DELETED_AFTER_USE:
                findings += [Finding(result, fault) for fault in find_damage(result)]
            new = _inputs(result, manifest).keys() - known
            known |= new
            results += new
    findings += _chain_faults(manifests)
    damaged = {each.result for each in findings}
    for result, manifest in manifests.items():
        if result.name in _CHECKS and not damaged & {result, *_inputs(result, manifest)}:
            with _noted(findings, result):
                findings += [Finding(result, fault) for fault in _CHECKS[result.name](result, manifest)]
    if is_finished and folder / "eval.json" not in results:
        findings.append(Finding(folder / "eval.json", "it, or its manifest, is not there"))
    named = {result.parent / name for result, manifest in manifests.items() for name in manifest.outputs}
    files = {path for path in _visible(folder, "*") if path.is_file() and path.suffix != SUFFIX}
    to_delete = _made_from({each.result for each in findings}, manifests)
    newest = max((path.stat().st_mtime_ns for path in named if path.exists()), default=0)
    return Verification(len(results), findings, sorted(to_delete), sorted(files - named - to_delete), newest)


def check_evaluations(evaluations: Iterable[StrPath]) -> None:
    """Check that the figures of some evaluation.json follow from what else they say.

    Raises:
        AvpipeError: one contradicts itself, or is damaged.
    """
    for path in map(Path, evaluations):
        for fault in _evaluation_faults(path):
            raise AvpipeError(f"{path} contradicts itself: {fault}. {MAKE_AGAIN}")


def check_figures(seed: SeedResult) -> list[str]:
    """Figures of a seed's test that do not follow from its accuracies of classes, a phrase for each."""
    classes = [each for each in seed.per_class.values() if each.gzsl is not None]
    if not classes:
        return []
    seen = fmean([each.gzsl or 0.0 for each in classes if each.zsl is None] or [0.0])
    unseen = fmean([each.gzsl or 0.0 for each in classes if each.zsl is not None] or [0.0])
    zsl = fmean([each.zsl for each in classes if each.zsl is not None] or [0.0])
    hm = 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0
    computed = dict(zip(METRICS, (seen, unseen, hm, zsl), strict=True))
    modes = {"": seed, f"{seed.score_mode} mode: ": seed.metrics.get(seed.score_mode, seed)}
    return [
        f"seed {seed.seed}, {mode}{metric} is {getattr(figures, metric)}, and its classes give {value:.6f}"
        for mode, figures in modes.items()
        for metric, value in computed.items()
        if not math.isclose(getattr(figures, metric) or 0.0, value, abs_tol=_TOLERANCE)
    ]


@contextmanager
def _noted(findings: list[Finding], result: Path) -> Iterator[None]:
    try:
        yield
    except (AvpipeError, OSError) as error:
        findings.append(Finding(result, str(error)))


def _visible(folder: Path, pattern: str) -> list[Path]:
    """Files and folders that match, but none whose name, or whose folder's, begins with a dot."""
    found = sorted(folder.rglob(pattern))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _inputs(result: Path, manifest: Manifest) -> dict[Path, str]:
    """The results that a result was made from, with the digests that they had."""
    return {Path(os.path.normpath(result.parent / name)): digest for name, digest in manifest.inputs.items()}


def _chain_faults(manifests: Mapping[Path, Manifest]) -> Iterator[Finding]:
    """Results that were made from something else than what is there now."""
    for result, manifest in manifests.items():
        if result.name in _OF_SEEDS:
            continue
        for source, digest in _inputs(result, manifest).items():
            if source in manifests and manifests[source].contents != digest:
                yield Finding(result, f"it was made from another {source} than is there now")


def _made_from(results: Collection[Path], manifests: Mapping[Path, Manifest]) -> set[Path]:
    """Results and all that were made from them; a training.json lists the seeds below its folder."""
    seeds = {result for result in manifests if result.name in _OF_SEEDS}
    sources = {result: set(_inputs(result, manifest)) for result, manifest in manifests.items() if result not in seeds}
    for result in manifests:
        if result.name == "training.json":
            sources[result] |= {each for each in seeds if result.parent in each.parents}
    found, new = set(results), set(results)
    while new:
        new = {result for result, used in sources.items() if used & new} - found
        found |= new
    return found


def _account_faults(path: Path, _: Manifest) -> list[str]:
    account = read_summary(path, Account)
    requested, failed = account.requested, sum(account.reasons.values())
    of_shards = sum(shard["requested"] for shard in account.shards.values())
    sums = {
        f"{account.ok} ok and {failed} failed of {requested} requested": account.ok + failed == requested,
        f"{of_shards} requested in the shards, {requested} in all": of_shards == requested,
        f"{len(account.failed)} clips listed as failed, and {failed} counted": len(account.failed) == failed,
    }
    return [f"its sums disagree: {fault}" for fault, is_right in sums.items() if not is_right]


def _evaluation_faults(path: Path, _: Manifest | None = None) -> list[str]:
    if read_json(path).get("kind") == "gzsl":
        return [fault for seed in read_evaluation(path, GzslEvaluation).seeds for fault in check_figures(seed)]
    seeds = read_evaluation(path, RetrievalEvaluation).seeds
    return [
        f"seed {seed.seed}, {subset}, {direction}: {fault}"
        for seed in seeds
        for subset, test in seed.tests.items()
        for direction in DIRECTIONS
        for fault in _ranking_faults(getattr(test, direction))
    ]


def _ranking_faults(ranking: Ranking) -> Iterator[str]:
    """R@k are whole numbers of queries, never fewer for a larger k, nor more than have a rank."""
    hits = [(getattr(ranking, name) or 0.0) * ranking.n_queries / 100 for name in RECALLS]
    for name, each in zip(RECALLS, hits, strict=True):
        if not math.isclose(each, round(each), abs_tol=_TOLERANCE * max(ranking.n_queries, 1)):
            yield f"{name} is {each:g} of {ranking.n_queries} queries"
    if hits != sorted(hits) or hits[-1] > ranking.n_ranked + 0.5:
        yield f"R@1, 5 and 10 are {hits} of {ranking.n_ranked} ranked queries"
    if ranking.rank_counts and sum(ranking.rank_counts) != ranking.n_ranked:
        yield f"its rank_counts are of {sum(ranking.rank_counts)} queries, and {ranking.n_ranked} are ranked"


def _record_faults(path: Path, manifest: Manifest) -> list[str]:
    """What eval.json says otherwise than the files that it was made from."""
    record = read_any_record(path)
    is_gzsl = isinstance(record, GzslRecord)
    results = [each.model_copy(update={"published": {}}) for each in record.results]
    benchmarks = record.benchmarks if isinstance(record, GzslRecord) else record.packs
    faults, expected = [], 0
    for source in _inputs(path, manifest):
        if source.name == "evaluation.json":
            summaries = _summarise(source, is_gzsl=is_gzsl)
            expected += len(summaries)
            is_said = all(each in results for each in summaries)
        elif source.name == "accounting.json":
            is_said = record.clips == read_summary(source, Account)
        elif source.parent.name == "weights":
            is_said = read_summary(source, Weights) in (record.provenance.weights or {}).values()
        elif source.parent.name == "packs" or source.parents[1].name == "gzsl":
            is_said = read_summary(source, BenchmarkSummary if is_gzsl else PackSummary) in benchmarks.values()
        else:
            continue
        faults += [] if is_said else [f"it does not say what {source} says"]
    if expected != len(results):
        faults.append(f"it has {len(results)} results, and its evaluations {expected}")
    return faults


def _summarise(evaluation: Path, *, is_gzsl: bool) -> list[Any]:
    if is_gzsl:
        return [gzsl.summarise(read_evaluation(evaluation, GzslEvaluation), str(evaluation))]
    return retrieval.summarise(read_evaluation(evaluation, RetrievalEvaluation), str(evaluation))


_CHECKS: dict[str, Callable[[Path, Manifest], list[str]]] = {
    "accounting.json": _account_faults,
    "evaluation.json": _evaluation_faults,
    "eval.json": _record_faults,
}
