"""What the jobs of rules/retrieval.smk do: packs, word vectors, training, evaluation, indexes.

Torch is imported only after devices have been leased.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.devices import leased_device, leased_devices, resolve_device
from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json
from avpipe.report.retrieval import collect_record
from avpipe.report.tasks import write_report
from avpipe.retrieval.captions import read_captions
from avpipe.retrieval.packs import read_pack
from avpipe.retrieval.packs.build import PackClip, build_pack, import_pack
from avpipe.retrieval.packs.published import write_clip_pickle
from avpipe.retrieval.settings import RunJob
from avpipe.retrieval.text import select_words
from avpipe.sources.listing import clips_of, digest_of, source_folder
from avpipe.sources.settings import validate_source

__all__ = [
    "RunJob",
    "evaluate_run",
    "export_clip_pickle",
    "import_pack",
    "index_run",
    "pack_subset",
    "select_pack_words",
    "select_window_words",
    "train_run",
    "write_retrieval_eval",
]

StrPath = str | os.PathLike[str]


def pack_subset(
    *,
    source: Mapping[str, Any],
    made_folder: str,
    subset: str,
    digest: str | None,
    stores: Mapping[str, Sequence[str]],
    probes: Sequence[str],
    statuses: Sequence[str],
    min_audio_frames: int,
    window: int,
    pack: StrPath,
    summary: StrPath,
) -> None:
    """Pack the clips of a subset of the source.

    Args:
        source: the dataset's source as plain values.
        made_folder: where an embedded dataset lies.
        subset: its name.
        digest: `digest_of` the clips when the run was planned; None: not known then.
        stores, probes, statuses, min_audio_frames, window: as in `build_pack`.
        pack: the pack to write.
        summary: the JSON file to write.

    Raises:
        AvpipeError: the table changed since the run was planned, or as `build_pack`.
    """
    origin = validate_source(dict(source))
    clips = clips_of(origin, subset, made_folder)
    if digest is not None and digest_of(clips) != digest:
        raise AvpipeError(
            f"The table of clips changed while the run was starting: {subset} has other clips or captions than "
            "planned. Run the same command again."
        )
    build_pack(
        stores=stores,
        probes=probes,
        statuses=statuses,
        clips=[PackClip(clip.clip_id, clip.captions) for clip in clips],
        min_audio_frames=min_audio_frames,
        window=window,
        target=pack,
        summary=summary,
        folder=str(source_folder(origin, made_folder)),
    )


def select_pack_words(pack: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in a pack's captions, as `avpipe.retrieval.text.select_words` does."""
    clips = read_pack(pack)
    select_words(model, itertools.chain(clips.eval_captions, *clips.captions), target)


def select_window_words(captions: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in captions of whole videos, as `avpipe.retrieval.text.select_words` does."""
    select_words(model, read_captions(captions).texts(), target)


def export_clip_pickle(pack: StrPath, target: StrPath) -> None:
    """Write a pack as a clip pickle that the published code reads."""
    write_clip_pickle(read_pack(pack), target, layout="youcook")


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
        from avpipe.retrieval.training import list_seeds, train_seeds
        from avpipe.training.distributed import ProcessGroup, check_batch
        from avpipe.training.processes import run_together

        check_batch(job.settings().batch_size, len(devices))
        if len(devices) == 1:
            train_seeds(ProcessGroup(device=resolve_device(devices[0])), job, **arguments)
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
        target: the JSON file to write; its recalls are in %.

    Raises:
        AvpipeError: a checkpoint is not the one that training.json lists, weights or features do not fit, or a pack has
            more clips than are expected.
    """
    with leased_device(device) as leased:
        from avpipe.retrieval.testing import evaluate_galleries

        record = evaluate_galleries(
            job,
            packs={test: Path(path) for test, path in packs.items()},
            tests=tests,
            words={test: Path(path) for test, path in words.items()},
            start=start,
            training=None if training is None else Path(training),
            device=leased,
            threads=threads,
        )
    write_json(target, record.to_json())


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


def write_retrieval_eval(*, target: StrPath, table: StrPath, figure: StrPath, **made: Any) -> None:
    """Write eval.json of a retrieval dataset, its table and its figure.

    Args:
        target: eval.json.
        table: the Markdown file to write.
        figure: the figure of the results to write.
        **made: see `avpipe.report.retrieval.collect_record`.
    """
    write_report(collect_record(**made), target, table=table, figure=figure)
