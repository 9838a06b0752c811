"""Network weights: published files and random stand-ins, loaded strictly and without executing anything."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from avpipe.errors import AvpipeError
from avpipe.formats.digests import open_weights
from avpipe.formats.pickle_writing import STORAGES
from avpipe.formats.pickled_arrays import MAX_DIMENSIONS, shown
from avpipe.formats.pickles import StorageType, TensorUnpickler, unpickle
from avpipe.io.reading import READ_ERRORS

RANDOM_PREFIX = "random:"
_VARIANCE = "running_var"  # batch normalisation's


@runtime_checkable
class Published(Protocol):
    """A network whose published file names its entries otherwise than the network does, or holds more.

    A class attribute `published_entry` names the entry of a training checkpoint that holds the weights.
    """

    def published_entries(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Published entries under the network's own names; what it does not know stays, to be reported.

        The network's own names stay as they are.
        """


@dataclass(frozen=True)
class WeightsRecord:
    """What a network's weights were, for provenance.

    Attributes:
        label: "random:<seed>", or the sha256 of the file.
        sha256: of the file, in hex; None for random weights.
    """

    label: str
    sha256: str | None


def build_empty(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A network in evaluation mode whose numbers are yet to come; quick, and no random number is drawn.

    Args:
        build: makes the network.
    """
    with torch.device("meta"):
        network = build()
    network = network.float().to_empty(device="cpu").eval()  # float32 whatever the caller's default type is
    for buffer in network.buffers():
        if not buffer.is_floating_point():
            buffer.zero_()  # batch-norm counters, which old files lack
    return network


def load_weights(module: torch.nn.Module, spec: str | Path) -> WeightsRecord:
    """Fill a network in place from a file or from a seed.

    Args:
        module: the network.
        spec: path of a state dict saved with `torch.save`, or "random:<seed>" with a whole number from 0. A
            training checkpoint will do for a network that says which entry it wants (`Published`).

    Raises:
        AvpipeError: a spec that is neither, an unreadable file, one that is known to be another (the network's
            `other_files`), or keys that do not fit (`load_published`).
    """
    if not isinstance(spec, str | os.PathLike):
        raise AvpipeError(f"Weights {spec!r}: expected the path of a weight file, or random:<seed> such as 'random:0'.")
    seed = random_seed(spec)
    if seed is not None:
        load_published(module, random_state_dict(module, seed))
        return WeightsRecord(label=f"{RANDOM_PREFIX}{seed}", sha256=None)
    path = Path(spec)
    with open_weights(path) as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        handle.seek(0)
        data = handle.read()
    state_dict = _state_dict(_unpickle_tensors(data, path), path, getattr(module, "published_entry", None))
    del data
    for digest, what in getattr(module, "other_files", {}).items():
        if sha256.startswith(digest):
            raise AvpipeError(
                f"{path} is {what} (sha256 {sha256}): it fits {type(module).__name__} and gives other features. "
                "Use the published file; config/files.yaml says where it can be had."
            )
    try:
        load_published(module, state_dict)
    except AvpipeError as error:
        raise AvpipeError(f"{path}: {error}") from None
    return WeightsRecord(label=sha256, sha256=sha256)


def random_seed(spec: str | Path) -> int | None:
    """The seed in "random:<seed>"; None when the spec is a path.

    Raises:
        AvpipeError: "random:" followed by anything but a whole number from 0.
    """
    text = str(spec)
    if not text.startswith(RANDOM_PREFIX):
        return None
    digits = text.removeprefix(RANDOM_PREFIX)
    if not (digits.isascii() and digits.isdigit()):
        raise AvpipeError(
            f"Weights {text!r}: the part after 'random:' is not a whole number from 0. "
            "Expected for example 'random:0', or the path of a weight file."
        )
    return int(digits)


def read_checkpoint(path: Path) -> Any:
    """Whatever `torch.save` put into a file, if it is tensors, numbers, strings and containers of them.

    Nothing in the file is executed. Both formats of `torch.save` are read, the zip archive and the one
    before it (torch < 1.6), which has no checksums. Tensors arrive on the CPU.

    Raises:
        AvpipeError: no such file, not a file of `torch.save`, cut short, damaged, or holding other objects.
    """
    with open_weights(path) as handle:
        return _unpickle_tensors(handle.read(), path)


def read_state_dict(path: Path, entry: str | None = None) -> dict[str, torch.Tensor]:
    """A published state dict: names to tensors, on the CPU; read as `read_checkpoint` does.

    Args:
        path: of the file.
        entry: where the file is a training checkpoint, its entry with the state dict; the others are ignored.

    Raises:
        AvpipeError: as `read_checkpoint`, and when the file holds something other than names and tensors.
    """
    return _state_dict(read_checkpoint(path), path, entry)


def load_published(module: torch.nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Copy a published state dict into a network, strictly, in place.

    A network that is `Published` takes its entry out of a training checkpoint and brings the names to its own.
    Batch-norm counters (`*.num_batches_tracked`) may be missing: files older than torch 0.4.1 lack them,
    and they do not enter inference (docs/networks.md, ResNet-152).

    Raises:
        AvpipeError: names every missing, unexpected and misshapen key, and those with values that are not finite in
            the network's type, or with negative variances; the network is then unchanged.
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(key, str) for key in state_dict):
        raise AvpipeError(f"Weights: found a {type(state_dict).__name__}; expected a mapping from names to tensors.")
    state_dict = _entry_of(state_dict, getattr(module, "published_entry", None))
    if isinstance(module, Published):
        state_dict = module.published_entries(state_dict)
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in state_dict and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state_dict if k not in wanted]
    known = {key: value for key, value in state_dict.items() if key in wanted}
    problems = {"missing": missing, "unexpected": unexpected, **_unusable(known, wanted)}
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys)
        raise AvpipeError(
            f"The weights do not fit {type(module).__name__}: {found}. "
            f"Expected exactly the {len(wanted)} published entries. {_advice(state_dict, wanted, missing, unexpected)}"
        )
    module.load_state_dict(state_dict, strict=False)


def _unusable(found: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Entries whose shape or numbers a network cannot take: what is wrong with them -> their names."""
    wrong: dict[str, list[str]] = {"misshapen": [], "not finite": [], "with negative variances": []}
    for key, value in found.items():
        like = wanted[key]
        if not (_is_ordinary(value) and value.shape == like.shape):
            wrong["misshapen"].append(f"{key} (found {_shape_text(value)}, expected {_shape_text(like)})")
            continue
        # As they will be in the network: float64 and bfloat16 hold numbers that are infinite in others.
        numbers = value.to(like.dtype if like.is_floating_point() else torch.float64)
        if not bool(torch.isfinite(numbers).all()):
            wrong["not finite"].append(f"{key} (as {numbers.dtype})" if numbers.dtype != value.dtype else key)
        elif key.endswith(_VARIANCE) and bool((numbers < 0).any()):
            wrong["with negative variances"].append(key)
    return wrong


def renamed_prefix(state_dict: Mapping[str, Any], old: str, new: str = "") -> dict[str, Any]:
    """Entries with the beginning of their names changed from `old` to `new`.

    Nothing changes where a name begins with `new` already and not with `old`: a file with both kinds is not the
    published one.
    """
    if any(not key.startswith(old) and key.startswith(new) for key in state_dict):
        return dict(state_dict)
    return {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in state_dict.items()}


def random_state_dict(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Random weights for a network, for runs without published files.

    Each entry depends on the seed, its name and its shape alone: adding or reordering entries changes no
    other. Weights are scaled by sqrt(2 / fan_in) (He et al. 2015), which keeps activations of the same size
    through the layers; normalisation layers get scales near 0.7, small shifts and variances above 1.

    Args:
        module: gives names, shapes and dtypes; it is not changed.
        seed: any whole number.
    """
    return {key: _random_entry(key, like, seed) for key, like in module.state_dict().items()}


def _random_entry(key: str, like: torch.Tensor, seed: int) -> torch.Tensor:
    if not like.is_floating_point():
        return torch.zeros_like(like, device="cpu")
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    values = torch.randn(like.shape, generator=generator, dtype=torch.float32)
    if key.endswith("running_mean"):
        values.mul_(0.1)
    elif key.endswith(_VARIANCE):
        values.abs_().mul_(0.2).add_(1.0)
    elif like.ndim >= 2:
        values.mul_(math.sqrt(2.0 / math.prod(like.shape[1:])))
    elif key.endswith("weight"):
        values.mul_(0.1).add_(0.7)
    else:
        values.mul_(0.05)
    return values.to(like.dtype)


class _WeightsUnpickler(TensorUnpickler):
    """Knows what else training checkpoints hold, of any device; old files have tensors of the first version."""

    only_cpu = False

    def stand_ins(self) -> dict[tuple[str, str], Any]:
        """Those of tensors, and parameters, sizes, devices and types of numbers."""
        known = super().stand_ins()
        types = [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)]
        return {
            **known,
            **{("torch.cuda", name): StorageType(name) for name in STORAGES},
            **{(module, "BFloat16Storage"): StorageType("BFloat16Storage") for module in ("torch", "torch.cuda")},
            **{("torch", name): f"torch.{name}" for name in types},
            ("torch._utils", "_rebuild_tensor"): known["torch._utils", "_rebuild_tensor_v2"],
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "Size"): self._size,
            ("torch", "device"): lambda *parts: shown(parts),
        }

    def _size(self, lengths: Any) -> tuple[Any, ...]:
        if not isinstance(lengths, list | tuple) or len(lengths) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor of the size {shown(lengths)}")
        return tuple(lengths)


def _unpickle_tensors(data: bytes, path: Path) -> Any:
    try:
        return _as_tensors(unpickle(data, _WeightsUnpickler))
    except READ_ERRORS as error:
        fault = str(error).rstrip(".") or type(error).__name__
        raise AvpipeError(
            f"{path} ({len(data):,} bytes) cannot be read as weights: {fault}. "
            "Expected a file written by torch.save with tensors only; nothing in it was executed. "
            "Compare its size and sha256 with the publisher's and download it again."
        ) from None


def _as_tensors(value: Any) -> Any:
    """A tensor for each array, sharing its memory."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _as_tensors(each) for key, each in value.items()}
    return type(value)(map(_as_tensors, value)) if isinstance(value, list | tuple) else value


def _state_dict(loaded: Any, path: Path, entry: str | None = None) -> dict[str, torch.Tensor]:
    loaded = _entry_of(loaded, entry)
    if not isinstance(loaded, Mapping):
        found = f"a {type(loaded).__name__}"
    else:
        others = [str(k) for k, v in loaded.items() if not (isinstance(k, str) and isinstance(v, torch.Tensor))]
        if not others:
            return dict(loaded)
        found = f"entries that are not tensors: {', '.join(others)}"
    raise AvpipeError(
        f"{path} holds {found}. Expected a plain state dict, names to tensors. "
        "If it is a training checkpoint, save its model entry alone with torch.save."
    )


def _entry_of(loaded: Any, entry: str | None) -> Any:
    """The weights of a training checkpoint; anything else as it is."""
    if entry is not None and isinstance(loaded, Mapping) and isinstance(loaded.get(entry), Mapping):
        return loaded[entry]
    return loaded


def _is_ordinary(value: Any) -> bool:
    """Whether a value is a tensor of real numbers that are all there, one after the other."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_complex() or value.is_quantized or value.is_nested)
    )


def _shape_text(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    if not _is_ordinary(value):
        return f"a tensor of type {value.dtype}, layout {value.layout}, on {value.device}"
    return str(list(value.shape))


def _advice(state_dict: Mapping[str, Any], wanted: Mapping[str, Any], missing: list[str], unexpected: list[str]) -> str:
    """The likeliest cause: a training checkpoint, names that differ by a prefix alone, or another network's file."""
    for name in unexpected:
        inner = state_dict[name]
        if isinstance(inner, Mapping) and not set(wanted).isdisjoint(inner):
            return f"This is a training checkpoint: give its entry {name!r}."
    for name in unexpected:
        prefix, dot, rest = str(name).partition(".")
        if rest in wanted and rest in missing:
            return f"The names carry the prefix {prefix + dot!r}: remove it from each and save the file again."
    return "Check that the file belongs to this network and to the release that the documentation names."
