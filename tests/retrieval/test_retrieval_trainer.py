"""Training of the retrieval models: what a step computes, exact resume, and what it refuses."""

from __future__ import annotations

import functools
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_retrieval import SIZES, changed, make_pack, run_settings, word_table

from avpipe.errors import AvpipeError
from avpipe.retrieval import models
from avpipe.retrieval.batches import PackSource
from avpipe.retrieval.losses import masked_margin_softmax
from avpipe.retrieval.settings import Run
from avpipe.retrieval.trainer import RetrievalTrainer, order, steps_per_epoch
from avpipe.training import checkpoint
from avpipe.training.distributed import ProcessGroup
from avpipe.training.loop import LoopSettings, train, train_stepwise
from avpipe.training.runtime import Interrupt

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FROZEN = run_settings(epochs=2, learning_rate_decay=0.5, batch_norm="frozen")
BATCH = changed(FROZEN, batch_norm="batch")
HALF = changed(FROZEN, precision="float16")  # its scaling of the loss is part of the state
KINDS = {"frozen": (FROZEN, "avlnet"), "batch": (BATCH, "avlnet_text_fused"), "half": (HALF, "avlnet")}


def build(name: str, seed: int = 3) -> models.base.RetrievalModel:
    torch.manual_seed(seed)
    return models.build(name, **SIZES)


@functools.cache
def source(name: str, n: int = 24) -> PackSource:
    words = None if name == "avlnet" else word_table()
    return PackSource.make(make_pack(n), words, max_words=5, window=80, device=CPU)


def trainer(folder: Path, settings: Run = FROZEN, name: str = "avlnet", **changes: Any) -> RetrievalTrainer:
    given = {"model": build(name), "source": source(name), "processes": ProcessGroup()} | changes
    n_steps = steps_per_epoch(given["source"].n_items, settings.batch_size)
    loop = LoopSettings(
        given.pop("seed", 1), settings.epochs, n_steps, given.pop("fingerprint", {"all": repr(settings)}),
        folder / "resume.pt", given.pop("save_every_seconds", 1e9),
    )  # fmt: skip
    return RetrievalTrainer(run=settings, loop=loop, **given)


def fit(given: RetrievalTrainer) -> RetrievalTrainer:
    """Trained, as its job does."""
    with Interrupt() as interrupt:
        train(given, interrupt, given.processes)
    return given


def results(trained: RetrievalTrainer) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return trained.model.state_dict(), [{**row, "seconds": 0} for row in trained.history]


def assert_equal(found: RetrievalTrainer, expected: RetrievalTrainer) -> None:
    (state, rows), (other_state, other_rows) = results(found), results(expected)
    assert rows == other_rows
    for name, value in state.items():
        assert torch.equal(value, other_state[name]), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RetrievalTrainer]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return {kind: fit(trainer(folder / kind, *given)) for kind, given in KINDS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, uninterrupted, step, kind):
    """After any of the six steps, the last of an epoch too: equal to the last bit on a CPU."""
    settings, name = {"frozen": (FROZEN, "avlnet"), "batch": (BATCH, "avlnet_text_fused"), "half": (HALF, "avlnet")}[
        kind
    ]
    original, count = RetrievalTrainer.train_step, 0

    def stop(run: RetrievalTrainer, *at: int) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(run, *at)

    monkeypatch.setattr(RetrievalTrainer, "train_step", stop)
    with pytest.raises(SystemExit) as stopped:
        fit(trainer(tmp_path, settings, name))
    assert stopped.value.code == 143
    assert_equal(fit(trainer(tmp_path, settings, name)), uninterrupted[kind])
    assert count == 6  # no step was made twice


def test_the_state_is_saved_now_and_then(tmp_path, uninterrupted):
    outcome = fit(trainer(tmp_path, save_every_seconds=0.0))
    assert_equal(outcome, uninterrupted["frozen"])
    assert (tmp_path / "resume.pt").is_file()
    resumed = fit(trainer(tmp_path))  # from the last step
    assert_equal(resumed, uninterrupted["frozen"])


def test_a_resume_file_of_another_run_is_not_taken_up(tmp_path, uninterrupted):
    fit(trainer(tmp_path, save_every_seconds=0.0, fingerprint={"all": "other"}))
    assert_equal(fit(trainer(tmp_path)), uninterrupted["frozen"])


NAN = torch.tensor(math.nan)


def without(mapping: dict[Any, Any], *names: Any) -> dict[Any, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def changed_moments(state: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    optimizer = state["optimizer"]
    return state | {"optimizer": optimizer | {"state": optimizer["state"] | {0: change(optimizer["state"][0])}}}


def changed_group(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    optimizer = state["optimizer"]
    return state | {"optimizer": optimizer | {"param_groups": [optimizer["param_groups"][0] | changes]}}


BIAS = "GU_video.fc.bias"
DAMAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no step": lambda state: without(state, "step"),
    "epoch in words": lambda state: state | {"epoch": "x"},
    "half an epoch": lambda state: state | {"epoch": 0.5},
    "beyond the last step": lambda state: state | {"step": 99},
    "before the first epoch": lambda state: state | {"epoch": -1},
    "loss NaN": lambda state: state | {"loss_sum": math.nan},
    "no seconds": lambda state: without(state, "seconds"),
    "history None": lambda state: state | {"history": None},
    "history too short": lambda state: state | {"history": []},
    "history of other rows": lambda state: state | {"history": [{"epoch": 0}]},
    "model {}": lambda state: state | {"model": {}},
    "model None": lambda state: state | {"model": None},
    "model of numbers": lambda state: state | {"model": state["model"] | {BIAS: 3.0}},
    "model of other shapes": lambda state: state | {"model": state["model"] | {BIAS: torch.zeros(3)}},
    "NaN in the model": lambda state: state | {"model": state["model"] | {BIAS: state["model"][BIAS] * NAN}},
    "optimizer {}": lambda state: state | {"optimizer": {}},
    "optimizer without groups": lambda state: state | {"optimizer": state["optimizer"] | {"param_groups": []}},
    "optimizer without moments": lambda state: state | {"optimizer": state["optimizer"] | {"state": {}}},
    "optimizer with other settings": lambda state: changed_group(state, eps=1e-3),
    "optimizer of fewer weights": lambda state: changed_group(state, params=[0]),
    "moments None": lambda state: changed_moments(state, lambda moments: None),
    "moments without a step": lambda state: changed_moments(state, lambda moments: without(moments, "step")),
    "moments of other shapes": lambda state: changed_moments(state, lambda m: m | {"exp_avg": torch.zeros(1)}),
    "moments NaN": lambda state: changed_moments(state, lambda m: m | {"exp_avg_sq": m["exp_avg_sq"] * NAN}),
    "scaler None": lambda state: state | {"scaler": None},
    "scaler of another precision": lambda state: state | {"scaler": {"scale": 2.0}},
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of which two steps of the second epoch are done."""
    folder = tmp_path_factory.mktemp("interrupted")
    stop_after(trainer(folder), 5)
    state = checkpoint.load(folder / "resume.pt")
    assert (state["epoch"], state["step"]) == (1, 2)
    return folder


def stop_after(given: RetrievalTrainer, n_steps: int) -> None:
    """Train for so many steps and leave the state."""
    with Interrupt() as interrupt, pytest.raises(SystemExit):
        for made, _ in enumerate(train_stepwise(given, interrupt), start=1):
            interrupt.requested = made + 1 == n_steps  # as a signal in the next step would


def test_the_state_that_is_damaged_below_is_taken_up_as_it_is(interrupted, tmp_path, monkeypatch, uninterrupted):
    """Otherwise the next test would prove nothing."""
    checkpoint.save(tmp_path / "resume.pt", checkpoint.load(interrupted / "resume.pt"))
    steps: list[Any] = []
    original = RetrievalTrainer.train_step
    monkeypatch.setattr(RetrievalTrainer, "train_step", lambda run, *at: steps.append(at) or original(run, *at))
    assert_equal(fit(trainer(tmp_path)), uninterrupted["frozen"])
    assert steps == [(1, 2)]


def begun(given: RetrievalTrainer) -> tuple[int, int]:
    """The epoch and step that a training makes first, without making it."""
    at: list[tuple[int, int]] = []
    given.train_step = lambda epoch, step: at.append((epoch, step))  # type: ignore[method-assign]
    with Interrupt() as interrupt:
        next(train_stepwise(given, interrupt))
    return at[0]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_resume_file_with_other_content_is_not_taken_up(interrupted, tmp_path, caplog, damage):
    """Nothing of it stays: the run stands where a new one does."""
    checkpoint.save(tmp_path / "resume.pt", damage(checkpoint.load(interrupted / "resume.pt")))
    run = trainer(tmp_path)
    assert begun(run) == (0, 0)
    assert "Starting over" in caplog.text and str(tmp_path / "resume.pt") in caplog.text
    assert (run.loss_sum, run.history) == (0.0, [])
    assert not run.optimizer.state_dict()["state"]
    start = build("avlnet").state_dict()
    assert all(torch.equal(value, start[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize("scale", [None, math.inf])
def test_a_scale_that_is_no_number_is_not_taken_up(tmp_path, caplog, scale):
    stop_after(trainer(tmp_path, HALF), 5)
    state = checkpoint.load(tmp_path / "resume.pt")
    assert begun(trainer(tmp_path, HALF)) == (1, 2)
    checkpoint.save(tmp_path / "resume.pt", state | {"scaler": state["scaler"] | {"scale": scale}})
    assert begun(trainer(tmp_path, HALF)) == (0, 0)
    assert "not what was written" in caplog.text


@pytest.mark.parametrize("name", models.names())
def test_the_first_loss_is_that_of_plainly_padded_clips(tmp_path, name):
    """Frozen: padded to the window in eval mode. Batch: in train mode, padded to the longest or to the window."""
    first = order(24, seed=1, epoch=0)[:8]
    given = source(name).batch(seed=1, epoch=0, items=first)
    cases = {("frozen", "clip"): (80, True), ("batch", "padded"): (80, False), ("batch", "clip"): (None, True)}
    for (statistics, pooling), (length, own_frames) in cases.items():
        settings = changed(FROZEN, batch_norm=statistics, train_pooling=pooling)
        length = length or -(-max(map(len, given.audio)) // 16) * 16
        padded = torch.zeros(8, 40, length)
        for row, spectrogram in zip(padded, given.audio, strict=True):
            row[:, : len(spectrogram)] = spectrogram.T
        model = build(name).train(statistics == "batch")
        embeddings = model.embed(padded, given.video, given.text, n_frames=given.n_frames, own_frames=own_frames)
        expected = masked_margin_softmax(model.similarity(embeddings), 0.001)
        run = trainer(tmp_path, settings, name)
        run.start_epoch(0, 0)
        run.train_step(0, 0)
        # float32 sums in another order
        assert run.loss_sum == pytest.approx(expected.item(), rel=1e-5)


def test_frozen_statistics_stay_and_those_of_the_batch_move(uninterrupted):
    start = build("avlnet").state_dict()
    after = uninterrupted["frozen"].model.state_dict()
    assert torch.equal(after["DAVEnet.bn1.running_mean"], start["DAVEnet.bn1.running_mean"])
    assert not torch.equal(after["DAVEnet.bn1.weight"], start["DAVEnet.bn1.weight"])
    moved = uninterrupted["batch"].model.state_dict()
    assert not torch.equal(moved["DAVEnet.bn1.running_mean"], start["DAVEnet.bn1.running_mean"])
    assert moved["DAVEnet.bn1.num_batches_tracked"] == 6


@pytest.mark.parametrize("settings", [FROZEN, BATCH], ids=["frozen", "batch"])
def test_gradient_checkpointing_changes_nothing(tmp_path, settings):
    plain = fit(trainer(tmp_path, settings))
    assert_equal(fit(trainer(tmp_path, changed(settings, gradient_checkpointing=True))), plain)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
def test_half_precision_trains_and_keeps_float32_weights(tmp_path, uninterrupted, precision):
    settings = changed(FROZEN, precision=precision)
    outcome = fit(trainer(tmp_path, settings))
    assert all(p.dtype == torch.float32 for p in outcome.model.parameters())
    # 8 bits of mantissa through ten layers: the losses agree to a few per cent
    for row, exact in zip(outcome.history, uninterrupted["frozen"].history, strict=True):
        assert row["loss"] == pytest.approx(exact["loss"], rel=0.1)


def test_the_learning_rate_falls_after_each_epoch(uninterrupted):
    assert [row["learning_rate"] for row in uninterrupted["frozen"].history] == [1e-3, 5e-4]


def test_each_epoch_has_an_order_of_its_own():
    orders = {tuple(order(10, seed=seed, epoch=epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4 and all(sorted(each) == list(range(10)) for each in orders)
    assert order(10, seed=2**63 - 1, epoch=0) == order(10, seed=2**63 - 1, epoch=0)


def test_fewer_clips_than_a_batch(tmp_path):
    with pytest.raises(AvpipeError, match=r"24 items to train on and a batch takes 25.*batch_size to at most 24"):
        fit(trainer(tmp_path, changed(FROZEN, batch_size=25)))


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    broken = build("avlnet")
    with torch.no_grad():
        broken.GU_video.fc.bias.fill_(math.nan)
    with pytest.raises(AvpipeError, match=r"loss is nan in epoch 1, step 1 of 3 \(seed 1, learning rate 0.001"):
        fit(trainer(tmp_path, model=broken))


def test_an_error_of_the_reading_thread_ends_the_run(tmp_path):
    class Unreadable:
        n_items = 16

        def batch(self, **_: Any) -> Any:
            raise AvpipeError("the disk is gone")

        def fingerprint(self) -> str:
            return ""

    with pytest.raises(AvpipeError, match="the disk is gone"):
        fit(trainer(tmp_path, source=Unreadable()))
