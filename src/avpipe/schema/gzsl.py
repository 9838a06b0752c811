"""evaluation.json and eval.json of zero-shot learning; accuracies are in %."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from avpipe.schema.stored import PublishedFigure, Record, Stored, Versioned

METRICS = ("seen", "unseen", "hm", "zsl")
FIGURES = (*METRICS, "ausuc")
_CHOOSES = "chooses_on_test"


class Accuracies(Stored):
    """The benchmark's figures, in %; null where a seed lacks the figure or only one seed was run."""

    seen: float | None = Field(description="S: mean per-class accuracy over seen classes among all classes, in %.")
    unseen: float | None = Field(description="U: the same over unseen classes, in %.")
    hm: float | None = Field(description="HM: harmonic mean of both, in %.")
    zsl: float | None = Field(description="ZSL: mean per-class accuracy over unseen classes among these alone, in %.")
    ausuc: float | None = Field(
        None,
        description="AUSUC: area under the curve of S over U on the test clips, all constants taken, in % of the whole "
        "square; null without calibration.",
    )


class CalibratedAccuracies(Accuracies):
    """The figures with a calibration constant."""

    beta: float = Field(description="The constant that was added to the distances of seen classes.")


class ClassAccuracy(Stored):
    """One test class."""

    gzsl: float | None = Field(description="Accuracy among all classes, in %; null for a class without clips.")
    zsl: float | None = Field(description="Accuracy among unseen classes, in %; null for a seen class.")
    clips: int = Field(description="Its test clips.")


class ClipCounts(Stored):
    """How many clips were tested."""

    seen: int = Field(description="Test clips of seen classes.")
    unseen: int = Field(description="Test clips of unseen classes.")


class BetaCurve(Stored):
    """Accuracies on the test clips over all constants, a step function; for information, nothing is chosen by it."""

    betas: list[float | None] = Field(
        description="The constant with which each step begins; null for the first one, which has no beginning."
    )
    seen: list[float] = Field(description="S of each step, in %.")
    unseen: list[float] = Field(description="U of each step, in %.")
    hm: list[float] = Field(description="HM of each step, in %.")
    steps: int = Field(
        description="Steps of the whole curve. Of more than 256 the first, the best, the last and others between them, "
        "evenly spread, are kept; each is exact."
    )


class SeedResult(Accuracies):
    """The test of one seed."""

    seed: int | None = Field(description="Of weights, order and draws; null for released checkpoints.")
    method: str = Field(description="Name of the method.")
    best_epoch: int = Field(description="Epoch of the checkpoint, from 0.")
    beta: float = Field(description="The calibration constant that stage 1 chose.")
    score_mode: str = Field(description="Mode of the reported figures: audio, video or both.")
    metrics: dict[str, CalibratedAccuracies] = Field(description="Mode -> its figures.")
    per_class: dict[str, ClassAccuracy] = Field(description="Test class -> its accuracy in the reported mode.")
    classes_without_clips: list[str] = Field(description="Test classes that are left out of the means.")
    clips: ClipCounts = Field(description="Number of test clips.")
    beta_curve: BetaCurve | None = Field(description="Figures over beta; null for a method without calibration.")
    fingerprint: dict[str, str] = Field(description="What the checkpoint was trained with.")
    device: str = Field(description="Where it was tested.")


class _Experiment(Stored):
    split: str = Field(description="Name of the split.")
    features: str = Field(description="Name of the feature set.")
    method: str = Field(description="Name of the method.")
    form: str = Field(description="corrected, published, or permuted: the control.")
    text: str = Field(description="How class vectors are attached: correct, published or permuted.")
    quirks: dict[str, Any] = Field(description="Every switch that matters for this result, with its value.")
    control: bool = Field(description="Whether it is the permuted control.")
    chance_zsl: float = Field(description="ZSL of guessing among the unseen classes, in %.")
    seeds: list[SeedResult] = Field(description="The test of each seed.")


class GzslEvaluation(_Experiment, Versioned):
    """evaluation.json: one method on one benchmark in one form."""

    kind: Literal["gzsl"] = Field("gzsl", description="The task.")


class AccuraciesOverSeeds(Stored):
    """Figures over seeds."""

    mean: Accuracies = Field(description="Mean over seeds; null where a seed lacks the figure.")
    std: Accuracies = Field(description="Sample standard deviation (n - 1); null with one seed.")


class GzslResult(AccuraciesOverSeeds, _Experiment):
    """An evaluation over its seeds."""

    n_seeds: int = Field(description="Number of seeds.")
    modes: dict[str, AccuraciesOverSeeds] = Field(description="Mode of the method -> its figures over seeds.")
    per_class: dict[str, ClassAccuracy] = Field(description="Test class -> means over seeds.")
    published: dict[str, PublishedFigure] = Field({}, description="Metric -> published figure; empty where none is.")

    @property
    def benchmark(self) -> str:
        """The key under `benchmarks` of eval.json."""
        return f"{self.split}/{self.features}"

    @property
    def chooses_on_test(self) -> bool:
        """Whether the method chose its epoch on the very clips that are reported."""
        return any(name.split(".")[-1] == _CHOOSES and bool(value) for name, value in self.quirks.items())


class DifferenceSummary(Stored):
    """Differences of two methods, seed by seed, in percentage points."""

    mean: float = Field(description="Mean of first minus second, in percentage points.")
    std: float = Field(description="Sample standard deviation, in percentage points.")
    low: float = Field(description="Lower end of the mean's 95 % interval (Student's t), in percentage points.")
    high: float = Field(description="Upper end, in percentage points.")
    wins: int = Field(description="Seeds in which the first was better.")
    ties: int = Field(description="Seeds in which both were equal.")
    losses: int = Field(description="Seeds in which the first was worse.")


class MethodPair(Stored):
    """Two methods over the seeds that both have."""

    split: str = Field(description="Name of the split.")
    features: str = Field(description="Name of the feature set.")
    form: str = Field(description="Form of both.")
    first: str = Field(description="A method.")
    second: str = Field(description="The method it is compared with.")
    seeds: list[int | None] = Field(description="Seeds that both have.")
    n: int = Field(description="Their number.")
    hm: DifferenceSummary | None = Field(description="Differences of HM; null for fewer than two seeds.")
    zsl: DifferenceSummary | None = Field(description="Differences of ZSL; null for fewer than two seeds.")


class Comparisons(Stored):
    """Every pair of methods within a benchmark and form, without controls."""

    note: str = Field(description="How to read them.")
    pairs: list[MethodPair] = Field(description="The pairs.")


class ClassClips(Stored):
    """Clips of a class in a subset; expected = used + the sum of missing."""

    expected: int = Field(description="Clips that the split lists.")
    used: int = Field(description="Clips that have features.")
    missing: dict[str, int] = Field(description="Reason -> clips without features.")


class SubsetClips(ClassClips):
    """Clips of a subset."""

    classes: dict[str, ClassClips] = Field(description="Class -> its clips.")
    expected_from: str = Field("csv", description="What told which clips to expect: csv, or the kind of the source.")


class FeatureSource(Stored):
    """Where features come from."""

    kind: str = Field(description="extracted, tree, caches or feature pickle.")
    path: str | None = Field(None, description="Of given features.")
    merged_duplicates: int = Field(0, description="Repeated rows that were merged.")
    dropped_classes: dict[str, int] = Field({}, description="Class that no list has -> its clips.")
    unlisted_clips: int = Field(0, description="Clips that the split does not list.")
    text_rows_agree: bool | None = Field(None, description="Whether caches were made with the class vectors in use.")


class SharedClips(Stored):
    """Clips of a test or validation subset that share a source video with training clips."""

    trained_with: str = Field(description="The training subset that it is compared with.")
    clips: int = Field(description="Clips of the subset that are used.")
    shared: int = Field(description="Those that share a source video.")
    share: float = Field(description="shared / clips, 0 to 1.")
    examples: list[list[str]] = Field(description="At most five of them, each with its source video.")


class RepeatedClips(Stored):
    """Used clips whose content another used clip has, too."""

    clips: int = Field(description="Clips whose content an earlier one by clip id has.")
    apart: int = Field(description="Those of them that are in another subset or class than that one.")
    examples: list[list[str]] = Field(description="At most five of them, each with the earlier one.")


class TreeClips(Stored):
    """The clips of a folder tree."""

    split: str = Field(description="Name of the split.")
    split_digest: str = Field(description="sha256 of the split's contents.")
    dimensions: dict[str, int] = Field(description="Modality -> length of a clip's vector.")
    subsets: dict[str, SubsetClips] = Field(description="Subset -> its clips.")
    odd_vectors: list[str] = Field([], description="What is odd about the class vectors, with the classes' names.")


class BenchmarkSummary(TreeClips):
    """What the folder tree of a split and feature set rests on."""

    source: FeatureSource = Field(description="Where the features come from.")
    shared_sources: dict[str, SharedClips] = Field(
        description="Subset -> used clips that share a source video with training clips."
    )
    repeated: RepeatedClips | None = Field(
        None, description="Used clips with the content of another one; of given features, with the same features."
    )


class GzslRecord(Record):
    """eval.json of zero-shot learning."""

    kind: Literal["gzsl"] = Field("gzsl", description="The task.")
    results: list[GzslResult] = Field(description="One for each benchmark, method and form.")
    comparisons: Comparisons = Field(description="Methods compared, seed by seed.")
    benchmarks: dict[str, BenchmarkSummary] = Field(
        description="<split>/<feature set> -> what its folder tree rests on."
    )


class ReleasedTest(Stored):
    """What a test of released checkpoints was made with."""

    stage_a: str = Field(description="File of the first run.")
    stage_a_sha256: str = Field(description="Its sha256.")
    stage_b: str = Field(description="File of the second run.")
    stage_b_sha256: str = Field(description="Its sha256.")
    epoch: int = Field(description="Epoch of both, from 0.")
    split: str = Field(description="Name of the split.")
    features: str = Field(description="Name of the feature set.")
    text: str = Field(description="How class vectors are attached.")
    settings: dict[str, Any] = Field(description="Sizes and switches of the method.")
    betas: dict[str, float] = Field(description="Mode -> the best constant of stage A on the validation clips.")
    validation: dict[str, CalibratedAccuracies] = Field(description="Mode -> stage A's figures on these clips.")
    notices: list[str] = Field(description="Sentences to read with the figures.")


class ReleasedReport(SeedResult, Versioned):
    """The file of `avpipe evaluate-released`: a seed's test, and what it was made with."""

    kind: Literal["gzsl"] = Field("gzsl", description="The task.")
    released: ReleasedTest = Field(description="What the test was made with.")
