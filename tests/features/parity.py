"""Where the published implementations' reference numbers lie, and the formula for the weights behind them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "parity" / "extractors"
Stages = tuple[np.ndarray, list[list[float]]]
needs_parity = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference numbers at {FOLDER}")


def formula() -> ModuleType:
    """The module that makes weights and test inputs."""
    spec = importlib.util.spec_from_file_location("parity_formula", FOLDER / "formula.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def formula_state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights behind the reference numbers."""
    make = formula().tensor_for
    return {key: torch.from_numpy(make(key, value.shape)) for key, value in network.state_dict().items()}


def published_entries(name: str) -> dict[str, tuple[list[int], str]]:
    """Shape and type of each entry of a published state dict."""
    keys = json.loads((FOLDER / f"{name}.keys.json").read_text())["keys"]
    return {key: (shape, dtype) for key, shape, dtype in keys}


def own_entries(network: nn.Module) -> dict[str, tuple[list[int], str]]:
    """The same of a network of ours."""
    return {key: (list(v.shape), str(v.dtype).removeprefix("torch.")) for key, v in network.state_dict().items()}


def stage_statistics(network: nn.Module, parts: Sequence[nn.Module], inputs: torch.Tensor) -> Stages:
    """What a network gives, and of its parts' outputs for the second input: shape, mean and deviation."""
    stages: list[list[float]] = []

    def keep(module: nn.Module, arguments: object, output: torch.Tensor) -> None:
        values = output[1].double()
        stages.append([*values.shape, float(values.mean()), float(values.std())])

    hooks = [part.register_forward_hook(keep) for part in parts]
    with torch.inference_mode():
        raw = network(inputs).numpy()
    for hook in hooks:
        hook.remove()
    return raw, stages


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Relative L2 distance."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
