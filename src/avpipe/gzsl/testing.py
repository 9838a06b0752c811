"""Testing a trained method on the test clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.gzsl import models, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.models.base import Method, distances_of
from avpipe.gzsl.models.settings import MethodSettings
from avpipe.gzsl.scores import Scores, Tested
from avpipe.gzsl.stage_files import CHECKPOINT
from avpipe.schema.gzsl import SeedResult
from avpipe.training import checkpoint
from avpipe.training.runtime import deterministic


def evaluate_stage2(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    *,
    stage2: Path,
    device: str,
    threads: int,
) -> SeedResult:
    """Test a stage-2 checkpoint on test_seen + test_unseen with the beta that stage 1 chose.

    Args:
        benchmark: as in training.
        model_name: name of the method.
        hyperparameters: those it was trained with.
        stage2: stage 2's folder.
        device: "cpu", "cuda", …
        threads: CPU threads.

    Returns:
        Accuracies in %, at the top those of the reported mode; device and seed, and what else `SeedResult` says. The
        curve over all constants and its area are for information and choose nothing.

    Raises:
        AvpipeError: the checkpoint is of another stage, method or other hyper-parameters.
    """
    where = resolve_device(device)
    with deterministic(where, threads):
        model, test, stored = _open(benchmark, model_name, hyperparameters, stage2, device)
        return test_model(benchmark, model_name, model, test, stored)


def hand_over(
    benchmark: Benchmark,
    model_name: str,
    hyperparameters: MethodSettings,
    *,
    stage2: Path,
    device: str,
    threads: int,
) -> None:
    """Write the distances of the test clips beside a stage-2 checkpoint, so that they can be scored without torch.

    Of a method that classifies in a way of its own there are none: its checkpoint is tested.

    Args:
        benchmark, model_name, hyperparameters, stage2, device, threads: as in `evaluate_stage2`.
    """
    if not _goes_by_distances(models.implementation(model_name)):
        return
    where = resolve_device(device)
    with deterministic(where, threads):
        model, test, stored = _open(benchmark, model_name, hyperparameters, stage2, device)
        scores = _scores(_tested(benchmark, model_name, model, test, stored), model, test)
    scores.write(stage2, file_sha256(stage2 / CHECKPOINT))


def test_model(
    benchmark: Benchmark, model_name: str, model: Method, test: tensors.EvaluationSet, stored: Mapping[str, Any]
) -> SeedResult:
    """Test a model on the clips `test`, on its device.

    Args:
        benchmark: where the clips are from.
        model_name: name of the method.
        model: trained.
        test: test_seen + test_unseen.
        stored: beta, epoch, seed and fingerprint of a checkpoint.
    """
    tested = _tested(benchmark, model_name, model, test, stored)
    if _goes_by_distances(type(model)):
        return _scores(tested, model, test).result()
    train = tensors.training_set(benchmark, tensors.STAGE2_TRAINING, model.device)
    modes = _modes(model)
    results = model.evaluate(train, test, [tested.beta], modes=modes)
    return tested.result(results, model.evaluate(train, test, None, modes=modes) if tested.is_calibrated else {})


def _goes_by_distances(method: type[Method]) -> bool:
    return method.evaluate is Method.evaluate


def _modes(model: Method) -> tuple[str, ...]:
    return (*model.calibration_modes, *model.extra_modes)


def _tested(
    benchmark: Benchmark, name: str, model: Method, test: tensors.EvaluationSet, stored: Mapping[str, Any]
) -> Tested:
    return Tested(
        method=name,
        seed=stored["seed"],
        epoch=stored["epoch"],
        beta=stored["beta"],
        fingerprint=dict(stored["fingerprint"]),
        score_mode=model.score_mode,
        is_calibrated=model.is_calibrated,
        classes=[benchmark.class_names[i] for i in test.class_ids],
        seen=test.seen.tolist(),
        device=str(model.device),
    )


def _scores(tested: Tested, model: Method, test: tensors.EvaluationSet) -> Scores:
    found = distances_of(model, test, _modes(model))
    return Scores(tested, test.labels.cpu().numpy(), {mode: each.cpu().numpy() for mode, each in found.items()})


def _open(
    benchmark: Benchmark, name: str, hyperparameters: MethodSettings, stage2: Path, device: str
) -> tuple[Method, tensors.EvaluationSet, dict[str, Any]]:
    """The model of a stage-2 checkpoint, the test clips, and what else the checkpoint holds."""
    where, path = resolve_device(device), stage2 / CHECKPOINT
    test = tensors.evaluation_set(benchmark, *tensors.TEST, where)
    model = models.make(name, hyperparameters, test).to(where)
    stored = checkpoint.load_model(path, model)
    if (stored.get("stage"), stored.get("method")) != (2, name):
        raise AvpipeError(
            f"{path} is of stage {stored.get('stage')} of {stored.get('method')}; expected stage 2 of {name}."
        )
    if stored["settings"]["method"] != hyperparameters.model_dump(mode="json"):
        raise AvpipeError(f"{path} was trained with other hyper-parameters; train stage 2 again.")
    return model, test, stored
