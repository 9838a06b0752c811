"""What the jobs of rules/gzsl.smk do: the account of clips, splits, class vectors, folder trees, results.

Those of training and testing are in `avpipe.jobs.gzsl_methods`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.errors import listed
from avpipe.features.store import read_pooled
from avpipe.formats.avca_pickles import NamedFeatures, write_feature_pickle
from avpipe.gzsl.benchmark import SUBSETS, join
from avpipe.gzsl.caches import write_caches
from avpipe.gzsl.class_split import FOLDER_NAMES
from avpipe.gzsl.import_features import import_features
from avpipe.gzsl.own_split import draw_split, spoken_names
from avpipe.gzsl.settings import OwnSplit
from avpipe.gzsl.source_videos import repeated_clips, shared_sources, source_videos
from avpipe.gzsl.splits import only_at_hand, read_split, write_class_split
from avpipe.gzsl.tree import NAMES_SUFFIX, PooledFeatures, publish_class_split, whole_class_split, write_features
from avpipe.gzsl.tree_files import only_file
from avpipe.gzsl.tree_reading import read_features
from avpipe.gzsl.words import read_names, read_tables, read_words, write_names
from avpipe.inventory.accounting import account, check_failure_rate, make_account, require_few_failures
from avpipe.inventory.probing import read_probed
from avpipe.inventory.repeats import find_repeats
from avpipe.io.manifest import result_directory, verified, write_json
from avpipe.report.beta_curves import plot_beta_curves
from avpipe.report.gzsl import collect_record
from avpipe.report.gzsl_table import write_gzsl_table
from avpipe.report.page.writing import write_page
from avpipe.report.tasks import write_report
from avpipe.report.verification import check_evaluations
from avpipe.schema.gzsl import BenchmarkSummary, FeatureSource

__all__ = [
    "account",
    "build_tree",
    "check_failure_rate",
    "export_pickles",
    "make_words",
    "write_eval",
    "write_gzsl_table",
    "write_split",
]

StrPath = str | os.PathLike[str]
_log = logging.getLogger(__name__)


def write_split(
    *,
    class_split: StrPath | None,
    own_split: Mapping[str, Any] | None,
    probes: Sequence[str],
    name: str,
    dataset: str,
    names: Sequence[StrPath],
    target: StrPath,
) -> None:
    """Write a class-split folder: a published split, or one that is drawn from the clips at hand.

    Args:
        class_split: the folder of a published split; None for one of one's own.
        own_split: how to draw it, `OwnSplit` as plain values; None for a published one.
        probes: for one's own split the probe tables of all shards: only clips that can be read are drawn from, and
            of those with the same content the first by clip id.
        name: of the split.
        dataset: the dataset's name.
        names: tables from class names to names of class vectors, each over those before it; over the class names,
            written as words, where a split of one's own has none.
        target: the folder, called class-split.

    Raises:
        AvpipeError: the split is not in order, or the clips do not suffice for it.
    """
    if own_split is None:
        publish_class_split(class_split or ".", name, names, target)
        return
    repeats = find_repeats(probes)
    if repeats:
        _log.warning("%d clips have the content of another one and are left out: %s", len(repeats), listed(repeats))
    clips = [clip for probe in probes for clip in read_probed(probe) if clip.clip_id not in repeats]
    sources = source_videos([clip.clip_id for clip in clips], {clip.clip_id: clip.source_sha256 for clip in clips})
    labels = {clip.clip_id: clip.class_name for clip in clips}
    split = draw_split(labels, sources, OwnSplit.model_validate(dict(own_split)), name)
    spoken = spoken_names(split.all_classes, read_tables(names))
    with whole_class_split(target) as root:
        write_class_split(split, root)
        write_names(root / FOLDER_NAMES[0] / f"{dataset}{NAMES_SUFFIX}", spoken)


def make_words(*, model: StrPath, names: StrPath, kind: Any, target: StrPath) -> None:
    """Make class vectors from a word2vec, GloVe or fastText file.

    Args:
        model: the file.
        names: the table of names, or a class-split folder that has it.
        kind: see `avpipe.gzsl.word_models.ModelKind`.
        target: the .npy to write; how each vector was made is written beside it as .json.
    """
    from avpipe.gzsl.word_models import write_class_vectors

    table = Path(names)
    write_class_vectors(model, _names_file(table) if table.is_dir() else table, target, kind)


def build_tree(
    *,
    class_split: StrPath,
    split: str,
    words: StrPath | None,
    published: StrPath | None,
    probes: Sequence[str],
    statuses: Sequence[str],
    stores: Mapping[str, Sequence[str]],
    tree: StrPath,
    summary: StrPath,
    max_failure_rate: float = 1.0,
) -> None:
    """Build one feature set of a split's tree and say what it rests on.

    Args:
        class_split: the split in the published layout.
        split: its name.
        words: the class vectors; None: those that published features bring.
        published: published features to use; None: the stores.
        probes: the probe tables of all shards, which tell what clips share a file or all their content.
        statuses: the status tables of the feature set's extractors, all shards.
        stores: "video" and "audio" -> the feature stores of all shards.
        tree: the feature set's folder to write.
        summary: the JSON file to write: clips expected, used and missing, per subset and class, and how many clips
            share a source video with training clips.
        max_failure_rate: largest tolerated share of missing or damaged clips.

    Raises:
        AvpipeError: more are missing or damaged, or a subset has none left; nothing is built.
    """
    names = _names_file(class_split)
    if published:
        import_features(
            published, class_split=class_split, split=split, words=words, names=names, tree=tree, summary=summary
        )
        return
    account = make_account(probes, statuses)
    require_few_failures(account, max_failure_rate)
    expected = read_split(class_split, split)
    audio, video = (_pooled(stores[stream], stream) for stream in ("audio", "video"))
    result = write_features(
        tree,
        expected,
        audio,
        video,
        words_file=words or "",
        names_file=names,
        reasons={row["clip_id"]: row["reason"] for row in account["failed"]},
    )
    used = only_at_hand(expected, {*audio.clip_ids} & {*video.clip_ids})
    files = {clip.clip_id: clip.source_sha256 for probe in probes for clip in read_probed(probe)}
    benchmark = BenchmarkSummary(
        **dict(result),
        source=FeatureSource(kind="extracted"),
        shared_sources=shared_sources(used, source_videos(set().union(*used.clips.values()), files)),
        repeated=repeated_clips(used, find_repeats(probes)),
    )
    write_json(summary, benchmark.to_json())


def export_pickles(*, class_split: StrPath, split: str, tree: StrPath, target: StrPath) -> None:
    """Write a feature set as pickles that the published code reads (docs/methods.md, Caches and pickles).

    Args:
        class_split: the class-split folder.
        split: name of the split.
        tree: the feature set's folder.
        target: the folder to write: training<split>.pkl, val…, train_val…, test…, which the published code expects in
            avgzsl_benchmark_datasets/<dataset>/_features_processed/<feature set>, and features.pkl, the input of its
            splitting scripts. It appears whole or not at all.
    """
    benchmark = read_features(class_split, verified(tree), split)
    names = read_names(_names_file(class_split))
    words = read_words(only_file(Path(tree) / "text", "word_embeddings_*_normed.npy"))
    stored = [benchmark.subsets[subset] for subset in SUBSETS if subset != "stage_2_train"]
    features = NamedFeatures(
        clip_ids=tuple(clip for subset in stored for clip in subset.clip_ids),
        class_ids=np.concatenate([subset.class_ids for subset in stored]),
        audio=join([subset.audio for subset in stored]),
        video=join([subset.video for subset in stored]),
    )
    with result_directory(target) as folder:
        write_caches(benchmark, names, words, folder, split)
        write_feature_pickle(folder / "features.pkl", features)


def _names_file(class_split: StrPath) -> Path:
    return only_file(Path(class_split), f"*{NAMES_SUFFIX}")


def _pooled(paths: Sequence[str], stream: str) -> PooledFeatures:
    """The pooled features of one stream, all shards."""
    clip_ids: list[str] = []
    values = []
    for path in paths:
        ids, rows = read_pooled(path, stream)
        clip_ids += ids
        values.append(rows)
    return PooledFeatures(tuple(clip_ids), np.concatenate(values))


def write_eval(
    *,
    target: StrPath,
    table: StrPath,
    figure: StrPath,
    curves: StrPath,
    page: StrPath,
    benchmarks: StrPath,
    **made: Any,
) -> None:
    """Write eval.json of a dataset, its table, its figures and its page.

    Args:
        target: eval.json.
        table: the Markdown file to write.
        figure: the figure of the results to write.
        curves: the figure of seen and unseen accuracy over the calibration constant to write.
        page: report.html to write.
        benchmarks: see `avpipe.report.page.writing.write_page`.
        **made: see `avpipe.report.gzsl.collect_record`.

    Raises:
        AvpipeError: as `collect_record`, or an evaluation's figures do not follow from its accuracies of classes.
    """
    check_evaluations(made["evaluations"])
    record = collect_record(**made)
    plot_beta_curves(record, curves)
    written = write_report(record, target, table=table, figure=figure)
    write_page(written, page, evaluations=made["evaluations"], benchmarks=benchmarks)
