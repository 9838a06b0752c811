"""Tests of a retrieval run: every gallery, both directions, every seed."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avpipe import registry
from avpipe.devices import resolve_device
from avpipe.errors import AvpipeError
from avpipe.formats.weights import RANDOM_PREFIX
from avpipe.io.manifest import read_json
from avpipe.retrieval.embedding import Caption, Reading, embed_pack, query_captions
from avpipe.retrieval.initial_weights import Architecture, is_drawn_per_seed, make_model, seed_model
from avpipe.retrieval.metrics import Ranks, metrics_of_ranks, ranks_of
from avpipe.retrieval.models import implementation
from avpipe.retrieval.models.base import RetrievalModel
from avpipe.retrieval.packs import Pack, read_pack
from avpipe.retrieval.packs.pack import random_extractors
from avpipe.retrieval.settings import Run, RunJob
from avpipe.retrieval.text import WordTable, known_words, read_word_table
from avpipe.retrieval.training import architecture_of
from avpipe.schema.retrieval import (
    CaptionUse,
    Drawn,
    GalleryTest,
    Ranking,
    Recalls,
    RetrievalEvaluation,
    SeedTests,
    Start,
    Training,
)
from avpipe.training.precision import arithmetic
from avpipe.training.runtime import deterministic

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

StrPath = str | os.PathLike[str]

_CAPTIONS = {
    "only": "",
    "fixed": " Of the captions of each clip the one that the set fixes for tests is read ({used:,} of {total:,}).",
    "first": " Of the captions of each clip the first is read ({used:,} of {total:,}).",
    "all": " The other way each clip is a query, and another one is found by the best of its captions.",
}


@dataclass(frozen=True)
class Gallery:
    """Clips that are searched with and in.

    Attributes:
        pack: the clips.
        words: vectors of their captions' words; None for models without text.
        reading: how clips are read.
        expected: clips of the benchmark, those without features included.
        diagnostic: whether it is no benchmark to compare systems with.
    """

    pack: Pack
    words: WordTable | None
    reading: Reading
    expected: int
    diagnostic: bool


def evaluate_galleries(
    job: RunJob,
    *,
    packs: Mapping[str, StrPath],
    tests: Mapping[str, Mapping[str, Any]],
    words: Mapping[str, StrPath],
    start: str,
    training: StrPath | None,
    device: str,
    threads: int,
) -> RetrievalEvaluation:
    """Test a run's models, or the weights that it starts from, on every gallery.

    Args:
        job: what was trained.
        packs: test -> pack.
        tests: test -> "audio_frames" that are read of a clip, "expected" clips of the benchmark or None, whether
            it is a "diagnostic", and which "captions" are tested with (see `Reading`).
        words: test -> word table of its captions; empty for models without text.
        start: see `avpipe.retrieval.initial_weights.make_model`.
        training: the training.json that it wrote; None: the start is tested as it is.
        device: "cpu" or "cuda", leased.
        threads: CPU threads.

    Raises:
        AvpipeError: a checkpoint is not the one that training.json lists, weights or features do not fit, or a pack has
            more clips than are expected.
    """
    run, where = job.settings(), resolve_device(device)
    galleries = _open_galleries(job, packs, tests, words)
    tested = []
    with deterministic(where, threads), arithmetic(where, "float32"):
        table = next((gallery.words for gallery in galleries.values() if gallery.words is not None), None)
        for seed, model, drawn, trained in _models(job, architecture_of(run, table), start, training):
            model = model.to(where).eval()
            tests_of_seed = {test: score_gallery(model, gallery) for test, gallery in galleries.items()}
            tested.append(SeedTests(seed=seed, start=drawn, training=trained, device=where.type, tests=tests_of_seed))
            log.info("%s", _summary(job.name, tested[-1], galleries))
    return RetrievalEvaluation(
        run=job.name,
        model=run.model,
        variant=job.variant,
        control=job.variant == "permuted",
        regime=regime(run),
        start=_common_start(run.weights, [each.start for each in tested]),
        query=registry.model(run.model).query,
        candidates=implementation(run.model).candidates,
        settings=run.model_dump(mode="json"),
        quirks=run.quirks() | (run.windows.quirks() if run.windows else {}),
        long_clips=job.long_clips,
        chance={test: chance(gallery) for test, gallery in galleries.items()},
        seeds=tested,
    )


def _open_galleries(
    job: RunJob, packs: Mapping[str, StrPath], tests: Mapping[str, Mapping[str, Any]], words: Mapping[str, StrPath]
) -> dict[str, Gallery]:
    return {
        test: open_gallery(
            read_pack(packs[test]),
            read_word_table(words[test]) if job.settings().uses_text else None,
            Reading(int(settings["audio_frames"]), job.max_words, job.long_clips, settings.get("captions", "first")),
            expected=settings["expected"],
            diagnostic=bool(settings["diagnostic"]),
            name=test,
        )
        for test, settings in tests.items()
    }


def open_gallery(
    pack: Pack, words: WordTable | None, reading: Reading, *, expected: int | None, diagnostic: bool, name: str
) -> Gallery:
    """A gallery, its number of queries settled.

    Args:
        pack: the clips.
        words: see `Gallery`.
        reading: see there.
        expected: clips of the benchmark as configured; None: as many as the pack says.
        diagnostic: see there.
        name: of the test, for messages.

    Raises:
        AvpipeError: the pack has more clips than the benchmark.
    """
    if expected is not None and expected < len(pack):
        raise AvpipeError(
            f"{name}: the pack has {len(pack)} clips and {expected} are expected; R@k would exceed 1. Correct "
            f"`expected` of that subset, or leave it out: the pack says {pack.info.expected}."
        )
    return Gallery(pack, words, reading, max(expected or 0, pack.info.expected, len(pack)), diagnostic)


def regime(run: Run) -> str:
    """What the run is: tested as it is, pre-trained on whole videos, or trained on clips."""
    if not run.epochs:
        return "zero-shot"
    if run.windows is not None:
        return "pre-trained"
    return "from scratch" if run.is_scratch else "fine-tuned"


def chance(gallery: Gallery) -> Recalls:
    """R@k of candidates in random order, in %; clips that are missing are missed here too."""
    return Recalls.of({f"r{k}": min(k, len(gallery.pack)) / gallery.expected for k in (1, 5, 10)})


def score_gallery(model: RetrievalModel, gallery: Gallery) -> GalleryTest:
    """Metrics of a model on a gallery, in both directions, and what they rest on.

    Args:
        model: in eval mode, on its device.
        gallery: the clips.

    Raises:
        AvpipeError: the model and the clips do not fit, or embeddings are not finite.
    """
    pack, reading = gallery.pack, gallery.reading
    embeddings = embed_pack(model, pack, gallery.words, reading)
    queries, candidates = model.query_of(embeddings), model.candidates_of(embeddings)
    captions = query_captions(pack, reading.captions) if model.uses_text else []
    clips = [caption.clip for caption in captions] if reading.captions == "all" and captions else None
    use = _caption_use(pack, captions, reading) if captions else None
    n_queries = gallery.expected
    if clips is not None:  # a clip that is missing has as many captions as the others have, rounded up
        n_queries = len(clips) - (len(clips) * (len(pack) - gallery.expected) // len(pack))
    longer = int((pack.n_frames > reading.window).sum())
    return GalleryTest(
        language_to_video=_ranking(ranks_of(queries, candidates, query_clips=clips), len(pack), n_queries),
        video_to_language=_ranking(ranks_of(candidates, queries, candidate_clips=clips), len(pack), gallery.expected),
        expected=gallery.expected,
        gallery=len(pack),
        missing=dict(Counter(each["reason"] for each in pack.info.missing)),
        absent=max(0, gallery.expected - len(pack) - len(pack.info.missing)),
        cut_clips=longer if reading.long_clips == "cut" else 0,
        averaged_clips=longer if reading.long_clips == "average" else 0,
        window=reading.window,
        captions=use,
        known_words=known_words(gallery.words, [each.text for each in captions]) if gallery.words is not None else None,
        diagnostic=gallery.diagnostic,
        protocol=_protocol(gallery, use, n_queries),
    )


def _ranking(found: tuple[Ranks, int], gallery: int, n_queries: int) -> Ranking:
    ranks, n_tied = found
    return Ranking.of(metrics_of_ranks(ranks, n_tied=n_tied, gallery=gallery, n_queries=n_queries))


def _caption_use(pack: Pack, captions: Sequence[Caption], reading: Reading) -> CaptionUse:
    total = sum(map(len, pack.captions))
    if all(len(each) < 2 for each in pack.captions):
        rule = "only"
    elif reading.captions == "all":
        rule = "all"
    else:
        rule = "fixed" if all(pack.eval_captions) else "first"
    return CaptionUse(rule=rule, used=len(captions), total=max(total, len(captions)))


def _protocol(gallery: Gallery, use: CaptionUse | None, n_queries: int) -> str:
    n, expected = len(gallery.pack), gallery.expected
    missing = f", {expected - n} without features counted as missed," if expected > n else ""
    if use is not None and use.rule == "all":
        asks = f"Each of {use.used:,} captions is a query for its clip"
        lost = f", {n_queries - use.used:,} captions of {expected - n:,} clips without features counted as missed,"
        missing = missing and lost
    else:
        asks = f"Each of {expected:,} clips is a query"
    text = f"{asks}{missing} against a gallery of {n:,}; one clip is right, and a tie counts against it."
    return text + ("" if use is None else _CAPTIONS[use.rule].format(used=use.used, total=use.total))


def _models(
    job: RunJob, architecture: Architecture, start: str, training: StrPath | None
) -> Iterator[tuple[int | None, RetrievalModel, Drawn, Training | None]]:
    """Seed and model, what it started from and how it was trained; weights that are the same for all seeds once."""
    if training is None:
        for seed in job.seeds if is_drawn_per_seed(start) else [None]:
            model, record = make_model(architecture, start, seed or 0)
            yield seed, model, Drawn(**asdict(record)), None
        return
    try:
        listed = read_json(training)["seeds"]
        results = {seed: dict(listed[str(seed)]) for seed in job.seeds}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvpipeError(
            f"{training} does not list the seeds {list(job.seeds)} ({error!r}); train them first."
        ) from error
    if lacking := [seed for seed, result in results.items() if "sha256" not in result]:
        raise AvpipeError(f"{training} has no checksum of the seeds {lacking}; remove it and run again.")
    for seed, result in results.items():
        model, _ = make_model(architecture, str(seed_model(Path(training), seed, result["sha256"])), 0)
        came_from = result.pop("start")
        yield seed, model, Drawn(**came_from), Training(**result)


def _common_start(spec: str, starts: list[Drawn]) -> Start:
    """Where all seeds start: the weights if they are the same for all, else how each has its own."""
    if all(each == starts[0] for each in starts):
        return Start(spec=spec, label=starts[0].label, sha256=starts[0].sha256)
    return Start(spec=spec, label="random" if starts[0].sha256 is None else "one for each seed", sha256=None)


def _summary(name: str, tested: SeedTests, galleries: Mapping[str, Gallery]) -> str:
    seed = "" if tested.seed is None else f", seed {tested.seed}"
    parts = []
    for test, result in tested.tests.items():
        recalls = result.language_to_video
        parts.append(f"{test} R@1 {recalls.r1:.1f}, R@5 {recalls.r5:.1f}, R@10 {recalls.r10:.1f}")
    untrained = [each for gallery in galleries.values() for each in random_extractors(gallery.pack.info.provenance)]
    if tested.training is None and tested.start.label.startswith(RANDOM_PREFIX):
        untrained.insert(0, f"{name} ({tested.start.label})")
    warning = f"; RANDOM WEIGHTS: {', '.join(dict.fromkeys(untrained))}" if untrained else ""
    return f"{name}{seed}: {'; '.join(parts)} %{warning}"
