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

_CHECKSUM = "sha256"  # the entry of a resume file with the digest of all others

Fingerprint = dict[str, str]
"""What a state rests on: part ("data", "settings", "seed", …) -> digest or value."""


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and contents of tensors."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        _add(digest, name, tensor)
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


def save_resume(path: Path, state: Mapping[str, Any], fingerprint: Fingerprint) -> None:
    """Write a resume file: a state, what run it belongs to, and a checksum over both."""
    content = _on_cpu({**state, "fingerprint": fingerprint})
    save(path, content | {_CHECKSUM: _digest(content)})


def load_resume(path: Path, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """The state in a resume file, or None when there is none that belongs to this very run; says why in the log."""
    if not path.exists():
        return None
    try:
        state = load(path)
    except AvpipeError as error:
        log.warning("Starting over: %s", error)
        return None
    checksum = state.pop(_CHECKSUM, None)
    if checksum is None or checksum != _digest(state):
        log.warning("Starting over: %s is of another version of avpipe, or not what was written (checksum).", path)
        return None
    found = state["fingerprint"]
    different = sorted(k for k in {*found, *fingerprint} if found.get(k) != fingerprint.get(k))
    if different:
        log.warning("Starting over: %s belongs to a run with other %s.", path, ", ".join(different))
        return None
    return state


def _digest(value: Any) -> str:
    """sha256 over tensors, plain values and containers of them, in their order."""
    digest = hashlib.sha256()
    _add(digest, "", value)
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        values: Any = value.detach().contiguous().cpu().view(-1).numpy()  # a buffer, though not to mypy
        digest.update(values.view("u1"))
    elif isinstance(value, Mapping | list | tuple):
        digest.update(f"{name} {len(value)};".encode())
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            _add(digest, f"{name}.{key!r}", each)
    else:
        digest.update(f"{name} {value!r};".encode())


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value
