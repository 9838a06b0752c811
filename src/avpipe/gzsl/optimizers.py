"""Learning rates and states of optimisers, whether the rate is a number or, on a GPU, a tensor in a recorded step."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def learning_rate(optimizer: Optimizer) -> float:
    """The learning rate of the only parameter group."""
    return float(optimizer.param_groups[0]["lr"])


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the rate; a tensor keeps its place, from which a recorded step reads it."""
    group = optimizer.param_groups[0]
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimiser's state dict with its rate as a number."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Put back what `optimizer_state` returned, on whatever device the optimiser's parameters are."""
    rate = optimizer.param_groups[0]["lr"]
    groups = [{**group, "lr": rate} for group in state["param_groups"]]
    optimizer.load_state_dict({**state, "param_groups": groups})
    if isinstance(rate, torch.Tensor):
        optimizer.param_groups[0]["lr"] = rate  # the very tensor, not the copy that was loaded
    set_learning_rate(optimizer, float(state["param_groups"][0]["lr"]))
