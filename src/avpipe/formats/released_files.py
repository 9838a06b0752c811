"""The checkpoints of the published AVCA-GZSL program as files (docs/methods.md, Files of the published program)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import torch

from avpipe.errors import AvpipeError, listed
from avpipe.formats import digests, weights

_LAST_LAYER = 4  # of a published block with a hidden layer: Linear, BatchNorm, ReLU, Dropout, Linear, ...


@dataclass(frozen=True)
class _Layout:
    """Where a method's published entries tell what it is and how large.

    Attributes:
        mark: how names begin that only this network has.
        widths: features -> the entry whose second axis is their width.
        hidden: setting -> the entry whose first axis it is.
        blocks: those that must have a hidden layer.
    """

    mark: str
    widths: Mapping[str, str]
    hidden: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()


_NETS = "triplet_net.embedding_net{}"
_TRIPLET_WIDTHS = {"audio": f"{_NETS.format(1)}.fc.0.weight", "video": f"{_NETS.format(2)}.fc.0.weight"}
_TRIPLET_HIDDEN = {"embeddings_hidden_size": f"{_NETS.format(1)}.fc.0.weight"}
_TRIPLET_BLOCKS = tuple(_NETS.format(number) for number in (1, 2, 3))
_COMPATIBILITY = _Layout("bilinear.", {"audio + video": "bilinear.weight"})
_LAYOUTS = {
    "avca": _Layout(
        "A_enc.",
        {"audio": "A_enc.fc.0.weight", "video": "V_enc.fc.0.weight"},
        {"embeddings_hidden_size": "A_enc.fc.0.weight", "decoder_hidden_size": "A_proj.fc.0.weight"},
        ("A_enc", "V_enc", "A_proj", "V_proj"),
    ),
    "ale": _COMPATIBILITY,
    "devise": _COMPATIBILITY,
    "sje": _COMPATIBILITY,
    "apn": _Layout("ALE_vector", {"audio + video": "ALE_vector"}),
    "cjme": _Layout("attention_model.", _TRIPLET_WIDTHS, _TRIPLET_HIDDEN, _TRIPLET_BLOCKS),
    "avgzslnet": _Layout(
        "decoder_net.",
        _TRIPLET_WIDTHS,
        {**_TRIPLET_HIDDEN, "decoder_hidden_size": "decoder_net.embedding_net.fc.0.weight"},
        (*_TRIPLET_BLOCKS, "decoder_net.embedding_net"),
    ),
}


def supported() -> list[str]:
    """Methods whose published checkpoints can be tested; f-VAEGAN-D2's program keeps none."""
    return list(_LAYOUTS)


@dataclass(frozen=True)
class Released:
    """A checkpoint of the published program.

    Attributes:
        path: of the file.
        sha256: of its bytes, in hex.
        epoch: that it was made in, from 0 (the file has one more).
        metric: "score" or "loss", what it was kept for; "" where the file does not say.
        state: the weights by their published names.
    """

    path: Path
    sha256: str
    epoch: int
    metric: str
    state: dict[str, torch.Tensor]


def read_released(path: Path) -> Released:
    """Read a .pt file {"epoch", "model", "optimizer", "metric"}; nothing in it is executed.

    Raises:
        AvpipeError: the file cannot be read, holds objects other than tensors and plain values, or is none of these.
    """
    sha256, content = digests.file_sha256(path), weights.read_checkpoint(path)
    expected = "Expected a checkpoint of the published program: a dict with epoch (from 1) and model (a state dict)."
    if not isinstance(content, Mapping) or not {"epoch", "model"} <= content.keys():
        found = f"a dict with {listed(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise AvpipeError(f"{path} holds {found}. {expected}")
    epoch, state = content["epoch"], content["model"]
    if not isinstance(epoch, Integral) or isinstance(epoch, bool) or epoch < 1:
        raise AvpipeError(f"{path} has the epoch {epoch!r}. {expected}")
    named = isinstance(state, Mapping) and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AvpipeError(f"{path} has a model that is not names and tensors. {expected}")
    # The published loader takes this prefix off too; torch's DataParallel puts it there.
    state = weights.renamed_prefix(state, "module.")
    return Released(path, sha256, int(epoch) - 1, str(content.get("metric", "")), state)


def find_stage_a(location: Path) -> Path:
    """Stage A's checkpoint: the only *_score.pt of a run's folder, or the file itself.

    Raises:
        AvpipeError: there is none, or several.
    """
    if location.is_file():
        return location
    if not location.is_dir():
        raise AvpipeError(f"Stage A: {location} does not exist. Expected a run's folder, or its *_score.pt file.")
    found = sorted(location.glob("*_score.pt"))
    if len(found) != 1:
        there = listed(path.name for path in (found or sorted(location.iterdir()))) or "nothing"
        raise AvpipeError(
            f"Stage A: {location} has {len(found)} files *_score.pt (there: {there}). Expected exactly one; give the "
            "path of the file that is meant."
        )
    return found[0]


def find_stage_b(location: Path, epoch: int) -> Path:
    """Stage B's checkpoint of an epoch (from 0): checkpoints/*_ckpt_<epoch>.pt of a run's folder, or the file itself.

    Raises:
        AvpipeError: there is none of this epoch, or several.
    """
    if location.is_file():
        return location
    folder = location / "checkpoints"
    found = sorted(folder.glob(f"*_ckpt_{epoch}.pt"))
    if len(found) == 1:
        return found[0]
    if found:
        raise AvpipeError(
            f"Stage B: {folder} has {len(found)} checkpoints of epoch {epoch}: {listed(path.name for path in found)}. "
            "Give the path of the one that is meant."
        )
    numbers = [re.search(r"_ckpt_(\d+)\.pt$", path.name) for path in folder.glob("*_ckpt_*.pt")]
    epochs = sorted({int(number[1]) for number in numbers if number})
    there = f"has only epochs {', '.join(map(str, epochs))}" if epochs else "has no file *_ckpt_<epoch>.pt"
    raise AvpipeError(
        f"Stage B: {folder} {there if folder.is_dir() else 'does not exist'}. Expected *_ckpt_{epoch}.pt, since stage "
        f"A did best in epoch {epoch} (from 0). Give the folder of the run on all training classes (…_all_…, made "
        "with --retrain_all --save_checkpoints) that belongs to stage A."
    )


def read_pair(method: str, stage_a: Path, stage_b: Path) -> tuple[Released, Released, dict[str, int]]:
    """Both checkpoints and the sizes that they agree on, as settings of the method.

    Args:
        method: one of `supported()`.
        stage_a: the first run's folder, or its *_score.pt.
        stage_b: the second run's folder, or the checkpoint of stage A's epoch.

    Raises:
        AvpipeError: either is lacking, unreadable or another method's, or the two do not belong together.
    """
    first = read_released(find_stage_a(stage_a))
    if stage_b.is_dir() and stage_b.resolve() == first.path.resolve().parent:
        raise AvpipeError(f"{stage_b} is given as both stages. Expected two runs: …_val_… as A and …_all_… as B.")
    _check_state(method, first)
    second = read_released(find_stage_b(stage_b, first.epoch))
    if second.epoch != first.epoch:
        raise AvpipeError(
            f"{second.path} says that it is of epoch {second.epoch} (from 0), {first.path} of {first.epoch}. Expected "
            "stage B's checkpoint of the epoch in which stage A did best; give stage B's run folder, or that file."
        )
    _check_state(method, second)
    sizes, others = _sizes(method, first), _sizes(method, second)
    if any(sizes[name] != others[name] for name in sizes.keys() & others.keys()):
        raise AvpipeError(f"{first.path} has {sizes}, {second.path} has {others}; expected two runs of one model.")
    return first, second, sizes | others


def _check_state(method: str, stage: Released) -> None:
    """Whether the entries are of this method, and of blocks that can be built here."""
    layout, names = _LAYOUTS[method], stage.state
    if not any(name.startswith(layout.mark) for name in names):
        others = [each for each, other in _LAYOUTS.items() if any(name.startswith(other.mark) for name in names)]
        looks = f"those of {' or '.join(others)}" if others else listed(names) or "none"
        raise AvpipeError(
            f"{stage.path} is no checkpoint of {method}: its entries are {looks}. Expected entries {layout.mark}…; "
            "check the method and the path."
        )
    for block in layout.blocks:
        layers = {int(found[1]) for name in names if (found := re.match(rf"{re.escape(block)}\.fc\.(\d+)\.", name))}
        if not layers or max(layers) >= _LAST_LAYER:
            continue
        lacking = "batch normalisation" if max(layers) == _LAST_LAYER - 1 else "a hidden layer (hidden size 0)"
        raise AvpipeError(
            f"{stage.path}: {block} was trained without {lacking}, which is not supported. Expected the form that the "
            "published scripts train: Linear, BatchNorm, ReLU, Dropout, Linear."
        )


def _sizes(method: str, stage: Released) -> dict[str, int]:
    """The settings that a state dict tells; what it lacks is left to the strict loading, which names it."""
    sizes = {
        name: len(stage.state[entry])
        for name, entry in _LAYOUTS[method].hidden.items()
        if entry in stage.state and stage.state[entry].ndim > 1
    }
    if method == "avca":
        layers = {found[1] for name in stage.state if (found := re.match(r"cross_attention\.layers\.(\d+)\.", name))}
        sizes["depth_transformer"] = len(layers)
    empty = [name for name, size in sizes.items() if size < 1]
    if empty:
        raise AvpipeError(f"{stage.path} has {' and '.join(empty)} 0, which is not supported; expected 1 or more.")
    return sizes


def check_widths(method: str, stage: Released, widths: tuple[int, int], features: Path) -> None:
    """Check that audio and video features of these widths, from `features`, are what a checkpoint was trained on.

    Raises:
        AvpipeError: they are not.
    """
    have = {"audio": widths[0], "video": widths[1], "audio + video": sum(widths)}
    for kind, entry in _LAYOUTS[method].widths.items():
        shape = stage.state[entry].shape if entry in stage.state else ()
        if len(shape) > 1 and shape[1] != have[kind]:
            raise AvpipeError(
                f"{stage.path} was trained on {kind} features of width {shape[1]}, those of {features} have "
                f"{have[kind]}. Give the feature set and the split that it was trained on: main_features (SeLaVi) has "
                "512 audio + 512 video, cls_features (VGGish, C3D) 128 + 4096."
            )
