"""What the results of both tasks have in common; every rate is in %."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avpipe.io.names import without_folders

SCHEMA_VERSION: Literal[1] = 1
"""Of evaluation.json and eval.json; a file of another version is refused."""
Kind = Literal["gzsl", "retrieval"]


class Stored(BaseModel):
    """Base of all that is written: unknown fields are refused, values cannot be changed, NaN is no value."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """As plain values for a JSON file; absolute paths keep their last part only."""
        plain: dict[str, Any] = without_folders(self.model_dump(mode="json"))
        return plain


class Passed(Stored):
    """What another part of avpipe writes and results pass on: only what reports read is named, the rest is kept."""

    model_config = ConfigDict(extra="allow")


class Versioned(Stored):
    """Base of whole files."""

    schema_version: Literal[1] = Field(SCHEMA_VERSION, description="Version of these fields.")
    kind: Kind = Field(description="The task: gzsl or retrieval.")


class PublishedFigure(Stored):
    """One published number."""

    value: float = Field(description="The figure: a rate in %, or a rank.")
    source: str = Field(description="Where it was read.")
    confirmed: bool = Field(description="False where no source was found and it only fits those that have one.")

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.confirmed else f"{self.value:.2f} (unconfirmed)"


class FailedClip(Stored):
    """A clip without features."""

    clip_id: str = Field(description="The clip.")
    reason: str = Field(description="Why, from the closed list of reasons.")
    stage: str = Field(description="The stage in which it failed.")
    shard: str = Field(description="The shard that it is in.")
    detail: str = Field(description="One line with numbers.")


class PassedOver(Stored):
    """Files and folders of a source that are no clips."""

    count: int = Field(description="How many.")
    names: list[str] = Field(description="The first five, relative to the source.")


class DecodedClip(Stored):
    """A clip with features of which not all was decoded."""

    clip_id: str = Field(description="The clip.")
    pictures_share: float | None = Field(description="Share of its pictures that was decoded; null where not known.")
    sound_share: float | None = Field(description="Share of its length that has sound; null where not known.")


class DecodedSummary(Stored):
    """How much of the clips that have features was decoded."""

    threshold: float = Field(description="Share below which a clip is named.")
    below: int = Field(description="Clips below it.")
    lowest_pictures_share: float | None = Field(description="Lowest share of pictures; null where none is known.")
    lowest_sound_share: float | None = Field(description="Lowest share of sound; null where none is known.")
    clips: list[DecodedClip] = Field(description="The clips below it, the lowest first.")


class Account(Stored):
    """What became of every clip of a dataset."""

    requested: int = Field(description="Clips of the dataset.")
    ok: int = Field(description="Clips that have all features.")
    reasons: dict[str, int] = Field(description="Reason -> clips that failed for it.")
    shards: dict[str, Any] = Field(description="The same for each shard, and for each stage within it.")
    failed: list[FailedClip] = Field(description="Every clip that is not used.")
    passed_over: dict[str, PassedOver] = Field(
        {}, description="Why something in the source is no clip -> what is passed over for it."
    )
    decoded: DecodedSummary | None = Field(None, description="How much of the others was decoded.")
    silent_sound: list[str] = Field([], description="Clips whose sound is digital silence.")


class Weights(Stored):
    """The weights of an extractor."""

    label: str = Field(description="sha256 of the file, random:<seed>, or none.")
    sha256: str | None = Field(description="sha256 of the file; null where there is none.")
    pca_sha256: str | None = Field(None, description="sha256 of VGGish's PCA file; null where there is none.")
    remarks: dict[str, str] = Field({}, description="File -> how it differs from the published one.")

    @property
    def is_random(self) -> bool:
        """Whether they were drawn, not trained."""
        return self.label.startswith("random:")


class FeatureChoice(Passed):
    """The extractors of a feature set."""

    video: str | None = Field(None, description="Extractor of the video features.")
    audio: str | None = Field(None, description="Extractor of the audio features.")


class BenchmarkChoice(Passed):
    """A benchmark that was asked for."""

    split: str = Field(description="Name of the split.")
    features: str = Field(description="Name of the feature set.")


class GzslChoice(Passed):
    """What was asked for of zero-shot learning."""

    feature_sets: dict[str, FeatureChoice] = Field({}, description="Feature sets by name.")
    benchmarks: list[BenchmarkChoice] = Field([], description="What was trained and tested.")


class DatasetSettings(Passed):
    """All settings of a dataset, as docs/config.md lists them."""

    title: str = Field(description="One line about the dataset.")
    synthetic: bool = Field(description="Whether its videos were made up.")
    notes: list[str] = Field(description="Notices of the dataset's author.")
    gzsl: GzslChoice = Field(GzslChoice(), description="Settings of zero-shot learning.")


class Provenance(Stored):
    """What a result was made with."""

    stages: dict[str, str] = Field(description="Stage -> its version.")
    libraries: dict[str, str] = Field(description="Library -> its version.")
    weights: dict[str, Weights] | None = Field(description="Extractor -> its weights; null where none was used.")
    ffmpeg: str | None = Field(description="Version of ffmpeg; null where no video was read.")
    git_commit: str | None = Field(description="Of avpipe, +changes where files differ; null outside a checkout.")
    settings: DatasetSettings = Field(description="All settings of the dataset; those that reports read are named.")
    features_from: dict[str, str] | None = Field(
        None,
        description="probe, and extractor -> digest of what was taken over from another run (`features_from`): sha256 "
        "of the digests of all shards' files; null where it was made here.",
    )


class Record(Versioned):
    """What eval.json of either task begins with."""

    dataset: str = Field(description="Name of the dataset.")
    title: str = Field(description="One line about it.")
    notices: list[str] = Field(description="Read these first; those that begin in capitals are warnings.")
    fidelity: dict[str, Any] = Field(
        description="The config's word under `word`, and every switch of the extractors that ran with its value."
    )
    clips: Account | None = Field(description="The account of clips; null where features were given.")
    provenance: Provenance = Field(description="What the result was made with.")
