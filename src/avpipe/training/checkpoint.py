"""Files of a training run: checkpoints, fingerprints and the resume file. All load with `weights_only=True`."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.formats.zip_checks import check_archive
from avpipe.io import atomic

log = logging.getLogger(__name__)

Fingerprint = dict[str, str]
"""What a state rests on: part ("data", "settings", "seed", …) -> digest or value."""


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and contents of tensors."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        values: Any = tensor.detach().contiguous().cpu().view(-1).numpy()  # a buffer, though not to mypy
        digest.update(values.view("u1"))
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values atomically; tensors are moved to the CPU, so any machine can read it."""
    buffer = io.BytesIO()  # given a path, torch would write that (temporary) name into the file
    torch.save(_on_cpu(content), buffer)
    atomic.write_bytes(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; nothing in the file is executed.

    Raises:
        AvpipeError: missing or unreadable file.
    """
    try:
        with path.open("rb") as stream:
            check_archive(stream)
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise AvpipeError(f"No checkpoint at {path}: run the training first.") from error
    except Exception as error:  # torch raises whatever its unpickler meets
        raise AvpipeError(f"{path} is not a checkpoint that can be read ({error}); remove it and run again.") from error
    if not isinstance(content, dict):
        raise AvpipeError(f"{path} holds a {type(content).__name__}, expected a dict. Remove it and run again.")
    return content


def load_model(path: Path, model: torch.nn.Module) -> dict[str, Any]:
    """Load the weights of a checkpoint into `model`, strictly; returns the rest of the checkpoint.

    Raises:
        AvpipeError: the weights do not fit the model.
    """
    content = load(path)
    try:
        model.load_state_dict(content.pop("model"), strict=True)
    except (KeyError, RuntimeError) as error:
        raise AvpipeError(f"The weights in {path} do not fit {type(model).__name__}: {error}") from error
    return content


def load_resume(path: Path, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """The state in a resume file, or None when there is none that belongs to this very run; says why in the log."""
    if not path.exists():
        return None
    try:
        state = load(path)
    except AvpipeError as error:
        log.warning("Starting over: %s", error)
        return None
    found = state.get("fingerprint")
    if not isinstance(found, dict):
        log.warning("Starting over: %s does not say what run it belongs to.", path)
        return None
    different = sorted(k for k in {*found, *fingerprint} if found.get(k) != fingerprint.get(k))
    if different:
        log.warning("Starting over: %s belongs to a run with other %s.", path, ", ".join(different))
        return None
    return state


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value
