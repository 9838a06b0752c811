"""Whether a state that was read from a resume file can be gone on from: checked as a whole before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_OF_A_ROW = {"epoch", "loss", "learning_rate", "seconds"}
_MOMENTS = {"exp_avg", "exp_avg_sq"}


def resume_fault(
    state: Mapping[str, Any],
    *,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    epochs: int,
    steps: int,
) -> str | None:
    """What is wrong with the content of a resume file of the training loop; None: nothing.

    Args:
        state: what the file holds.
        model, optimizer, scaler: of the run, as it begins; they are not changed.
        epochs: of the run.
        steps: of an epoch.
    """
    if not (_is_count(state.get("epoch"), epochs + 1) and _is_count(state.get("step"), steps)):
        return f"it stands at epoch {state.get('epoch')!r}, step {state.get('step')!r}"
    if not all(_is_number(state.get(name)) for name in ("loss_sum", "seconds")):
        return f"its loss_sum is {state.get('loss_sum')!r} and its seconds {state.get('seconds')!r}"
    if not _is_history(state.get("history"), state["epoch"]):
        return f"its history is not one row for each of {state['epoch']} epochs"
    if not _are_like(state.get("model"), model.state_dict()):
        return f"its model is not a finite tensor for each entry of {type(model).__name__}"
    if not _is_scaler(state.get("scaler"), scaler.state_dict()):
        return "the scale of its loss is not that of this precision"
    if not _is_adam(state.get("optimizer"), optimizer, may_be_new=scaler.is_enabled()):
        return "its optimizer is not Adam's with finite moments for this model"
    return None


def _is_count(value: Any, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_history(rows: Any, epoch: int) -> bool:
    return (
        isinstance(rows, list)
        and all(isinstance(row, Mapping) and row.keys() == _OF_A_ROW for row in rows)
        and all(_is_number(value) for row in rows for value in row.values())
        and [row["epoch"] for row in rows] == list(range(epoch))
    )


def _are_like(found: Any, wanted: Mapping[str, Tensor]) -> bool:
    """Whether there is a finite tensor of the same type and shape for each of these."""
    return (
        isinstance(found, Mapping)
        and found.keys() == wanted.keys()
        and all(_is_like(found[name], like) for name, like in wanted.items())
    )


def _is_like(found: Any, wanted: Tensor) -> bool:
    return (
        isinstance(found, Tensor)
        and (found.dtype, found.layout, found.shape) == (wanted.dtype, wanted.layout, wanted.shape)
        and bool(torch.isfinite(found).all())
    )


def _is_scaler(found: Any, wanted: Mapping[str, Any]) -> bool:
    """An empty one where the loss is not scaled."""
    return (
        isinstance(found, Mapping)
        and found.keys() == wanted.keys()
        and all(_is_number(value) for value in found.values())
    )


def _is_adam(found: Any, optimizer: torch.optim.Optimizer, *, may_be_new: bool) -> bool:
    """Whether a state is of this kind of Adam over these parameters.

    Args:
        found: the state.
        optimizer: the run's.
        may_be_new: whether it may have no moments at all: steps whose scaled gradients overflow are left out.
    """
    if not isinstance(found, Mapping) or not isinstance(found.get("state"), Mapping):
        return False
    groups, moments = found.get("param_groups"), found["state"]
    wanted = optimizer.state_dict()["param_groups"]
    is_same = (
        isinstance(groups, list)
        and len(groups) == len(wanted)
        and all(_is_group(group, own) for group, own in zip(groups, wanted, strict=True))
    )
    parameters = dict(enumerate(each for group in optimizer.param_groups for each in group["params"]))
    return (
        is_same
        and (may_be_new or bool(moments))
        and all(key in parameters and _are_moments(each, parameters[key]) for key, each in moments.items())
    )


def _is_group(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether these are the same parameters and settings; the learning rate is set anew at the start of each epoch."""
    return (
        isinstance(found, Mapping)
        and found.keys() == wanted.keys()
        and all(type(found[k]) is type(value) and (k == "lr" or found[k] == value) for k, value in wanted.items())
    )


def _are_moments(found: Any, parameter: Tensor) -> bool:
    """Whether these are Adam's of a parameter; a parameter without gradients has none."""
    if not isinstance(found, Mapping):
        return False
    step = found.get("step")
    rest = {name: value for name, value in found.items() if name != "step"}
    return _is_like(step, torch.tensor(0.0)) and _are_like(rest, dict.fromkeys(_MOMENTS, parameter))
