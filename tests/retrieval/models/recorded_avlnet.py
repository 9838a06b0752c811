"""Recorded numbers of the published models, and networks with the weights they were recorded with."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avpipe.retrieval import models
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.weights import load_published

FOLDER = Path(__file__).parents[3].parent / "shared" / "parity" / "avlnet"
KINDS = {"avlnet": "av", "avlnet_text_tri": "tri", "avlnet_text_fused": "fused"}  # as the records name them


class Recorded:
    """The records' folder: shapes, weights from names and shapes, and numbers."""

    def __init__(self) -> None:
        if not FOLDER.exists():
            pytest.skip(f"no recorded numbers at {FOLDER}")
        self.kinds: dict[str, Any] = json.loads((FOLDER / "meta.json").read_text())["kinds"]
        spec = importlib.util.spec_from_file_location("avlnet_recipe", FOLDER / "recipe.py")
        assert spec is not None and spec.loader is not None
        self.recipe = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.recipe)
        self._weights: dict[str, dict[str, torch.Tensor]] = {}
        self._models: dict[str, RetrievalModel] = {}
        self._numbers: dict[str, dict[str, np.ndarray]] = {}

    def shapes(self, name: str, which: str = "shapes") -> dict[str, list[int]]:
        return self.kinds[KINDS[name]][which]

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """The records' weights of a model; made once, and nobody changes them."""
        if name not in self._weights:
            state = self.recipe.state_dict(self.shapes(name))
            self._weights[name] = {key: torch.tensor(each) for key, each in state.items()}
        return self._weights[name]

    def numbers(self, file: str) -> dict[str, np.ndarray]:
        """The recorded numbers of a file; read once, and nobody changes them."""
        if file not in self._numbers:
            with np.load(FOLDER / file) as stored:
                self._numbers[file] = dict(stored)
        return self._numbers[file]

    def model(self, name: str) -> RetrievalModel:
        """A model of one's own at D = 64 with the records' weights, in eval mode."""
        if name not in self._models:
            model = models.build(name, embedding_dim=64)
            load_published(model, self.weights(name))
            self._models[name] = model.eval()
        return copy.deepcopy(self._models[name])


def relative(found: torch.Tensor, expected: Any) -> float:
    """Norm of the difference over that of what is expected."""
    found, expected = found.detach().double(), torch.as_tensor(expected).detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())
