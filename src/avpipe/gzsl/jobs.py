"""What the workflow's training and evaluation jobs do: from a folder tree to a stage's files and to evaluation.json.

Torch is imported only after a device has been leased.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avpipe.config.gzsl import TextAlignment, TrainingSettings
from avpipe.config.models import Methods
from avpipe.config.quirks import Settings
from avpipe.devices import leased_device
from avpipe.gzsl.data import Benchmark
from avpipe.gzsl.tree import read_tree
from avpipe.io.atomic import write_json

StrPath = str | os.PathLike[str]
_log = logging.getLogger(__name__)


def train_stage(
    stage: int,
    *,
    tree: StrPath,
    method: str,
    text: TextAlignment,
    hyperparameters: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    device: str,
    threads: int,
    target: StrPath,
    stage1: StrPath | None = None,
) -> None:
    """Train one stage with one seed.

    Args:
        stage: 1 or 2.
        tree: the feature set's folder, .../gzsl/<split>/features/<feature set>.
        method: name of the method.
        text: which vector each class gets.
        hyperparameters, training: settings as plain values, quirks decided.
        seed: of weights, dropout and pairs, and of the permutation where `text` is "permuted".
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        target: the stage's stage.json; the other files are written beside it.
        stage1: stage 1's stage.json, for stage 2.
    """
    with leased_device(device) as leased:
        from avpipe.gzsl.training import train_stage1, train_stage2

        common: dict[str, Any] = {
            "benchmark": read_benchmark(tree, text, seed),
            "model_name": method,
            "hyperparameters": method_settings(method, hyperparameters),
            "training": TrainingSettings.model_validate(training),
            "seed": seed,
            "device": leased,
            "folder": Path(target).parent,
            "threads": threads,
        }
        if stage == 1:
            train_stage1(**common)
        else:
            train_stage2(**common, stage1=Path(stage1 or ""))


def evaluate_seeds(
    *,
    tree: StrPath,
    method: str,
    text: TextAlignment,
    hyperparameters: Mapping[str, Any],
    checkpoints: Sequence[StrPath],
    device: str,
    threads: int,
    target: StrPath,
) -> None:
    """Test the stage-2 checkpoint of every seed and write evaluation.json, accuracies in %.

    Args:
        tree, method, text, hyperparameters, device, threads: as in `train_stage`.
        checkpoints: .../seed<seed>/stage2/checkpoint.pt of every seed.
        target: the JSON file to write.
    """
    folder = Path(tree)
    with leased_device(device) as leased:
        from avpipe.gzsl.training import evaluate_stage2

        seeds = []
        for path in map(Path, checkpoints):
            seed = int(path.parent.parent.name.removeprefix("seed"))
            benchmark = read_benchmark(tree, text, seed)
            result = evaluate_stage2(
                benchmark,
                method,
                method_settings(method, hyperparameters),
                stage2=path.parent,
                device=leased,
                threads=threads,
            )
            seeds.append(_in_percent(result) | {"device": leased})
            _log.info("seed %d: S %.2f U %.2f HM %.2f ZSL %.2f", seed, *(seeds[-1][key] for key in _METRICS))
    unseen = [name for name, each in seeds[0]["per_class"].items() if each["zsl"] is not None]
    write_json(
        target,
        {
            "split": folder.parents[1].name,
            "features": folder.name,
            "method": method,
            "text": text,
            "control": text == "permuted",
            "chance_zsl": 100.0 / max(len(unseen), 1),
            "seeds": seeds,
        },
    )


def read_benchmark(tree: StrPath, text: TextAlignment, seed: int) -> Benchmark:
    """The benchmark of a feature set's folder; the permuted control is permuted anew for each seed."""
    root = Path(tree).parents[1]
    return read_tree(root, Path(tree).name, root.name, alignment=text, permutation_seed=seed)


def method_settings(method: str, values: Mapping[str, Any]) -> Settings:
    """A method's settings from plain values."""
    return getattr(Methods.model_validate({method: values}), method)


_METRICS = ("seen", "unseen", "hm", "zsl")


def _in_percent(result: Mapping[str, Any]) -> dict[str, Any]:
    """A seed's result with the reported metrics at the top, all accuracies in %."""
    modes = {
        mode: {key: value * 100 if key in _METRICS else value for key, value in metrics.items()}
        for mode, metrics in result["metrics"].items()
    }
    per_class = {
        name: {key: value if key == "clips" or value is None else value * 100 for key, value in each.items()}
        for name, each in result["per_class"].items()
    }
    reported = {key: modes[result["score_mode"]][key] for key in _METRICS}
    return {**result, **reported, "metrics": modes, "per_class": per_class}
