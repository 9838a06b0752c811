"""The weights that a run starts from: a published checkpoint, random ones, or what another run has left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.formats.weights import (
    RANDOM_PREFIX,
    WeightsRecord,
    build_empty,
    load_published,
    load_weights,
    random_seed,
    read_checkpoint,
    renamed_prefix,
)
from avpipe.io.manifest import read_json
from avpipe.retrieval import models
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.settings import RANDOM
from avpipe.training.seed_files import check_listed, seed_folder

MODEL = "model.pt"
"""A trained seed's bare state dict under the published names, which the published code loads."""

_OF_TRAINING = ".json"
_APEX_ENTRY, _PARALLEL_PREFIX = "net", "module."  # of amp_checkpoint.pt, and of what DataParallel saves


@dataclass(frozen=True)
class Architecture:
    """A model's name and sizes; see `avpipe.retrieval.models.build`."""

    name: str
    embedding_dim: int
    audio_channels: int
    word_dim: int = 300

    def build(self) -> RetrievalModel:
        """The model with freshly initialised weights, from torch's default generator."""
        sizes = {key: value for key, value in asdict(self).items() if key != "name"}
        return models.build(self.name, **sizes)


def is_drawn_per_seed(spec: str) -> bool:
    """Whether every seed starts from weights of its own."""
    return spec == RANDOM or spec.endswith(_OF_TRAINING)


def make_model(architecture: Architecture, spec: str, seed: int) -> tuple[RetrievalModel, WeightsRecord]:
    """The model that a seed's training starts from, or that is tested as it is, on the CPU.

    Args:
        architecture: which model.
        spec: "random" (initialised as published, from the seed); "random:<seed>" (`avpipe.weights`); the path of a
            checkpoint: a state dict, the file of DataParallel or Apex's amp_checkpoint.pt; or the path of another
            run's training.json: its model of the same seed, or else of its first.
        seed: of the run.

    Raises:
        AvpipeError: no such file, or its weights are another model's or other sizes'.
    """
    if spec == RANDOM:
        torch.manual_seed(seed)
        return architecture.build(), WeightsRecord(f"{RANDOM_PREFIX}{seed}", None)
    if random_seed(spec) is not None:
        network = cast(RetrievalModel, build_empty(architecture.build))
        return network, load_weights(network, spec)
    path = _of_training(Path(spec), seed) if spec.endswith(_OF_TRAINING) else Path(spec)
    return _from_file(architecture, path)


def seed_model(training: Path, seed: int, sha256: str) -> Path:
    """The checkpoint of a seed beside a training.json.

    Raises:
        AvpipeError: it is not there, or another than training.json lists.
    """
    path = seed_folder(training.parent, seed) / MODEL
    check_listed(path, sha256, training)
    return path


def _from_file(architecture: Architecture, path: Path) -> tuple[RetrievalModel, WeightsRecord]:
    found = read_checkpoint(path)
    if isinstance(found, Mapping) and isinstance(found.get(_APEX_ENTRY), Mapping):
        found = found[_APEX_ENTRY]
    if isinstance(found, Mapping) and all(isinstance(name, str) for name in found):
        found = renamed_prefix(found, _PARALLEL_PREFIX)
        _check_fit(architecture, found, path)
    network = cast(RetrievalModel, build_empty(architecture.build))
    try:
        load_published(network, found)
    except AvpipeError as error:
        raise AvpipeError(f"{path}: {error}") from None
    sha256 = file_sha256(path)
    return network, WeightsRecord(sha256, sha256)


def _check_fit(architecture: Architecture, state: Mapping[str, Any], path: Path) -> None:
    """Say plainly that a file is another model's or has other sizes: a list of 149 misfits does not.

    Unused entries count, so that a file says which model it is of (`DAVEnet.batchnorm1.*` is in all of them,
    `GU_audio.*` is read by all but Text-Fused, which only stores it).
    """
    fitting = [name for name in models.names() if set(_names(name)) == set(state)]
    if fitting and architecture.name not in fitting:
        raise AvpipeError(
            f"{path} holds weights of {fitting[0]}, and the run's model is {architecture.name}. Set the run's model, "
            "or give the weights of that model."
        )
    if not fitting:
        return
    bearers = {"embedding_dim": state["GU_video.fc.bias"], "audio_channels": state["DAVEnet.conv1.weight"]}
    if not all(isinstance(each, torch.Tensor) and each.ndim for each in bearers.values()):
        return  # `load_published` says what they are instead
    found = {key: len(each) for key, each in bearers.items()}
    wanted = {key: getattr(architecture, key) for key in found}
    if found != wanted:
        raise AvpipeError(
            f"{path} holds a {architecture.name} with {_listed(found)}; the run has {_listed(wanted)}. Set these of "
            "the run as they are in the file."
        )


def _names(model: str) -> list[str]:
    with torch.device("meta"):
        return list(Architecture(model, 2, 1).build().state_dict())


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sizes.items())


def _of_training(training: Path, seed: int) -> Path:
    """The model of a seed beside a training.json, checked to be the one that it lists."""
    try:
        seeds = read_json(training)["seeds"]
        chosen = str(seed) if str(seed) in seeds else next(iter(seeds))
        expected = seeds[chosen]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise AvpipeError(f"{training} is not a list of trained seeds ({error!r}); train that run first.") from error
    return seed_model(training, int(chosen), expected)
