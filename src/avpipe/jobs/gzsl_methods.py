"""What the jobs of training and testing zero-shot methods do.

Torch is imported only after a device has been leased, and where only finished distances are scored not at all.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avpipe.devices import leased_device
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.models.settings import MethodSettings, TextAlignment, TrainingSettings
from avpipe.gzsl.scores import read_scores
from avpipe.gzsl.stage_files import check_seeds, stage_folder, summarise_seed
from avpipe.gzsl.tree_reading import read_class_vectors, read_features
from avpipe.io.manifest import verified, write_json
from avpipe.locks import sole_writer
from avpipe.registry import METHODS
from avpipe.schema.gzsl import METRICS, GzslEvaluation, SeedResult

StrPath = str | os.PathLike[str]
_log = logging.getLogger(__name__)


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
