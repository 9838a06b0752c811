"""evaluation.json and eval.json of retrieval; R@k is in %, ranks count from 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from avpipe.schema.stored import Passed, PublishedFigure, Record, Stored, Versioned, Weights

RECALLS = ("r1", "r5", "r10")
METRICS = (*RECALLS, "median_rank", "mean_rank")
Direction = Literal["language_to_video", "video_to_language"]
DIRECTIONS: tuple[Direction, Direction] = ("language_to_video", "video_to_language")


class Recalls(Stored):
    """R@k, in %."""

    r1: float | None = Field(description="R@1: share of queries whose own clip is the first, in %.")
    r5: float | None = Field(description="R@5: among the first five, in %.")
    r10: float | None = Field(description="R@10: among the first ten, in %.")

    @classmethod
    def of(cls, fractions: Mapping[str, Any]) -> Self:
        """From metrics whose recalls are fractions, as `avpipe.retrieval.metrics` has them."""
        return cls(**{key: 100 * value if key in RECALLS else value for key, value in fractions.items()})


class Figures(Recalls):
    """R@k and ranks; null where a seed lacks the figure or only one seed was run."""

    median_rank: float | None = Field(description="Median rank of the queries that have one, from 1.")
    mean_rank: float | None = Field(description="Their mean rank.")


class Ranking(Figures):
    """One direction of one test."""

    median_rank_with_misses: float | None = Field(description="Median rank, misses last; null where it is a miss.")
    n_queries: int = Field(description="Queries of the benchmark; R@k is divided by it.")
    n_ranked: int = Field(description="Queries that have a rank.")
    gallery: int = Field(description="Candidates.")
    n_tied: int = Field(description="Ranked queries whose own clip has the score of another one.")
    ties: str = Field(description="The rule for them: pessimistic, the worst of the tied ranks.")
    rank_counts: list[int] = Field(
        [], description="Queries of rank 1, 2, 3 to 4, 5 to 8 and so on; empty in results of earlier versions."
    )


class KnownWords(Stored):
    """Words of the captions."""

    known: int = Field(description="Words that have a vector.")
    tokens: int = Field(description="All words.")
    captions_without: int = Field(description="Captions without a known word.")


class CaptionUse(Stored):
    """Captions that a subset is tested with."""

    rule: Literal["only", "fixed", "first", "all"] = Field(
        description="Of each clip its only caption, the one that the set fixes for tests, its first, or all."
    )
    used: int = Field(description="Captions that are queries.")
    total: int = Field(description="Captions of the clips.")


class _Protocol(Stored):
    expected: int = Field(description="Clips of the benchmark, those without features included.")
    gallery: int = Field(description="Clips that are searched with and in.")
    missing: dict[str, int] = Field(description="Reason -> known clips without features.")
    absent: int = Field(description="Expected clips that are not even known.")
    cut_clips: int = Field(description="Clips of which only the beginning is heard.")
    averaged_clips: int = Field(description="Clips whose embeddings are means over windows.")
    window: int = Field(description="Spectrogram frames of 10 ms that are heard of a clip, or in a window.")
    captions: CaptionUse | None = Field(None, description="Which captions ask; null for models without text.")
    known_words: KnownWords | None = Field(description="Words of these; null for models without text.")


class GalleryTest(_Protocol):
    """One gallery, in both directions, and what the figures are figures of."""

    language_to_video: Ranking = Field(description="Searching video with sound or text.")
    video_to_language: Ranking = Field(description="Searching sound or text with video.")
    diagnostic: bool = Field(description="Whether it is no benchmark to compare systems with.")
    protocol: str = Field(description="The rules in a sentence.")


class Drawn(Stored):
    """Weights that a model started from."""

    label: str = Field(description="sha256 of the file, or random:<seed>.")
    sha256: str | None = Field(description="sha256 of the file; null for random weights.")


class Start(Drawn):
    """What the seeds of a run started from."""

    spec: str = Field(description="As the settings say it.")

    @property
    def is_random(self) -> bool:
        """Whether the weights were drawn at random."""
        return self.label.startswith("random")


class Training(Passed):
    """How a seed was trained, as training.json says."""

    sha256: str = Field(description="sha256 of its model.")
    loss: float = Field(description="Loss of the last epoch.")
    epochs: int = Field(description="Epochs.")
    steps: int = Field(description="Optimisation steps.")
    seconds: float = Field(description="Wall-clock time of the epochs, in seconds.")
    device: str = Field(description="Where it was trained.")
    items: int = Field(description="Clips or videos trained on.")
    items_per_epoch: int = Field(description="Those that an epoch's whole batches hold.")
    items_left_over_per_epoch: int = Field(description="Those left over in each epoch.")
    left_out: dict[str, int] = Field(description="Reason -> clips or videos that no step saw.")


class _Seed(Stored):
    seed: int | None = Field(description="Of weights, order and draws; null for weights that are tested as they are.")
    start: Drawn = Field(description="Weights that it started from.")
    training: Training | None = Field(description="How it was trained; null where it was not.")
    device: str = Field(description="Where it was tested.")


class SeedTests(_Seed):
    """The tests of one seed."""

    tests: dict[str, GalleryTest] = Field(description="Subset -> its test.")


class _Run(Stored):
    run: str = Field(description="Name of the run.")
    model: str = Field(description="Name of the model.")
    variant: str = Field(description="main, or permuted: trained with pictures permuted among the clips.")
    control: bool = Field(description="Whether it is the permuted control.")
    regime: str = Field(description="zero-shot, fine-tuned, from scratch or pre-trained.")
    start: Start = Field(description="What its seeds started from.")
    query: str = Field(description="The language side: audio, text or audio+text.")
    candidates: str = Field(description="The other side: video or audio+video.")
    settings: dict[str, Any] = Field(description="All settings of the run.")
    quirks: dict[str, Any] = Field(description="Every switch of the run, with its value.")
    long_clips: str = Field(description="Clips longer than the window: cut or average.")


class RetrievalEvaluation(_Run, Versioned):
    """evaluation.json: one run in one variant."""

    kind: Literal["retrieval"] = Field("retrieval", description="The task.")
    chance: dict[str, Recalls] = Field(description="Subset -> R@k of guessing, in %.")
    seeds: list[SeedTests] = Field(description="The tests of each seed.")


class FiguresOverSeeds(Stored):
    """Figures over seeds."""

    mean: Figures = Field(description="Mean over seeds; null where a seed lacks the figure.")
    std: Figures = Field(description="Sample standard deviation (n - 1); null with one seed.")


class SeedRankings(_Seed):
    """A seed's test on one subset."""

    language_to_video: Ranking = Field(description="Searching video with sound or text.")
    video_to_language: Ranking = Field(description="Searching sound or text with video.")


class Ties(Stored):
    """Tied queries by direction."""

    language_to_video: int = Field(description="The most that any seed has.")
    video_to_language: int = Field(description="The most that any seed has.")


class Protocol(_Protocol):
    """What a subset's figures are figures of, the same for all seeds."""

    text: str = Field(description="The rules in a sentence.")
    n_queries: int = Field(description="Queries of the benchmark from language to video; R@k is divided by it.")
    n_ranked: int = Field(description="Those that have a rank.")
    ties: str = Field(description="The rule for ties.")
    n_tied: Ties = Field(description="Queries whose own clip has the score of another one.")


class RetrievalResult(_Run):
    """A run's variant on one subset, over its seeds."""

    subset: str = Field(description="The subset; <dataset>/<subset> of another dataset.")
    diagnostic: bool = Field(description="Whether it is no benchmark to compare systems with.")
    chance: Recalls = Field(description="R@k of guessing, in %.")
    n_seeds: int = Field(description="Number of seeds.")
    language_to_video: FiguresOverSeeds = Field(description="Searching video with sound or text.")
    video_to_language: FiguresOverSeeds = Field(description="Searching sound or text with video.")
    protocol: Protocol = Field(description="What the figures are figures of.")
    seeds: list[SeedRankings] = Field(description="The test of each seed.")
    published: dict[str, PublishedFigure] = Field(
        {}, description="Metric -> published figure from language to video; empty where none is known."
    )

    def spread(self, direction: Direction) -> FiguresOverSeeds:
        """Figures over seeds in a direction."""
        return self.video_to_language if direction == "video_to_language" else self.language_to_video

    @property
    def is_untrained(self) -> bool:
        """Whether the model was drawn at random and tested without training."""
        return self.start.is_random and not any(seed.training for seed in self.seeds)

    @property
    def starts_from_stand_in(self) -> bool:
        """Whether the model was trained from random weights though its run says published ones."""
        return self.start.is_random and not self.start.spec.startswith("random") and not self.is_untrained


class PackPart(Passed):
    """What the features of one part of a pack were made with."""

    extractor: str = Field("", description="Name of the extractor.")
    weights: Weights | None = Field(None, description="Its weights.")


class LongestClip(Stored):
    """The longest clip of a pack."""

    clip_id: str = Field(description="The clip.")
    seconds: float = Field(description="Its length in seconds.")


class LongerClips(Stored):
    """Clips of a pack that are longer than networks hear of them."""

    window_frames: int = Field(description="Spectrogram frames of 10 ms that are heard.")
    clips: int = Field(description="Clips that are longer.")
    share: float = Field(description="clips / used, 0 to 1.")


class CaptionCounts(Stored):
    """Captions of a pack."""

    total: int = Field(description="All captions.")
    clips_without: int = Field(description="Clips that have none.")


class PackSummary(Stored):
    """Clips of a subset that was trained or tested on."""

    origin: str = Field(description="extracted, or the kind of file that was given.")
    sha256: str = Field(description="sha256 of what it was made from.")
    digest: str = Field(description="sha256 of its contents.")
    expected: int = Field(description="Clips that the subset should have.")
    used: int = Field(description="Clips in the pack.")
    missing: dict[str, int] = Field(description="Reason -> known clips without features.")
    missing_clips: list[dict[str, str]] = Field(description="Each of them: clip_id, reason and detail.")
    unlisted: int = Field(description="Expected clips that are not even known.")
    silent_clips: list[str] = Field(description="Clips that are digital silence.")
    total_seconds: float = Field(description="Length of all clips, in seconds.")
    longest: LongestClip = Field(description="The longest clip.")
    longer_than_window: LongerClips = Field(description="Clips that are longer than what is heard of them.")
    captions: CaptionCounts = Field(description="Captions.")
    warnings: list[str] = Field(description="A line for each oddity that was found and kept.")
    provenance: dict[str, PackPart | str] = Field(description="Part -> what made it; of a given pack, its file.")

    def weights(self) -> list[tuple[str, Weights]]:
        """Extractors and their weights; empty for a pack that was given."""
        parts = [part for part in self.provenance.values() if isinstance(part, PackPart)]
        return [(part.extractor, part.weights) for part in parts if part.weights is not None]


class RetrievalRecord(Record):
    """eval.json of retrieval."""

    kind: Literal["retrieval"] = Field("retrieval", description="The task.")
    results: list[RetrievalResult] = Field(description="One for each run, variant and subset.")
    packs: dict[str, PackSummary] = Field(description="Subset -> its clips.")
