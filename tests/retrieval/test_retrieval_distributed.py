"""Several processes that share a batch (on a CPU, through gloo): the same gradient, files, errors and end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_retrieval_trainer import CPU, FROZEN, build, fit, trainer
from tiny_retrieval import changed, make_pack, run_settings, word_table

from avpipe.errors import AvpipeError
from avpipe.retrieval.batches import Batch, PackSource
from avpipe.retrieval.packs import write_pack
from avpipe.retrieval.settings import RunJob
from avpipe.retrieval.trainer import RetrievalTrainer
from avpipe.retrieval.training import train_seeds
from avpipe.training.distributed import ProcessGroup, check_batch
from avpipe.training.processes import run_together

TWO = ["cpu", "cpu"]


class DoubleSource(PackSource):
    """In float64, where sums in another order agree to many digits."""

    def batch(self, **which) -> Batch:
        found = super().batch(**which)
        return replace(found, audio=[each.double() for each in found.audio])


def double_trainer(folder: Path, name: str, processes: ProcessGroup) -> RetrievalTrainer:
    source = DoubleSource.make(make_pack(), word_table(), max_words=5, window=80, device=CPU)
    if name == "avlnet":
        source = replace(source, words=None)
    settings = changed(FROZEN, objective="pairwise")
    return trainer(folder, settings, name, source=source, model=build(name).double(), processes=processes)


def train_run(processes: ProcessGroup, folder: str) -> None:
    """All of a run, as its job does."""
    run = run_settings(batch_norm="frozen", epochs=2).model_dump()
    given = RunJob("shared", "main", run, audio_frames=80, max_words=5, seeds=(1, 2))
    target = f"{folder}/of{processes.size}"
    source = {"pack": f"{folder}/pack.h5"}
    train_seeds(processes, given, source=source, words=None, start="random", threads=2, folder=target)


NAMES = ("avlnet", "avlnet_text_tri")


def first_gradients(run: RetrievalTrainer) -> dict[str, torch.Tensor | None]:
    run.start_epoch(0, 0)
    run.train_step(0, 0)
    return {key: parameter.grad for key, parameter in run.model.named_parameters()}


def train(processes: ProcessGroup, folder: str) -> None:
    torch.set_num_threads(1)
    for name in NAMES:
        gradients = first_gradients(double_trainer(Path(folder), name, processes))
        torch.save(gradients, f"{folder}/{name}_gradients{processes.rank}.pt")
        trained = fit(double_trainer(Path(folder), name, processes)).model.state_dict()
        torch.save(trained, f"{folder}/{name}_model{processes.rank}.pt")
    train_run(processes, folder)
    logging.getLogger("avpipe.test").info("process %d on %s has trained", processes.rank, processes.device)


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_one(tmp_path, caplog):
    """Frozen statistics: every entry of every gradient, in float64, so that nothing but rounding is allowed for."""
    caplog.set_level(logging.INFO)
    write_pack(tmp_path / "pack.h5", make_pack())
    run_together(train, [str(tmp_path)], TWO)
    assert "process 0 on cpu has trained" in caplog.text and "process 1 on" not in caplog.text
    for name in NAMES:
        alone_gradients = first_gradients(double_trainer(tmp_path, name, ProcessGroup()))
        both = [torch.load(tmp_path / f"{name}_gradients{rank}.pt", weights_only=True) for rank in (0, 1)]
        for key, gradient in alone_gradients.items():
            assert torch.equal(both[0][key], both[1][key]), key
            torch.testing.assert_close(both[0][key], gradient, rtol=1e-9, atol=1e-13, msg=key)
        alone = fit(double_trainer(tmp_path, name, ProcessGroup())).model.state_dict()
        both = [torch.load(tmp_path / f"{name}_model{rank}.pt", weights_only=True) for rank in (0, 1)]
        for key, value in alone.items():
            # Adam divides gradients by their size, which makes much of the rounding of small ones.
            torch.testing.assert_close(both[0][key], value, rtol=1e-6, atol=1e-9, msg=key)
            assert torch.equal(both[0][key], both[1][key]), key
    train_run(ProcessGroup(), str(tmp_path))
    for seed in ("seed1", "seed2"):
        alone, shared = (torch.load(tmp_path / of / seed / "model.pt", weights_only=True) for of in ("of1", "of2"))
        for key, value in alone.items():
            # float32, and Adam as above: a step of a gradient that is all rounding has the size of the rate, 1e-3
            torch.testing.assert_close(shared[key], value, rtol=1e-3, atol=2e-3, msg=key)
        assert sorted(path.name for path in (tmp_path / "of2" / seed).iterdir()) == [
            "epochs.csv",
            "model.pt",
            "seed.json",
            "seed.json.manifest",
        ]


def wait_for_the_end(processes: ProcessGroup, folder: str) -> None:
    torch.set_num_threads(1)
    slow = trainer(Path(folder), changed(FROZEN, epochs=100_000), processes=processes)
    Path(folder, f"began{processes.rank}").touch()
    fit(slow)


@pytest.mark.slow
def test_sigterm_reaches_all_and_the_state_is_saved(tmp_path):
    def terminate() -> None:
        while not all((tmp_path / f"began{rank}").exists() for rank in (0, 1)):
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=terminate)
    killer.start()
    with pytest.raises(SystemExit) as stopped:
        run_together(wait_for_the_end, [str(tmp_path)], TWO)
    killer.join()
    assert stopped.value.code == 143
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert state["epoch"] + state["step"] > 0


def fail(processes: ProcessGroup, kind: str) -> None:
    if processes.rank == 1:
        if kind == "death":
            os._exit(7)
        raise AvpipeError("clip 7 is empty")
    processes.barrier()


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_and_is_told():
    with pytest.raises(AvpipeError, match="clip 7 is empty"):
        run_together(fail, ["user"], TWO)


@pytest.mark.slow
def test_a_process_that_dies_ends_all():
    """What is told is that it died, or what its death meant to the other."""
    with pytest.raises(RuntimeError, match=r"died without a word|Process 0 of 2 failed:\nTraceback"):
        run_together(fail, ["death"], TWO)


def test_a_batch_that_cannot_be_shared():
    check_batch(256, 4)
    with pytest.raises(AvpipeError, match=r"batch of 256 cannot be shared by 3 GPUs.*such as 255"):
        check_batch(256, 3)
