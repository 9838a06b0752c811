"""The training loop with a trainer that only counts: order of its parts, clock, log lines, resume and its refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from avpipe.training import checkpoint, loop
from avpipe.training.loop import LoopSettings, Row, Trainer, train, train_stepwise
from avpipe.training.runtime import TERMINATED, Interrupt


class Counter(Trainer):
    """Two epochs of three steps; its state is the number of steps made."""

    def __init__(self, folder: Path, *, seed: int = 4, save_every_seconds: float = 1e9) -> None:
        super().__init__(LoopSettings(seed, 2, 3, {"seed": str(seed)}, folder / "resume.pt", save_every_seconds))
        self.n_steps = torch.zeros(1)
        self.calls: list[Any] = []

    def start_epoch(self, epoch: int, first_step: int) -> None:
        self.calls.append(("start", epoch, first_step))

    def train_step(self, epoch: int, step: int) -> None:
        self.calls.append((epoch, step))
        self.n_steps += 1

    def end_epoch(self, epoch: int) -> Row:
        self.calls.append(("end", epoch))
        return {"loss": float(self.n_steps), "learning_rate": 0.5}

    def state_dict(self) -> dict[str, Any]:
        return {"n_steps": self.n_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.n_steps = state["n_steps"]

    def describe_progress(self, step: int) -> str:
        return f", {step} so far"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(seconds)` lets time pass; it stands still otherwise."""
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def run(trainer: Counter, *, stop_in: int | None = None) -> Counter:
    """Train; a signal comes in the step with that number."""
    interrupt, real = Interrupt(), trainer.train_step

    def signalled(epoch: int, step: int) -> None:
        real(epoch, step)
        interrupt.requested = len([each for each in trainer.calls if len(each) == 2 and each[0] != "end"]) == stop_in

    trainer.train_step = signalled  # type: ignore[method-assign]
    train(trainer, interrupt)
    return trainer


def stopped(trainer: Counter, stop_in: int) -> Counter:
    with pytest.raises(SystemExit) as stop:
        run(trainer, stop_in=stop_in)
    assert stop.value.code == TERMINATED == 143
    return trainer


def test_the_parts_of_two_epochs_in_order(tmp_path: Path) -> None:
    trainer = run(Counter(tmp_path))
    epochs = [[("start", epoch, 0), (epoch, 0), (epoch, 1), (epoch, 2), ("end", epoch)] for epoch in (0, 1)]
    assert trainer.calls == epochs[0] + epochs[1]
    assert [(row["epoch"], row["loss"]) for row in trainer.history] == [(0, 3.0), (1, 6.0)]
    assert list(trainer.history[0]) == ["epoch", "loss", "learning_rate", "seconds"]
    assert list(tmp_path.iterdir()) == [], "nothing is saved before it is time"


@pytest.mark.parametrize("stop_in", range(1, 7))
def test_no_step_is_lost_or_made_twice(tmp_path: Path, stop_in: int) -> None:
    first = stopped(Counter(tmp_path), stop_in)
    second = run(Counter(tmp_path))
    whole = run(Counter(tmp_path / "whole"))
    steps = [[each for each in trainer.calls if each[0] in (0, 1)] for trainer in (first, second, whole)]
    assert steps[0] + steps[1] == steps[2] and len(steps[0]) == stop_in
    ends = [[each for each in trainer.calls if each[0] == "end"] for trainer in (first, second, whole)]
    assert ends[0] + ends[1] == ends[2]
    assert [row["loss"] for row in second.history] == [row["loss"] for row in whole.history]


def test_an_epoch_counts_the_seconds_before_and_after_a_stop(
    tmp_path: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Counter.train_step
    monkeypatch.setattr(Counter, "train_step", lambda trainer, *at: (clock(2.0), real(trainer, *at)))
    stopped(Counter(tmp_path), 5)
    clock(1000.0)
    assert [row["seconds"] for row in run(Counter(tmp_path)).history] == [6.0, 6.0]


def test_the_state_is_saved_when_it_is_time(tmp_path: Path, clock: Callable[[float], None]) -> None:
    steps = train_stepwise(Counter(tmp_path, save_every_seconds=30.0), Interrupt())
    found = []
    for _ in steps:
        found.append((tmp_path / "resume.pt").exists() and checkpoint.load(tmp_path / "resume.pt")["step"])
        clock(20.0)
    # After the steps at 0, 20, 40, …, 100 seconds.
    assert found == [False, False, 3, 3, 2, 2]


def test_lines_of_the_log(tmp_path: Path, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture) -> None:
    """A line every 20 seconds, inside an epoch or about one that is done, and one about the last epoch."""
    caplog.set_level(logging.INFO, "avpipe")
    for _ in train_stepwise(Counter(tmp_path), Interrupt()):
        clock(9.0)
    assert caplog.messages == [
        "seed 4, epoch 1/2: loss 3.0000, lr 0.5, 27.0 s",
        "seed 4, epoch 2/2: loss 6.0000, lr 0.5, 27.0 s",
    ]
    caplog.clear()
    for _ in train_stepwise(Counter(tmp_path), Interrupt()):
        clock(11.0)
    assert caplog.messages == [
        "seed 4, epoch 1/2: step 3/3, 3 so far, 22 s",
        "seed 4, epoch 2/2: step 2/3, 2 so far, 11 s",
        "seed 4, epoch 2/2: loss 6.0000, lr 0.5, 33.0 s",
    ]
    caplog.clear()
    stopped(Counter(tmp_path), 4)
    run(Counter(tmp_path))
    assert caplog.messages[:2] == [
        "Stopped by a signal; run again to go on from where it was.",
        "Resuming seed 4 in epoch 2/2 after 1 steps.",
    ]


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"n_steps")] ^= 0x40  # elsewhere there may be padding, which nothing reads
    path.write_bytes(raw)


def other_seed(path: Path) -> None:
    path.unlink()
    stopped(Counter(path.parent, seed=5), 4)


def other_content(path: Path) -> None:
    checkpoint.save(path, checkpoint.load(path) | {"n_steps": torch.ones(1)})


def older(path: Path) -> None:
    checkpoint.save(path, {name: value for name, value in checkpoint.load(path).items() if name != "sha256"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b""), "is not a checkpoint that can be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is not a checkpoint that can be read"),
        (lambda path: checkpoint.save(path, {}), "of another version of avpipe, or not what was written"),
        (flipped, "is not a checkpoint that can be read"),
        (other_content, "of another version of avpipe, or not what was written"),
        (older, "of another version of avpipe, or not what was written"),
        (other_seed, "belongs to a run with other seed"),
    ],
)
def test_a_resume_file_that_is_damaged_or_another_runs_is_not_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object], said: str
) -> None:
    stopped(Counter(tmp_path), 4)
    damage(tmp_path / "resume.pt")
    trainer = run(Counter(tmp_path))
    assert "Starting over: " in caplog.text and said in caplog.text and str(tmp_path / "resume.pt") in caplog.text
    assert trainer.calls[:2] == [("start", 0, 0), (0, 0)] and trainer.history[-1]["loss"] == 6.0
