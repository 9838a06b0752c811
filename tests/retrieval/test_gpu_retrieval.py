"""Retrieval on a GPU: the same figures as on a CPU, in full and reduced precision, and whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_retrieval import SIZES, changed, make_pack, run_settings, word_table

from avpipe.jobs.retrieval import evaluate_run, train_run
from avpipe.retrieval import models
from avpipe.retrieval.batches import PackSource
from avpipe.retrieval.embedding import Reading, embed_pack
from avpipe.retrieval.models.ragged import pool_ragged
from avpipe.retrieval.packs import write_pack
from avpipe.retrieval.settings import RunJob
from avpipe.retrieval.text import write_word_table
from avpipe.retrieval.trainer import RetrievalTrainer
from avpipe.training.distributed import ProcessGroup
from avpipe.training.loop import LoopSettings, train
from avpipe.training.runtime import Interrupt

SETTINGS = run_settings(epochs=2, batch_norm="frozen")


def losses(name: str, device: str, **changes: Any) -> list[float]:
    """Mean loss of each of two epochs from equal weights."""
    torch.manual_seed(3)
    model, where = models.build(name, **SIZES), torch.device(device)
    words = None if name == "avlnet" else word_table()
    source = PackSource.make(make_pack(24), words, max_words=5, window=80, device=where)
    loop = LoopSettings(1, 2, source.n_items // SETTINGS.batch_size, {}, Path("unused"), 1e9)
    trainer = RetrievalTrainer(model, source, changed(SETTINGS, **changes), loop, ProcessGroup(device=where))
    train(trainer, Interrupt())
    return [row["loss"] for row in trainer.history]


@pytest.mark.parametrize("statistics", ["frozen", "batch"])
@pytest.mark.parametrize("name", models.names())
def test_losses_are_those_of_a_cpu(gpu: str, name: str, statistics: str) -> None:
    # float32 sums in another order, amplified by three steps of Adam
    assert losses(name, gpu, batch_norm=statistics) == pytest.approx(
        losses(name, "cpu", batch_norm=statistics), rel=1e-2
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 0.02), ("bfloat16", 0.1), ("float16", 0.2)])
def test_reduced_precision_stays_near(gpu: str, precision: str, tolerance: float) -> None:
    # 10 and 8 bits of mantissa, amplified by steps of Adam; float16 skips its first ones while it finds a scale
    assert losses("avlnet", gpu, precision=precision) == pytest.approx(losses("avlnet", gpu), rel=tolerance)


def test_checkpointing_changes_no_loss(gpu: str) -> None:
    plain = losses("avlnet", gpu, batch_norm="batch")
    assert losses("avlnet", gpu, batch_norm="batch", gradient_checkpointing=True) == pytest.approx(plain, rel=1e-4)


def test_spectrograms_stay_on_the_gpu_and_embeddings_are_those_of_a_cpu(gpu: str) -> None:
    pack = make_pack(24)
    assert PackSource.make(pack, None, max_words=5, window=80, device=torch.device(gpu)).audio is not None
    torch.manual_seed(3)
    model = models.build("avlnet", **SIZES).eval()
    reading = Reading(80, 5, "average")
    on_cpu = embed_pack(model, pack, None, reading)
    on_gpu = embed_pack(model.to(gpu), pack, None, reading)
    for name, each in on_cpu.items():
        # TF32 is off; float32 sums in another order
        torch.testing.assert_close(on_gpu[name].cpu(), each, rtol=1e-3, atol=1e-4)


def test_ragged_pooling_is_that_of_padded_clips(gpu: str) -> None:
    torch.manual_seed(3)
    network = models.build("avlnet", **SIZES).eval().to(gpu).DAVEnet
    clips = [torch.randn(n, 40, device=gpu) for n in (700, 40, 1500)]
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).transpose(1, 2)
    padded = torch.nn.functional.pad(padded, (0, 2048 - padded.shape[2]))
    expected = [network(padded)[i, :, : len(clip) // 16].mean(1) for i, clip in enumerate(clips)]
    found = pool_ragged(network, clips, window=2048, n_frames=[len(clip) for clip in clips])
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-4)  # other kernels, other order


def test_a_run_is_trained_tested_and_resumed(gpu: str, tmp_path: Path) -> None:
    write_pack(tmp_path / "pack.h5", make_pack(24))
    write_word_table(tmp_path / "words.h5", word_table())
    run = run_settings(model="avlnet_text_fused").model_dump()
    job = RunJob("tried", "main", run, audio_frames=96, max_words=5, seeds=(1,))
    words, common = tmp_path / "words.h5", {"start": "random", "device": gpu, "threads": 1}
    training, evaluation = tmp_path / "training.json", tmp_path / "evaluation.json"
    for _ in range(2):  # the second finds the seed finished
        train_run(job, source={"pack": str(tmp_path / "pack.h5")}, words=words, target=training, **common)
    tests = {"test": {"audio_frames": 96, "expected": None, "diagnostic": False}}
    evaluate_run(
        job, packs={"test": tmp_path / "pack.h5"}, tests=tests, words={"test": words}, training=training,
        target=evaluation, **common,
    )  # fmt: skip
    record = json.loads(evaluation.read_text())
    assert record["seeds"][0]["device"] == "cuda" and json.loads(training.read_text())["seeds"]["1"]["steps"] == 9
