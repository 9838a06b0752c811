"""What the workflow's training and evaluation jobs do: from a folder tree to trained stages and to evaluation.json.

Torch is imported only after a device has been leased.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avpipe.config.gzsl import MethodSettings, TextAlignment, TrainingSettings
from avpipe.devices import leased_device
from avpipe.gzsl.data import Benchmark
from avpipe.gzsl.methods import METHODS
from avpipe.gzsl.tree_reading import read_class_vectors, read_features
from avpipe.io.atomic import write_json

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
            self.class_split, self.tree, self.split, alignment=self.text, permutation_seed=self.seeds[0]
        )

    def words(self, seed: int) -> Any:
        """A seed's class vectors, float32 [n_classes, d_w]: the permuted control is permuted anew for each seed."""
        return read_class_vectors(self.class_split, self.tree, self.split, alignment=self.text, permutation_seed=seed)


def train_method(experiment: Experiment, *, device: str, threads: int, target: StrPath) -> None:
    """Train both stages with every seed and list the results.

    Args:
        experiment: what to train, on what.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        target: training.json: seed -> both stages' results and the sha256 of stage 2's checkpoint. The checkpoints lie
            beside it in seed<seed>/stage1 and seed<seed>/stage2; what is finished there already is kept.
    """
    folder = Path(target).parent
    with leased_device(device) as leased:
        from avpipe.gzsl.stage_files import summarise_seed
        from avpipe.gzsl.training import train_seeds

        train_seeds(
            experiment.read(),
            experiment.method,
            experiment.settings(),
            experiment.protocol(),
            seeds=experiment.seeds,
            device=leased,
            folder=folder,
            threads=threads,
            words_of=experiment.words if experiment.text == "permuted" else None,
        )
    write_json(target, {"seeds": {str(seed): summarise_seed(folder, seed) for seed in experiment.seeds}})


def evaluate_method(experiment: Experiment, *, device: str, threads: int, training: StrPath, target: StrPath) -> None:
    """Test the stage-2 checkpoint of every seed and write evaluation.json, accuracies in %.

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
    with leased_device(device) as leased:
        from avpipe.gzsl.evaluation import beta_grid
        from avpipe.gzsl.stage_files import check_seeds, stage_folder
        from avpipe.gzsl.testing import evaluate_stage2

        check_seeds(Path(training), experiment.seeds)
        benchmark, protocol = experiment.read(), experiment.protocol()
        seeds = []
        for seed in experiment.seeds:
            if experiment.text == "permuted":
                benchmark = replace(benchmark, words=experiment.words(seed))
            result = evaluate_stage2(
                benchmark,
                experiment.method,
                experiment.settings(),
                stage2=stage_folder(folder, seed, 2),
                device=leased,
                threads=threads,
                betas=beta_grid(protocol.beta_max, protocol.n_betas),
            )
            seeds.append(_in_percent(result) | {"device": leased})
            _log.info("seed %d: S %.2f U %.2f HM %.2f ZSL %.2f", seed, *(seeds[-1][key] for key in _METRICS))
    write_json(target, _record(experiment, seeds))


def _record(experiment: Experiment, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    unseen = [name for name, each in seeds[0]["per_class"].items() if each["zsl"] is not None]
    return {
        "split": experiment.split,
        "features": Path(experiment.tree).name,
        "method": experiment.method,
        "form": experiment.form,
        "text": experiment.text,
        "quirks": experiment.settings().quirks() | experiment.protocol().quirks() | {"text_alignment": experiment.text},
        "control": experiment.text == "permuted",
        "chance_zsl": 100.0 / max(len(unseen), 1),
        "seeds": seeds,
    }


_METRICS = ("seen", "unseen", "hm", "zsl")


def _in_percent(result: Mapping[str, Any]) -> dict[str, Any]:
    """A seed's result with the reported metrics at the top, all accuracies in %."""
    modes = {mode: _scaled(metrics, _METRICS) for mode, metrics in result["metrics"].items()}
    per_class = {name: _scaled(each, ("gzsl", "zsl")) for name, each in result["per_class"].items()}
    curve = result["beta_curve"]
    if curve is not None:
        curve = {key: [100 * value for value in each] if key != "betas" else each for key, each in curve.items()}
    reported = {key: modes[result["score_mode"]][key] for key in _METRICS}
    return {**result, **reported, "metrics": modes, "per_class": per_class, "beta_curve": curve}


def _scaled(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: 100 * value if key in keys and value is not None else value for key, value in values.items()}
