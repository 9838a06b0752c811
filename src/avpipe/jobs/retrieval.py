"""What the jobs of rules/retrieval.smk do: packs, word vectors, training, evaluation, indexes.

Torch is imported only after devices have been leased.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from avpipe.devices import leased_device, leased_devices, resolve_device
from avpipe.errors import AvpipeError
from avpipe.io.manifest import write_json
from avpipe.locks import sole_writer
from avpipe.report.page.writing import write_page
from avpipe.report.retrieval import collect_record
from avpipe.report.tasks import write_report
from avpipe.report.verification import check_evaluations
from avpipe.retrieval.captions import read_captions
from avpipe.retrieval.packs import read_pack
from avpipe.retrieval.packs.build import build_pack, import_pack
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


def pack_subset(*, source: Mapping[str, Any], made_folder: str, subset: str, digest: str | None, **given: Any) -> None:
    """Pack the clips of a subset of the source.

    Args:
        source: the dataset's source as plain values.
        made_folder: where an embedded dataset lies.
        subset: its name.
        digest: `digest_of` the clips when the run was planned; None: not known then.
        **given: see `build_pack`.

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
    folder = str(source_folder(origin, made_folder))
    build_pack(captions={clip.clip_id: clip.captions for clip in clips}, folder=folder, **given)


def select_pack_words(pack: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in a pack's captions, as `avpipe.retrieval.text.select_words` does."""
    clips = read_pack(pack)
    select_words(model, itertools.chain(clips.eval_captions, *clips.captions), target)


def select_window_words(captions: StrPath, model: StrPath, target: StrPath) -> None:
    """Write the vectors of all words in captions of whole videos, as `avpipe.retrieval.text.select_words` does."""
    select_words(model, read_captions(captions).texts(), target)


def export_clip_pickle(pack: StrPath, target: StrPath) -> None:
    """Write a pack as a clip pickle that the published code reads, and <target>.json about what it rests on."""
    write_clip_pickle(read_pack(pack), target, layout="youcook")


def train_run(job: RunJob, *, device: str, target: StrPath, **given: Any) -> None:
    """Train every seed of a run and list the results.

    Args:
        job: what to train.
        device: "auto", "cpu" or "cuda"; on GPUs the run takes as many as it sets, on a CPU one process.
        target: training.json: seed -> sha256 of its model and how it was trained. The models lie beside it in
            seed<seed>/model.pt; what is finished there already is kept.
        **given: see `avpipe.retrieval.training.train_seeds`.

    Raises:
        AvpipeError: another job trains there; data, weights or settings that do not fit, fewer GPUs than wanted, a loss
            that is not finite.
        SystemExit: code 143 after SIGTERM; running again goes on where it stopped.
    """
    folder = Path(target).parent
    with (
        sole_writer(folder / ".training.lock", f"{folder}"),
        leased_devices(device, job.settings().gpus) as devices,
    ):
        from avpipe.retrieval.training import list_seeds, train_seeds
        from avpipe.training.distributed import ProcessGroup, check_batch
        from avpipe.training.processes import run_together

        check_batch(job.settings().batch_size, len(devices))
        train: Callable[..., None] = partial(train_seeds, folder=str(folder), **given)
        if len(devices) == 1:
            train(ProcessGroup(device=resolve_device(devices[0])), job)
        else:
            run_together(train, [job], devices)
        seeds = list_seeds(folder, job.seeds)
        write_json(target, {"run": job.name, "variant": job.variant, "model": job.settings().model, "seeds": seeds})


def evaluate_run(job: RunJob, *, device: str, target: StrPath, **given: Any) -> None:
    """Test a run's models, or the weights that it starts from, on every gallery; write evaluation.json.

    Args:
        job: what was trained.
        device: "auto", "cpu" or "cuda".
        target: the JSON file to write; its recalls are in %.
        **given: see `avpipe.retrieval.testing.evaluate_galleries`.

    Raises:
        AvpipeError: as there.
    """
    with leased_device(device) as leased:
        from avpipe.retrieval.testing import evaluate_galleries

        record = evaluate_galleries(job, device=leased, **given)
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


def write_retrieval_eval(
    *, target: StrPath, table: StrPath, figure: StrPath, page: StrPath, benchmarks: StrPath, **made: Any
) -> None:
    """Write eval.json of a retrieval dataset, its table, its figure and its page.

    Args:
        target: eval.json.
        table: the Markdown file to write.
        figure: the figure of the results to write.
        page: report.html to write.
        benchmarks: see `avpipe.report.page.writing.write_page`.
        **made: see `avpipe.report.retrieval.collect_record`.
    """
    check_evaluations(made["evaluations"])
    written = write_report(collect_record(**made), target, table=table, figure=figure)
    write_page(written, page, evaluations=made["evaluations"], benchmarks=benchmarks)
