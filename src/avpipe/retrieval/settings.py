"""Retrieval on a dataset: subsets of clips, runs of the retrieval models, pre-training windows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from avpipe.registry import MODELS
from avpipe.settings import NAME, InputPath, Precision, Seeds, Settings, check_names, quirk

PUBLISHED, RANDOM, FROM_RUN = "published", "random", "run:"

if TYPE_CHECKING:
    ModelName = str
else:
    ModelName = Literal[tuple(MODELS)]


class Subset(Settings):
    """Clips that are trained on or that form a gallery."""

    path: InputPath | None = Field(
        None,
        description="A clip pickle of the published code, or a pack (.h5) of avpipe. Unset: the source's clips whose "
        "column `subset` has this subset's name; all clips of a table without that column.",
    )
    obtain: str = Field("", description="Where the file can be had, shown when it is missing.")
    expected: int | None = Field(
        None,
        ge=1,
        description="Clips that the benchmark has. Those without sound or features count as missed queries, so this "
        "divides R@k; MSR-VTT's file has 968 of 1000. Unset: as many as the file or the table lists.",
    )
    diagnostic: bool = Field(False, description="Shown apart: not a benchmark to compare systems with.")


class Windows(Settings):
    """Pre-training on segments of long videos, drawn anew at every visit."""

    drawn: Literal["random", "captions"] = Field(
        "random", description="Windows of equal length anywhere, or segments around captions (speech recognition)."
    )
    per_video: int = Field(32, ge=1, description="Windows drawn from each video at a visit (published n_pair).")
    audio_frames: int = Field(1000, ge=16, description="Spectrogram frames of a window; 100 are a second.")
    min_seconds: float = Field(
        5.0, gt=0, description="Shorter captions are extended by their neighbours until they last as long."
    )
    without_replacement: bool = Field(
        False, description="Draw no window of a video twice in one visit, as far as there are enough."
    )
    caption_start: Literal["clamped", "published"] | None = quirk(
        published="published",
        corrected="clamped",
        description="Captions that start before 0.0125 s: start at the first frame, or give an empty spectrogram.",
    )
    lacking_video: Literal["skip", "zeros"] | None = quirk(
        published="zeros",
        corrected="skip",
        description="Windows without visual features: drawn again elsewhere, or trained on with zeros.",
    )


class Run(Settings):
    """One model on one dataset: zero-shot (no epochs), fine-tuned, or from scratch."""

    model: ModelName = Field("avlnet", description="The model.")
    weights: InputPath = Field(
        PUBLISHED,
        description="What to start from: published (config/files.yaml), random (drawn from each seed), "
        "random:<seed>, run:<dataset>/<run> (what that run leaves; it is trained first), or the path of a checkpoint.",
    )
    train: str = Field("train", pattern=f"^{NAME}$", description="Subset that is trained on.")
    tests: list[str] | None = Field(
        None,
        description="Subsets to test on, each a gallery: names, or <dataset>/<subset>. Unset: retrieval.tests.",
    )
    embedding_dim: int = Field(4096, ge=2, description="Dimension of the embeddings; published: 4096, Tri 6144.")
    audio_channels: int = Field(
        128, ge=1, description="Channels of the audio network's first layer; the last has eight times as many."
    )
    epochs: int = Field(0, ge=0, description="Epochs; 0: the weights are tested as they are (zero-shot).")
    batch_size: int = Field(256, ge=2, description="Clips in a batch (videos, where windows are drawn).")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's learning rate.")
    learning_rate_decay: float = Field(1.0, gt=0, le=1, description="Factor on the learning rate after each epoch.")
    margin: float = Field(0.001, ge=0, description="Margin of the masked margin softmax loss.")
    objective: Literal["retrieval", "pairwise"] = Field(
        "retrieval",
        description="Loss on what is retrieved, or the sum over all pairs of modalities (Text-Tri's pre-training).",
    )
    windows: Windows | None = Field(None, description="Train on windows of long videos instead of clips.")
    precision: Precision = Field(
        "float32", description="Arithmetic of the networks in training; losses are computed in float32."
    )
    gradient_checkpointing: bool = Field(
        False, description="Keep less of the audio network in memory and compute it a second time going back."
    )
    gpus: int = Field(1, ge=1, description="GPUs that share a batch; every clip is a negative of every other.")
    batch_norm: Literal["by_start", "frozen", "batch"] | None = quirk(
        published="frozen",
        corrected="by_start",
        description="BatchNorm while training: with the stored statistics (frozen), with those of the batch, or "
        "frozen where trained weights are fine-tuned and batch from scratch (docs/fidelity.md).",
    )
    train_pooling: Literal["clip", "padded"] | None = quirk(
        published="padded",
        corrected="clip",
        description="Mean over time where batch statistics are used: over the clip's own frames, or over its "
        "padding too.",
    )
    permuted_control: bool = Field(
        False, description="Also train with pictures permuted among the clips, a control that should stay at chance."
    )

    @field_validator("weights")
    @classmethod
    def _is_known_start(cls, value: str) -> str:
        if value.startswith(FROM_RUN) and not re.fullmatch(rf"run:{NAME}/{NAME}", value):
            raise ValueError(f"{value!r}: expected run:<dataset>/<run>, such as run:howto100m/avlnet")
        if value.startswith("random:") and not re.fullmatch(r"random:[0-9]+", value):
            raise ValueError(f"{value!r} is not random:<seed> with a whole number, such as random:0")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Run:
        if self.windows is not None and self.uses_text and self.windows.drawn != "captions":
            raise ValueError(f"{self.model} reads text, which random windows lack; set drawn: captions")
        if MODELS[self.model].halves_embedding and self.embedding_dim % 2:
            raise ValueError(f"embedding_dim {self.embedding_dim}: half of it is the text's, so it must be even")
        return self

    @property
    def is_scratch(self) -> bool:
        """Whether the model starts untrained."""
        return self.weights == RANDOM or self.weights.startswith("random:")

    @property
    def uses_text(self) -> bool:
        """Whether the model reads captions."""
        return MODELS[self.model].uses_text

    @property
    def trains_frozen(self) -> bool:
        """Whether BatchNorm keeps the stored statistics in training, the model being in eval mode."""
        return self.batch_norm == "frozen" or (self.batch_norm == "by_start" and not self.is_scratch)


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


class Retrieval(Settings):
    """Retrieval on a dataset."""

    subsets: dict[str, Subset] = Field({}, description="Subsets by name.")
    tests: list[str] = Field(["test"], description="Subsets that every run is tested on.")
    audio_frames: int = Field(
        5120,
        ge=16,
        description="Spectrogram frames that the models read of a clip; the rest is cut. YouCook2 5120, MSR-VTT 3072.",
    )
    min_audio_frames: int = Field(
        16, ge=1, description="Clips of one's own with fewer spectrogram frames are set aside (reason too_short)."
    )
    long_clips: Literal["cut", "average"] = Field(
        "cut",
        description="Clips longer than audio_frames: cut, as published; or, in tests, the mean over windows of that "
        "length.",
    )
    test_captions: Literal["first", "all"] = Field(
        "first",
        description="Captions that tests of models with text ask with: of each clip the one that the set fixes for "
        "tests, or else its first; or all, each a query of its own (docs/retrieval.md).",
    )
    captions: InputPath | None = Field(
        None,
        description="Captions with times, for windows drawn around them: HowTo100M's caption.json or caption.pickle.",
    )
    word_vectors: InputPath | None = Field(
        None,
        description="word2vec, GloVe or fastText file for the text models; published: "
        "GoogleNews-vectors-negative300.bin.",
    )
    max_words: int = Field(20, ge=1, description="Known words of a caption that are read.")
    runs: dict[str, Run] = Field({}, description="What to train and test, by name; one that is set to null is not run.")
    seeds: Seeds = Field([1], min_length=1, description="Seeds; each is trained, and mean ± deviation reported.")

    @field_validator("runs", mode="before")
    @classmethod
    def _leave_out_null(cls, value: object) -> object:
        return {name: run for name, run in value.items() if run is not None} if isinstance(value, dict) else value

    _names_are_folders = field_validator("subsets", "runs")(check_names)

    @model_validator(mode="after")
    def _subsets_exist(self) -> Retrieval:
        for name, run in self.runs.items():
            wanted = [*([run.train] if run.epochs and run.windows is None else []), *(run.tests or self.tests)]
            unknown = [each for each in wanted if "/" not in each and each not in self.subsets]
            if unknown:
                raise ValueError(f"run {name!r} wants the subset(s) {unknown}; subsets has {sorted(self.subsets)}")
        return self
