"""Training of one stage: epochs of balanced pairs, an evaluation after each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.errors import AvpipeError
from avpipe.gzsl.models.base import Method
from avpipe.gzsl.models.layers import draws_from
from avpipe.gzsl.models.settings import TrainingSettings
from avpipe.gzsl.optimizers import learning_rate, load_optimizer_state, optimizer_state, set_learning_rate
from avpipe.gzsl.sampler import PairSampler
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet
from avpipe.training.loop import LoopSettings, Row, Trainer

_DROPOUT_SEED = 0x5DEECE66D  # keeps the streams of a seed's pairs and of its dropout apart
_SCORES = ("seen", "unseen", "hm", "zsl", "beta", "scored_on")  # `CalibratedStacking.figures`, and of which clips


@dataclass(frozen=True)
class Stage:
    """What a stage trains on and how, apart from its seed.

    Attributes:
        train: clips that are trained on.
        validation: clips whose harmonic mean is computed after every epoch.
        scored_on: what these are: validation, training or test clips.
        settings: resolved.
        betas: calibration constants that are tried after every epoch; None: all there are.
        evaluates: whether the validation clips are scored after every epoch.
        learning_rates: one per epoch; None: lowered when the validation's harmonic mean stalls.
    """

    train: TrainingSet
    validation: EvaluationSet
    scored_on: str
    settings: TrainingSettings
    betas: npt.NDArray[np.float32] | None
    evaluates: bool
    learning_rates: list[float] | None


@dataclass
class Best:
    """The epoch with the strictly largest harmonic mean so far: the first of equals, the last of zeros."""

    epoch: int = -1
    hm: float = -math.inf
    model: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class _LossSums:
    """Sums of loss terms over an epoch's steps of one kind, float64 on the device, and the number of these steps."""

    terms: list[str]
    values: Tensor
    steps: int = 0


class StageTrainer(Trainer):
    """Trains a method in one stage with one seed.

    Args:
        model: untrained, on the device where everything happens.
        stage: what is trained on, and how.
        loop: see `Trainer`.
    """

    def __init__(self, model: Method, stage: Stage, loop: LoopSettings) -> None:
        super().__init__(loop)
        self.model, self.stage = model.train(), stage
        self.optimizers = model.optimizers(stage.settings)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizers[0], mode="max", factor=0.1, patience=3, threshold=1e-4, threshold_mode="rel"
        )
        self.pair_draws = torch.Generator(model.device).manual_seed(loop.seed)
        self.dropout_draws = torch.Generator(model.device).manual_seed(loop.seed ^ _DROPOUT_SEED)
        self.epoch_draws = self.pair_draws.get_state()  # as the epoch begins
        self.sampler = PairSampler(stage.train.labels)
        self.pairs = torch.empty(0)
        horizon = model.statistics_horizon()
        # Earlier BatchNorm statistics are forgotten before the epoch's evaluation, the only place that reads them.
        self.first_tracked = 0 if horizon is None else max(0, loop.steps_per_epoch - horizon)
        self.sums: dict[int, _LossSums] = {}
        self.best = Best()
        # (rows of the positive and the negative clips [2, B], index of the step in its epoch); see `side_by_side`.
        self.run_step: Callable[[Tensor, int], None] = self._run_step

    def start_epoch(self, epoch: int, first_step: int) -> None:
        """Draw the epoch's pairs; when resuming inside an epoch, the same again."""
        self.pair_draws.set_state(self.epoch_draws)
        drawn = self.sampler.draw(self.loop.steps_per_epoch, self.stage.settings.batch_size, self.pair_draws)
        self.pairs = torch.stack(drawn)
        if self.stage.learning_rates is not None:
            for optimizer in self.optimizers:
                set_learning_rate(optimizer, self.stage.learning_rates[epoch])

    def train_step(self, epoch: int, step: int) -> None:
        """One batch of pairs."""
        self.run_step(self.pairs[:, step], step)
        self.sums[self.kind_of_step(step)].steps += 1

    def kind_of_step(self, step: int) -> int:
        """Which operations a step does: steps of one kind differ in their clips alone."""
        return 2 * self.model.step_kind(step) + int(step >= self.first_tracked)

    def _run_step(self, rows: Tensor, step: int) -> None:
        """The model's training step, and the sums of its loss terms."""
        batch = self.stage.train.batch(rows[0], rows[1])
        is_tracked = step >= self.first_tracked
        with draws_from(self.dropout_draws):
            losses = self.model.training_step(batch, self.optimizers, index=step, track_statistics=is_tracked)
        values = torch.stack([value.detach() for value in losses.values()]).double()
        kind = self.kind_of_step(step)
        if kind not in self.sums:
            self.sums[kind] = _LossSums(list(losses), torch.zeros_like(values))
        self.sums[kind].values.add_(values)

    def end_epoch(self, epoch: int) -> Row:
        """Evaluate, remember the best, adapt the learning rate."""
        means = self._mean_losses(epoch)
        rate = learning_rate(self.optimizers[0])
        scores: Row = dict.fromkeys(_SCORES)
        if self.stage.evaluates:
            results = self.model.evaluate(self.stage.train, self.stage.validation, self.stage.betas)
            result = results[self.model.score_mode]
            if result.best_hm > self.best.hm or self.best.hm == 0:  # as published: a zero never counts as reached
                state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
                self.best = Best(epoch, result.best_hm, state)
            if self.stage.learning_rates is None and self.model.is_scheduled:
                self.scheduler.step(result.best_hm)
            scores |= result.figures() | {"scored_on": self.stage.scored_on}
        for sums in self.sums.values():
            sums.values.zero_()
            sums.steps = 0
        self.epoch_draws = self.pair_draws.get_state()
        terms = {f"loss_{name}": value for name, value in means.items() if name != "total"}
        return {"loss": means["total"], **terms, **scores, "learning_rate": rate}

    def describe_epoch(self, row: Row) -> str:
        """The scores, and of which clips they are."""
        if row["hm"] is None:
            return ", not evaluated"
        seen, unseen, hm, zsl = (100 * row[name] for name in ("seen", "unseen", "hm", "zsl"))
        figures = f"S {seen:.2f}, U {unseen:.2f}, HM {hm:.2f}, ZSL {zsl:.2f} % at beta {row['beta']:.4g}"
        return f", on {row['scored_on']}: {figures}"

    def state_dict(self) -> dict[str, Any]:
        """All that decides what comes next."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer_state(optimizer) for optimizer in self.optimizers],
            "scheduler": self.scheduler.state_dict(),
            "dropout_draws": self.dropout_draws.get_state(),
            "epoch_draws": self.epoch_draws,
            "sums": {str(kind): vars(sums) for kind, sums in self.sums.items()},
            "best": vars(self.best),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back, onto this trainer's device."""
        self.model.load_state_dict(state["model"], strict=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer_state(optimizer, saved)
        self.scheduler.load_state_dict(state["scheduler"])
        self.dropout_draws.set_state(state["dropout_draws"])
        self.epoch_draws = state["epoch_draws"]
        device = self.model.device
        self.sums = {
            int(kind): _LossSums(each["terms"], each["values"].to(device), each["steps"])
            for kind, each in state["sums"].items()
        }
        self.best = Best(**state["best"])

    def _mean_losses(self, epoch: int) -> dict[str, float]:
        """The epoch's mean of every term over the steps that had it."""
        totals: dict[str, float] = {}
        steps: dict[str, int] = {}
        for sums in self.sums.values():
            for name, value in zip(sums.terms, sums.values.tolist(), strict=True):
                totals[name] = totals.get(name, 0.0) + value
                steps[name] = steps.get(name, 0) + sums.steps
        means = {name: total / steps[name] for name, total in totals.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            raise AvpipeError(
                f"The loss is not finite in epoch {epoch + 1}: {', '.join(broken)} (seed {self.loop.seed}, "
                f"learning rate {learning_rate(self.optimizers[0]):g}). Lower the learning rate or check the features."
            )
        return means
