"""Fingerprints of the stages of retrieval: packs, word tables, training, tests and indexes on generated clips."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from avpipe import versions
from avpipe.demo.retrieval import plan_films, render_film
from avpipe.jobs.retrieval import evaluate_run, index_run, select_pack_words, train_run
from avpipe.registry import MODELS
from avpipe.retrieval.packs import ClipSource, Pack, PackInfo
from avpipe.retrieval.packs.build import import_pack
from avpipe.retrieval.packs.published import write_clip_pickle
from avpipe.retrieval.settings import Run, RunJob
from avpipe.schema.reading import read_evaluation
from avpipe.schema.retrieval import DIRECTIONS, RetrievalEvaluation

LENGTHS = (60, 40, 75, 90, 16, 33, 48, 64)


def retrieval_fingerprints(folder: Path) -> dict[str, Any]:
    """Stage version -> its fingerprint; files as digests, networks and scores as numbers."""
    (folder / "words.vec").write_text("2 300\n" + "".join(f"{word} {'0.5 ' * 300}\n" for word in ("stir", "fold")))
    write_clip_pickle(_pack(), folder / "clips.pkl", layout="youcook")
    pack, words = folder / "pack.h5", folder / "words.h5"
    import_pack(folder / "clips.pkl", window=64, target=pack, summary=folder / "pack.json")
    select_pack_words(pack, folder / "words.vec", words)
    runs = {name: _run(name, pack, words, folder / name) for name in MODELS}
    return {
        versions.PACK: _digest(pack),
        versions.CAPTION_WORDS: _digest(words),
        versions.RETRIEVAL_TRAIN: {name: norms for name, (norms, _, _) in runs.items()},
        versions.RETRIEVAL_EVALUATE: {name: ranks for name, (_, ranks, _) in runs.items()},
        versions.RETRIEVAL_INDEX: {name: lengths for name, (_, _, lengths) in runs.items()},
    }


def film_of_the_demo(folder: Path) -> Path:
    """The first film of the embedded dataset for retrieval."""
    film = plan_films()[0]
    path = folder / f"film{Path(film.relative_path).suffix}"
    render_film(film, path)
    return path


def _pack() -> Pack:
    drawn, n = np.random.default_rng(0), len(LENGTHS)
    return Pack(
        ids=[f"clip{number}" for number in range(n)],
        video_2d=drawn.random((n, 2048), np.float32),
        video_3d=drawn.random((n, 2048), np.float32),
        audio=(-80 * drawn.random((sum(LENGTHS), 40))).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64),
        n_frames=np.array(LENGTHS, np.int64),
        captions=[(("stir", "fold", "stir fold")[number % 3],) for number in range(n)],
        eval_captions=[""] * n,
        sources=[ClipSource()] * n,
        info=PackInfo("extracted", n),
    )


def _run(name: str, pack: Path, words: Path, folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Norms of a model's weights after four steps, its figures in both directions, and lengths of its candidates."""
    run = Run(
        model=name, weights="random:0", embedding_dim=8, audio_channels=2, epochs=2, batch_size=4
    ).resolved("corrected")  # fmt: skip
    job = RunJob(name, "main", run.model_dump(), audio_frames=64, max_words=20, seeds=[0])
    table = words if run.uses_text else None
    common: dict[str, Any] = {"start": "random:0", "device": "cpu", "threads": 1}
    training, evaluation, index = (folder / f"{file}" for file in ("training.json", "evaluation.json", "index.h5"))
    train_run(job, source={"pack": pack}, words=table, target=training, **common)
    tests = {"test": {"audio_frames": 64, "expected": None, "diagnostic": False}}
    tables = {"test": words} if run.uses_text else {}
    evaluate_run(
        job, packs={"test": pack}, tests=tests, words=tables, training=training, target=evaluation, **common
    )  # fmt: skip
    index_run(job, pack=pack, words=table, training=training, target=index, **common)
    state = torch.load(folder / "seed0" / "model.pt", weights_only=True)
    norms = [float(value.double().norm()) for key, value in sorted(state.items()) if value.is_floating_point()]
    tested = read_evaluation(evaluation, RetrievalEvaluation).seeds[0].tests["test"]
    figures = [getattr(getattr(tested, way), key) for way in DIRECTIONS for key in ("r1", "mean_rank")]
    with h5py.File(index) as file:
        lengths = np.linalg.norm(file["embeddings"][:], axis=1).tolist()
    return norms, figures, lengths


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
