"""Testing checkpoints of the published AVCA-GZSL program as its own evaluation does (docs/methods.md, Two stages)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError, listed
from avpipe.formats import weights
from avpipe.formats.released_files import Released, check_widths, read_pair, supported
from avpipe.gzsl import models, tensors
from avpipe.gzsl.benchmark import Benchmark
from avpipe.gzsl.class_split import find_folder, read_all_classes, read_clip_list
from avpipe.gzsl.evaluation import beta_grid, combined_beta
from avpipe.gzsl.models.base import Method, evaluate
from avpipe.gzsl.models.settings import MethodSettings, TextAlignment
from avpipe.gzsl.scores import in_percent
from avpipe.gzsl.testing import test_model
from avpipe.gzsl.tree_reading import read_class_vectors, read_features
from avpipe.gzsl.words import odd_vectors
from avpipe.registry import METHODS
from avpipe.schema.gzsl import METRICS, ReleasedReport, ReleasedTest
from avpipe.training.runtime import deterministic

StrPath = str | os.PathLike[str]
# Audio and video of cls_features, whose scripts set --norm_inputs (docs/methods.md, Settings of the baselines).
_NORMALISED_WIDTHS = (128, 4096)
_FLAGS = ("norm_inputs", "normalize_decoder_outputs")


def evaluate_released(
    method: str,
    stage_a: StrPath,
    stage_b: StrPath,
    *,
    features: StrPath,
    class_split: StrPath,
    split: str,
    text: TextAlignment = "published",
    flags: Mapping[str, Any] | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> ReleasedReport:
    """Test published checkpoints as the published program does: beta from stage A on val, figures from B on test.

    Args:
        method: one of `supported()`.
        stage_a: the first run's folder, or its *_score.pt.
        stage_b: the second run's folder, of which the checkpoint of stage A's epoch is taken, or that file.
        features: a feature-set folder, .../features/<feature set>.
        class_split: the class-split folder or the one that it lies in.
        split: such as cls_split.
        text: which vector each class gets; the checkpoints were trained with "published".
        flags: what a state dict cannot tell: norm_inputs (ALE, DEVISE, SJE, APN; default: true for widths 128 and
            4096, else false) and normalize_decoder_outputs (AVGZSLNet; without effect on the figures).
        device: "cpu", "cuda", ...
        threads: CPU threads; None: torch's own number.

    Returns:
        As `evaluate_stage2`, in %; seed is None, fingerprint has the files' digests, `released` what was tested.

    Raises:
        AvpipeError: files or entries are lacking, unreadable or contradictory, or features do not fit them.
    """
    _check_asked(method, flags or {})
    where, threads = resolve_device(device), threads or torch.get_num_threads()
    first, second, sizes = read_pair(method, Path(stage_a), Path(stage_b))
    benchmark = read_features(class_split, features, split, alignment=text)
    for stage in (first, second):
        check_widths(method, stage, _widths(benchmark), Path(features))
    settings, chosen = _settings(method, sizes, flags or {}, benchmark)
    model, beta, validated, without = _validate(method, settings, benchmark, first, where, threads)
    digests = {"stage A": first.sha256, "stage B": second.sha256}
    stored = {"beta": beta, "epoch": second.epoch, "seed": None, "fingerprint": digests}
    with deterministic(where, threads):
        _load(model, second)
        report = test_model(benchmark, method, model, tensors.evaluation_set(benchmark, *tensors.TEST, where), stored)
    notices = [
        "The weights are those of the user's two files; avpipe did not train them.",
        *_text_notices(benchmark, text, read_class_vectors(class_split, features, split)),
        *chosen,
        *_kept_for(first),
        *_clip_notices(benchmark, class_split, split),
        *_without_clips("validation", without),
        *_without_clips("test", report.classes_without_clips),
    ]
    read = {name: getattr(settings, name) for name in (*sizes, *_flags_of(method))}
    asked = {"split": split, "features": Path(features).name, "text": text, "settings": read}
    released = ReleasedTest(**_files(first, second), **asked, **validated, notices=notices)
    return ReleasedReport(**dict(report), released=released)


def _validate(
    method: str, settings: MethodSettings, benchmark: Benchmark, stage: Released, where: torch.device, threads: int
) -> tuple[Method, float, dict[str, Any], list[str]]:
    """The model with stage A's weights, its beta, what the record says of the validation, and classes without clips.

    The last are the validation classes that no clip of the features belongs to.
    """
    with deterministic(where, threads):
        validation = tensors.evaluation_set(benchmark, *tensors.VALIDATION, where)
        model = models.make(method, settings, validation).to(where)
        _load(model, stage)
        modes = (*model.calibration_modes, *model.extra_modes)
        results = evaluate(model, validation, beta_grid(), modes=modes)
    validated = {
        "betas": {mode: results[mode].best_beta for mode in model.calibration_modes},
        "validation": {mode: in_percent(stacking) for mode, stacking in results.items()},
    }
    without = [benchmark.class_names[validation.class_ids[c]] for c in results[model.score_mode].classes_without_clips]
    return model, combined_beta(results, model.calibration_modes), validated, without


def _files(first: Released, second: Released) -> dict[str, Any]:
    """Which two files a result is of."""
    stages = {"stage_a": first, "stage_b": second}
    names = {name: stage.path.name for name, stage in stages.items()}
    return {"epoch": first.epoch, **names, **{f"{name}_sha256": stage.sha256 for name, stage in stages.items()}}


def describe(report: ReleasedReport) -> str:
    """What `evaluate_released` returned, in lines to be read; accuracies in %."""
    released, mode = report.released, report.score_mode
    betas = ", ".join(f"{name} {beta:.1f}" for name, beta in released.betas.items())
    lines = [
        METHODS[report.method].title + f", {released.features}, {released.split}, distances by {mode}",
        f"stage A: {released.stage_a}, epoch {released.epoch} (from 0)",
        f"stage B: {released.stage_b}, epoch {released.epoch} (from 0)",
        f"beta: {report.beta:.4g} (best of stage A on the validation clips: {betas})",
        f"class vectors: {released.text} alignment",
        f"{'':22}{'S':>8}{'U':>8}{'HM':>8}{'ZSL':>8}{'beta':>8}",
    ]
    for name, figures in (("validation (stage A)", released.validation), ("test (stage B)", report.metrics)):
        row = figures[mode]
        lines.append(f"{name:22}" + "".join(f"{getattr(row, key):8.2f}" for key in METRICS) + f"{row.beta:8.4g}")
    return "\n".join([*lines, *(f"note: {notice}" for notice in released.notices)])


def _flags_of(method: str) -> list[str]:
    return [name for name in _FLAGS if name in METHODS[method].settings.model_fields]


def _check_asked(method: str, flags: Mapping[str, Any]) -> None:
    if method not in supported():
        why = "has no such checkpoints: its program keeps none" if method in METHODS else "is unknown"
        raise AvpipeError(f"The method {method!r} {why}. Expected one of {', '.join(supported())}.")
    known = _flags_of(method)
    for name, value in flags.items():
        if name not in known:
            raise AvpipeError(
                f"{name} cannot be set for checkpoints of {method}; the file says it, or it has no effect on a test. "
                f"Expected {' or '.join(known) if known else 'no setting at all'}."
            )
        if not isinstance(value, bool):
            raise AvpipeError(f"{name} is {value!r}; expected true or false.")


def _widths(benchmark: Benchmark) -> tuple[int, int]:
    test = benchmark.subsets[tensors.TEST[0]]
    return test.audio.shape[1], test.video.shape[1]


def _settings(
    method: str, sizes: Mapping[str, int], flags: Mapping[str, Any], benchmark: Benchmark
) -> tuple[MethodSettings, list[str]]:
    """The method's settings, and a sentence on each flag that was assumed and matters."""
    values, notices = {**sizes, **flags}, []
    if "norm_inputs" in _flags_of(method) and "norm_inputs" not in flags:
        widths = _widths(benchmark)
        values["norm_inputs"] = widths == _NORMALISED_WIDTHS
        notices.append(
            f"norm_inputs is {str(values['norm_inputs']).lower()} for features of widths {widths[0]} and {widths[1]}: "
            "a checkpoint does not say it, and the published scripts set it for cls_features (128 and 4096) alone."
        )
    return METHODS[method].settings(**values).resolved("published"), notices


def _load(model: Method, stage: Released) -> None:
    try:
        weights.load_published(model, stage.state)
    except AvpipeError as error:
        raise AvpipeError(f"{stage.path}: {error}") from None


def _text_notices(benchmark: Benchmark, text: str, correct: Any) -> list[str]:
    used = sorted(set().union(*(map(int, ids) for ids in benchmark.classes.values())))
    odd = odd_vectors(correct, benchmark.class_names, [benchmark.class_names[i] for i in used])
    remarks = [f"Class vectors are {remark}." for remark in odd]
    if text != "published":
        return [
            f"Class vectors: {text} alignment. Checkpoints of the published code were trained with the published "
            "one, so these are not the figures that its own evaluation gives.",
            *remarks,
        ]
    wrong = sum(not np.array_equal(benchmark.words[i], correct[i]) for i in used)
    return [
        "Class vectors: published alignment, with which checkpoints of the published code were trained. It gives "
        f"{wrong} of the {len(used)} classes of the split another class's vector.",
        *remarks,
    ]


def _kept_for(stage: Released) -> list[str]:
    if stage.metric in ("score", ""):
        return []
    return [
        f"{stage.path.name} was kept for its {stage.metric}; the published evaluation takes the one kept for its score."
    ]


def _clip_notices(benchmark: Benchmark, class_split: StrPath, split: str) -> list[str]:
    """How the tested clips differ from the split's csv files, which the published program does not open either."""
    notices = []
    for subset in (*tensors.VALIDATION, *tensors.TEST):
        if not (find_folder(class_split) / split / f"{subset}.csv").is_file():
            continue
        try:
            rows = read_clip_list(class_split, split, subset, read_all_classes(class_split))
        except AvpipeError as error:
            notices.append(f"The clips of {subset} were not compared with the split's: {error}")
            continue
        names = {benchmark.class_names[i] for i in benchmark.classes[subset]}
        wanted = {clip for clip, name in rows.items() if name in names}
        found = benchmark.subsets[subset].clip_ids
        if len(found) != len(set(found)) or set(found) != wanted:
            notices.append(
                f"{subset}: features of {len(wanted & set(found))} of the {len(wanted)} clips that the split lists, of "
                f"{len(set(found) - wanted)} others, and {len(found) - len(set(found))} rows that repeat a clip."
            )
    return notices


def _without_clips(name: str, classes: list[str]) -> list[str]:
    return [f"Classes of the {name} split without clips, left out of the means: {listed(classes)}."] if classes else []
