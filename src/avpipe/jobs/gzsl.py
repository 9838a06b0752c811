"""What the jobs of rules/gzsl.smk do: the account of clips, splits, class vectors, folder trees, training, evaluation.

Torch is imported only after a device has been leased, and where only finished distances are scored not at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avpipe.devices import leased_device
from avpipe.errors import listed
from avpipe.features.store import read_pooled
from avpipe.formats.avca_pickles import NamedFeatures, write_feature_pickle
from avpipe.gzsl.benchmark import SUBSETS, Benchmark, join
from avpipe.gzsl.caches import write_caches
from avpipe.gzsl.class_split import FOLDER_NAMES
from avpipe.gzsl.import_features import import_features
from avpipe.gzsl.models.settings import MethodSettings, TextAlignment, TrainingSettings
from avpipe.gzsl.own_split import draw_split, spoken_names
from avpipe.gzsl.scores import read_scores
from avpipe.gzsl.settings import OwnSplit
from avpipe.gzsl.source_videos import repeated_clips, shared_sources, source_videos
from avpipe.gzsl.splits import only_at_hand, read_split, write_class_split
from avpipe.gzsl.stage_files import check_seeds, stage_folder, summarise_seed
from avpipe.gzsl.tree import NAMES_SUFFIX, PooledFeatures, publish_class_split, whole_class_split, write_features
from avpipe.gzsl.tree_files import only_file
from avpipe.gzsl.tree_reading import read_class_vectors, read_features
from avpipe.gzsl.words import read_names, read_tables, read_words, write_names
from avpipe.inventory.accounting import account, check_failure_rate, make_account, require_few_failures
from avpipe.inventory.probing import read_probed
from avpipe.inventory.repeats import find_repeats
from avpipe.io.manifest import result_directory, verified, write_json
from avpipe.locks import sole_writer
from avpipe.registry import METHODS
from avpipe.report.beta_curves import plot_beta_curves
from avpipe.report.gzsl import collect_record
from avpipe.report.gzsl_table import write_gzsl_table
from avpipe.report.page.writing import write_page
from avpipe.report.tasks import write_report
from avpipe.report.verification import check_evaluations
from avpipe.schema.gzsl import METRICS, BenchmarkSummary, FeatureSource, GzslEvaluation, SeedResult

__all__ = [
    "Experiment",
    "account",
    "build_tree",
    "check_failure_rate",
    "evaluate_method",
    "export_pickles",
    "make_words",
    "train_method",
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


@dataclass(frozen=True)
class Experiment:
    """One method on one benchmark in one form, as plain values that a workflow can hand over.

    Attributes:
        class_split: the class-split folder.
        split: name of the split.
        tree: the feature set's folder, .../features/<feature set>.
        method: name of the method.
        form: "corrected", "published" or "permuted" (the control), for the record.
        text: which vector each class gets.
        hyperparameters: the method's settings as plain values, quirks decided.
        training: the protocol's settings as plain values, the method's own put in.
        seeds: of weights, dropout and pairs, and of the permutation where `text` is "permuted".
    """

    class_split: StrPath
    split: str
    tree: StrPath
    method: str
    form: str
    text: TextAlignment
    hyperparameters: Mapping[str, Any]
    training: Mapping[str, Any]
    seeds: Sequence[int]

    def settings(self) -> MethodSettings:
        """The method's settings."""
        return METHODS[self.method].settings.model_validate(dict(self.hyperparameters))

    def protocol(self) -> TrainingSettings:
        """The training settings."""
        return TrainingSettings.model_validate(dict(self.training))

    def read(self) -> Benchmark:
        """The benchmark, with the class vectors of the first seed where each seed has its own."""
        return read_features(
            self.class_split, verified(self.tree), self.split, alignment=self.text, permutation_seed=self.seeds[0]
        )

    def words(self, seed: int) -> Any:
        """A seed's class vectors, float32 [n_classes, d_w]: the permuted control is permuted anew for each seed."""
        return read_class_vectors(self.class_split, self.tree, self.split, alignment=self.text, permutation_seed=seed)

    def benchmark_of(self, seed: int, benchmark: Benchmark) -> Benchmark:
        """The benchmark, as `read` gave it, with the class vectors of a seed."""
        return replace(benchmark, words=self.words(seed)) if self.text == "permuted" else benchmark


def train_method(experiment: Experiment, *, device: str, threads: int, target: StrPath) -> None:
    """Train both stages with every seed and list the results.

    Args:
        experiment: what to train, on what.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        target: training.json: seed -> both stages' results and the sha256 of stage 2's checkpoint. The checkpoints lie
            beside it in seed<seed>/stage1 and seed<seed>/stage2; what is finished there already is kept. Beside
            stage 2's lie the distances of the test clips, for `evaluate_method`.

    Raises:
        AvpipeError: another job trains there, or as `avpipe.gzsl.training.train_seeds`.
    """
    folder = Path(target).parent
    with sole_writer(folder / ".training.lock", f"{folder}"), leased_device(device) as leased:
        from avpipe.gzsl.testing import hand_over
        from avpipe.gzsl.training import train_seeds

        benchmark, settings = experiment.read(), experiment.settings()
        train_seeds(
            benchmark,
            experiment.method,
            settings,
            experiment.protocol(),
            seeds=experiment.seeds,
            device=leased,
            folder=folder,
            threads=threads,
            words_of=experiment.words if experiment.text == "permuted" else None,
        )
        for seed in experiment.seeds:
            tested, stage2 = experiment.benchmark_of(seed, benchmark), stage_folder(folder, seed, 2)
            hand_over(tested, experiment.method, settings, stage2=stage2, device=leased, threads=threads)
        write_json(target, {"seeds": {str(seed): summarise_seed(folder, seed) for seed in experiment.seeds}})


def evaluate_method(experiment: Experiment, *, device: str, threads: int, training: StrPath, target: StrPath) -> None:
    """Test the stage-2 checkpoint of every seed and write evaluation.json, accuracies in %.

    What training has handed over (`avpipe.gzsl.scores`) is scored without torch; the other checkpoints are loaded.

    Args:
        experiment: what was trained, on what.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        training: the training.json that `train_method` wrote.
        target: the JSON file to write.

    Raises:
        AvpipeError: a checkpoint is not the one that training.json lists.
    """
    folder = Path(training).parent
    checkpoints = check_seeds(Path(training), experiment.seeds)
    handed_over = {seed: read_scores(stage_folder(folder, seed, 2), checkpoints[seed]) for seed in experiment.seeds}
    left = [seed for seed, scores in handed_over.items() if scores is None]
    found = {seed: scores.result() for seed, scores in handed_over.items() if scores is not None}
    found |= _test_checkpoints(experiment, left, folder, device, threads) if left else {}
    seeds = [found[seed] for seed in experiment.seeds]
    for each in seeds:
        figures = (getattr(each, key) for key in METRICS)
        _log.info("seed %d, test clips: S %.2f U %.2f HM %.2f ZSL %.2f", each.seed, *figures)
    write_json(target, _evaluation(experiment, seeds).to_json())


def _test_checkpoints(
    experiment: Experiment, seeds: Sequence[int], folder: Path, device: str, threads: int
) -> dict[int, SeedResult]:
    """Tests of the seeds that training has handed nothing over for."""
    with leased_device(device) as leased:
        from avpipe.gzsl.testing import evaluate_stage2

        benchmark, settings = experiment.read(), experiment.settings()
        options: dict[str, Any] = {"device": leased, "threads": threads}
        return {
            seed: evaluate_stage2(
                experiment.benchmark_of(seed, benchmark),
                experiment.method,
                settings,
                stage2=stage_folder(folder, seed, 2),
                **options,
            )
            for seed in seeds
        }


def _evaluation(experiment: Experiment, seeds: list[SeedResult]) -> GzslEvaluation:
    n_unseen = sum(each.zsl is not None for each in seeds[0].per_class.values())
    return GzslEvaluation(
        split=experiment.split,
        features=Path(experiment.tree).name,
        method=experiment.method,
        form=experiment.form,
        text=experiment.text,
        quirks=experiment.settings().quirks() | experiment.protocol().quirks() | {"text_alignment": experiment.text},
        control=experiment.text == "permuted",
        chance_zsl=100.0 / max(n_unseen, 1),
        seeds=seeds,
    )


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
