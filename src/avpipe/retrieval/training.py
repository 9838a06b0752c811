"""Training of a run with every seed: from packs or whole videos to checkpoints that the published code reads."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from avpipe import versions
from avpipe.errors import AvpipeError
from avpipe.formats.digests import file_sha256
from avpipe.formats.howto100m import read_list
from avpipe.formats.weights import WeightsRecord
from avpipe.inventory.accounting import make_account
from avpipe.inventory.probing import read_probed
from avpipe.inventory.status import ClipStatus
from avpipe.io.manifest import read_json
from avpipe.retrieval.batches import PackSource, Source
from avpipe.retrieval.captions import read_captions
from avpipe.retrieval.howto100m import HowTo100MCorpus
from avpipe.retrieval.initial_weights import MODEL, Architecture, make_model
from avpipe.retrieval.packs import read_pack
from avpipe.retrieval.settings import Run, RunJob
from avpipe.retrieval.store_corpus import StoreCorpus
from avpipe.retrieval.text import WordTable, read_word_table
from avpipe.retrieval.trainer import RetrievalTrainer, steps_per_epoch
from avpipe.retrieval.window_source import WindowSource
from avpipe.training import checkpoint
from avpipe.training.distributed import ProcessGroup
from avpipe.training.loop import LoopSettings, train
from avpipe.training.runtime import TERMINATED, Interrupt, deterministic
from avpipe.training.seed_files import RESUME, seed_folder, write_results

log = logging.getLogger(__name__)

SAVE_EVERY_SECONDS = 300.0  # a checkpoint and Adam's moments of AVLnet are 1 GB
_SUMMARY = "seed.json"
_DECIDING = (
    "epochs", "batch_size", "learning_rate", "learning_rate_decay", "margin", "objective", "precision",
    "gradient_checkpointing",
)  # fmt: skip


def train_seeds(
    processes: ProcessGroup,
    job: RunJob,
    *,
    source: Mapping[str, Any],
    words: str | os.PathLike[str] | None,
    start: str,
    threads: int,
    folder: str,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
) -> None:
    """Train every seed, one after the other; a seed that is finished already is not repeated.

    Args:
        processes: those that share each batch; this one on its device.
        job: the run.
        source: {"pack": path}; {"stores": {"video_2d", "video_3d", "audio": paths}, "probes", "statuses": the tables of
            all shards}; or {"howto100m": {"path", "audio_path", "videos"}}; with the latter two "captions", a path or
            None.
        words: word table of the captions; None for models without text.
        start: see `avpipe.retrieval.initial_weights.make_model`.
        threads: CPU threads of all processes together.
        folder: gets seed<seed>/ with model.pt, epochs.csv and seed.json; an interrupted run leaves resume.pt there.
        save_every_seconds: how often the state for resuming is saved.

    Raises:
        AvpipeError: data, weights or settings that do not fit, a loss that is not finite.
        SystemExit: code 143 after SIGTERM; calling again goes on exactly where it stopped.
    """
    run = job.settings()
    if not run.epochs:
        raise AvpipeError(
            f"The run {job.name} has epochs 0: it tests weights as they are, so there is nothing to train."
        )
    if run.batch_norm is None or run.train_pooling is None:
        raise ValueError(f"undecided quirks: {run.quirks()}; call resolved() before")
    device = processes.device
    with deterministic(device, max(1, threads // processes.size)):
        table = _word_table(run, words)
        data = open_source(run, source, table, window=job.audio_frames, max_words=job.max_words, device=device)
        architecture = architecture_of(run, table)
        steps = steps_per_epoch(data.n_items, run.batch_size)
        for seed in job.seeds:
            model, weights = make_model(architecture, start, seed)
            seed_data = data if job.variant == "main" else data.permuted(seed)
            fingerprint = _fingerprint(seed_data, architecture, run, weights, seed, processes)
            resume_path = seed_folder(Path(folder), seed) / RESUME
            loop = LoopSettings(seed, run.epochs, steps, fingerprint, resume_path, save_every_seconds)
            if not _is_finished(loop, processes):
                _train_seed(RetrievalTrainer(model, seed_data, run, loop, processes), weights)
            del model  # or a GPU would hold it while the next one is made


def _word_table(run: Run, words: str | os.PathLike[str] | None) -> WordTable | None:
    if not run.uses_text:
        return None
    if words is None:
        raise AvpipeError(
            f"{run.model} reads captions, and no word vectors were given; set datasets.<name>.retrieval.word_vectors."
        )
    return read_word_table(words)


def architecture_of(run: Run, words: WordTable | None) -> Architecture:
    """The model of a run; its word vectors are as long as those of the table."""
    return Architecture(run.model, run.embedding_dim, run.audio_channels, 300 if words is None else words.dimension)


def open_source(
    run: Run,
    source: Mapping[str, Any],
    words: WordTable | None,
    *,
    window: int,
    max_words: int,
    device: torch.device,
) -> Source:
    """What a run is trained on; arguments as of `train_seeds`."""
    if "pack" in source:
        return PackSource.make(read_pack(source["pack"]), words, max_words=max_words, window=window, device=device)
    if run.windows is None:
        raise ValueError("whole videos are trained on in windows, which this run does not set")
    corpus: StoreCorpus | HowTo100MCorpus
    if "stores" in source:
        corpus = _stored_videos(source)
    else:
        given = source["howto100m"]
        corpus = HowTo100MCorpus(read_list(given["videos"]), given["path"], given.get("audio_path"))
    path = source.get("captions")
    captions = None if path is None else read_captions(path, set(corpus.video_ids()))
    return WindowSource(corpus, run.windows, captions, words, max_words)


def _stored_videos(source: Mapping[str, Any]) -> StoreCorpus:
    """Every video that was probed, those without features with the reason of the stage that they failed in."""
    probes, statuses = source.get("probes") or [], source.get("statuses") or []
    if not probes:
        return StoreCorpus(source["stores"])
    videos = sorted(clip.clip_id for probe in probes for clip in read_probed(probe, only_ok=False))
    failed = [
        ClipStatus(row["clip_id"], row["reason"], row["detail"]) for row in make_account(probes, statuses)["failed"]
    ]
    return StoreCorpus(source["stores"], videos=videos, failed=failed)


def _fingerprint(
    source: Source,
    architecture: Architecture,
    run: Run,
    start: WeightsRecord,
    seed: int,
    processes: ProcessGroup,
) -> checkpoint.Fingerprint:
    """Of everything that decides the result of a seed."""
    # With frozen statistics the gradient is the same however a batch is shared.
    parts = 1 if run.trains_frozen else processes.size
    decided = {name: getattr(run, name) for name in _DECIDING} | {
        "window": source.window,
        "statistics": "frozen" if run.trains_frozen else "batch",
        "pooling": run.train_pooling,
    }
    return {
        "data": source.fingerprint(),
        "settings": checkpoint.digest_json([asdict(architecture), decided, parts]),
        "start": start.label,
        "seed": str(seed),
        "stage version": versions.RETRIEVAL_TRAIN,
    }


def _is_finished(loop: LoopSettings, processes: ProcessGroup) -> bool:
    """Whether this very training has been finished before."""
    processes.barrier()  # what is finished must be the same to all, before the first of them changes it
    folder = loop.resume_path.parent
    try:
        if read_json(folder / _SUMMARY)["fingerprint"] != loop.fingerprint:
            return False
    except (FileNotFoundError, AvpipeError):
        return False  # nothing, or not whole: it is trained again and replaced
    if processes.is_first:
        log.info("Seed %d is finished already.", loop.seed)
    return True


def _train_seed(trainer: RetrievalTrainer, start: WeightsRecord) -> None:
    """Train a seed and write its files."""
    processes, loop = trainer.processes, trainer.loop
    began = time.monotonic()
    with Interrupt() as interrupt:
        train(trainer, interrupt, processes)
        if processes.is_first:
            folder = loop.resume_path.parent
            checkpoint.save(folder / MODEL, trainer.model.state_dict())
            result = {"sha256": file_sha256(folder / MODEL), **_result(trainer, start)}
            summary = (_SUMMARY, {"fingerprint": loop.fingerprint, "result": result})
            write_results(folder, MODEL, trainer.history, summary)
            log.info("Seed %d is trained, %.0f s.", loop.seed, time.monotonic() - began)
    if processes.any(interrupt.requested):
        raise SystemExit(TERMINATED)


def _result(trainer: RetrievalTrainer, start: WeightsRecord) -> dict[str, Any]:
    source, loop, history = trainer.source, trainer.loop, trainer.history
    per_epoch = loop.steps_per_epoch * trainer.run.batch_size
    return {
        "loss": history[-1]["loss"],
        "epochs": len(history),
        "steps": loop.steps_per_epoch * len(history),
        "seconds": sum(row["seconds"] for row in history),
        "device": str(trainer.processes.device),
        "start": asdict(start),
        "items": source.n_items,
        "items_per_epoch": per_epoch,
        "items_left_over_per_epoch": source.n_items - per_epoch,
        "left_out": source.left_out,
    }


def list_seeds(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Results of the seeds, as training.json lists them.

    Raises:
        AvpipeError: a seed's files are not there.
    """
    return {str(seed): read_json(seed_folder(folder, seed) / _SUMMARY)["result"] for seed in seeds}
