"""What the workflow's training and evaluation jobs of retrieval do: from packs to checkpoints and evaluation.json.

Torch is imported only after devices have been leased.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from avpipe.config.retrieval import Run
from avpipe.devices import leased_device, leased_devices
from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json

StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class RunJob:
    """One run in one variant, as plain values that a workflow can hand over.

    Attributes:
        name: of the run.
        variant: "main", or "permuted": trained with pictures permuted among the clips, a control.
        run: the run's settings as plain values, quirks decided.
        audio_frames: spectrogram frames that are read of a clip, or that a window has.
        max_words: known words of a caption that are read.
        seeds: of weights, order and draws.
        long_clips: in tests, "cut" or "average".
    """

    name: str
    variant: Literal["main", "permuted"]
    run: Mapping[str, Any]
    audio_frames: int
    max_words: int
    seeds: Sequence[int]
    long_clips: Literal["cut", "average"] = "cut"

    def settings(self) -> Run:
        """The run's settings."""
        return Run.model_validate(dict(self.run))


def train_run(
    job: RunJob,
    *,
    source: Mapping[str, Any],
    words: StrPath | None,
    start: str,
    device: str,
    threads: int,
    target: StrPath,
) -> None:
    """Train every seed of a run and list the results.

    Args:
        job: what to train.
        source: {"pack": path}; {"stores": {"video_2d", "video_3d", "audio": paths}, "probes", "statuses": the tables of
            all shards}; or {"howto100m": {"path", "audio_path", "videos"}}; with the latter two "captions", a path or
            None.
        words: word table of the captions; None for models without text.
        start: "random", "random:<seed>", the path of a checkpoint, or of another run's training.json.
        device: "auto", "cpu" or "cuda"; on GPUs the run takes as many as it sets, on a CPU one process.
        threads: CPU threads.
        target: training.json: seed -> sha256 of its model and how it was trained. The models lie beside it in
            seed<seed>/model.pt; what is finished there already is kept.

    Raises:
        AvpipeError: data, weights or settings that do not fit, fewer GPUs than wanted, a loss that is not finite.
        SystemExit: code 143 after SIGTERM; running again goes on where it stopped.
    """
    folder = Path(target).parent
    arguments: dict[str, Any] = {
        "source": dict(source),
        "words": None if words is None else str(words),
        "start": str(start),
        "threads": threads,
        "folder": str(folder),
    }
    with leased_devices(device, job.settings().gpus) as devices:
        from avpipe.retrieval.distributed import Team, check_batch
        from avpipe.retrieval.processes import run_together
        from avpipe.retrieval.training import list_seeds, train_seeds

        check_batch(job.settings().batch_size, len(devices))
        if len(devices) == 1:
            train_seeds(Team(), devices[0], job, **arguments)
        else:
            run_together(partial(train_seeds, **arguments), [job], devices)
        seeds = list_seeds(folder, job.seeds)
    write_json(target, {"run": job.name, "variant": job.variant, "model": job.settings().model, "seeds": seeds})


def evaluate_run(
    job: RunJob,
    *,
    packs: Mapping[str, StrPath],
    tests: Mapping[str, Mapping[str, Any]],
    words: Mapping[str, StrPath],
    start: str,
    training: StrPath | None,
    device: str,
    threads: int,
    target: StrPath,
) -> None:
    """Test a run's models, or the weights that it starts from, on every gallery; write evaluation.json.

    Args:
        job: what was trained.
        packs: test -> pack.
        tests: test -> "audio_frames" that are read of a clip, "expected" clips of the benchmark or None, and whether
            it is a "diagnostic".
        words: test -> word table of its captions; empty for models without text.
        start: as in `train_run`.
        training: the training.json that it wrote; None: the start is tested as it is.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        target: the JSON file to write; its recalls are fractions.

    Raises:
        AvpipeError: a checkpoint is not the one that training.json lists, weights or features do not fit, or a pack has
            more clips than are expected.
    """
    with leased_device(device) as leased:
        from avpipe.retrieval.evaluation import evaluation_record

        record = evaluation_record(
            job,
            packs={test: Path(path) for test, path in packs.items()},
            tests=tests,
            words={test: Path(path) for test, path in words.items()},
            start=start,
            training=None if training is None else Path(training),
            device=leased,
            threads=threads,
        )
    write_json(target, record)


def index_run(
    job: RunJob,
    *,
    pack: StrPath,
    words: StrPath | None,
    start: str,
    training: StrPath | None,
    device: str,
    threads: int,
    target: StrPath,
) -> None:
    """Index a pack for searches with a run's model: of its first seed, or the weights that are tested as they are.

    Args:
        job: what was trained.
        pack: the clips.
        words: word table of their captions, which says how long a word's vector is; None for models without text.
        start: as in `train_run`.
        training: the training.json that it wrote; None: the start is used as it is.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        target: the index to write.

    Raises:
        AvpipeError: as `avpipe.retrieval.index.build_index`, or weights that every seed draws for itself.
    """
    run = job.settings()
    if training is None and start == "random":
        raise AvpipeError(
            f"The run {job.name} trains nothing and draws its weights from each seed. Set weights: random:<seed>, or "
            "epochs, to search with it."
        )
    with leased_device(device) as leased:
        import torch

        from avpipe.retrieval.index import build_index
        from avpipe.retrieval.text import read_word_table
        from avpipe.retrieval.training import architecture_of

        torch.set_num_threads(threads)
        build_index(
            pack,
            model=run.model,
            weights=start if training is None else training,
            target=target,
            embedding_dim=run.embedding_dim,
            audio_channels=run.audio_channels,
            word_dim=architecture_of(run, None if words is None else read_word_table(words)).word_dim,
            max_words=job.max_words,
            window=job.audio_frames,
            device=leased,
        )
