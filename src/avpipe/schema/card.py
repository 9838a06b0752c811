"""What is known of a dataset's clips and features, as its dataset card tells it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from avpipe.schema.stored import Stored


class Origin(Stored):
    """Published files that the dataset rests on."""

    title: str = Field(description="What they are.")
    licence: str = Field(description="As far as it is stated.")
    citation: str = Field(description="What to cite.")


class ClassCount(Stored):
    """The clips of a class."""

    requested: int = Field(description="As listed.")
    ok: int = Field(description="With all features.")


class FeatureSet(Stored):
    """What one extractor made."""

    extractor: str = Field(description="Its name.")
    title: str = Field(description="Its title.")
    streams: dict[str, int] = Field(description="Stream -> numbers in a row.")
    clips: int = Field(description="How many have features.")
    weights: str | None = Field(description="The weight file's name, or random:<seed>; None: it has no network.")
    weights_sha256: str | None = Field(description="Of the weight file.")
    provenance: dict[str, Any] = Field(description="Settings, media and stage that the values depend on.")
    written_by: dict[str, str] = Field(description="Versions of libraries.")


class DatasetCard(Stored):
    """The facts of a dataset card."""

    schema_version: Literal[1] = Field(1, description="Version of these fields.")
    dataset: str = Field(description="Its name in the configuration.")
    title: str = Field(description="Its title.")
    task: str = Field(description="gzsl, retrieval, or features where neither is configured.")
    notices: list[str] = Field(description="What must be read first.")
    notes: list[str] = Field(description="What the configuration says of the data.")
    source: dict[str, Any] = Field(description="Kind of the source, and of an annotation its format and subsets.")
    origins: list[Origin] = Field(description="Published files that it rests on.")
    requested: int = Field(description="Clips as listed.")
    ok: int = Field(description="Clips with all features.")
    reasons: dict[str, int] = Field(description="Why the others have none.")
    seconds: float = Field(description="Length of the clips that are ok, as far as it is known.")
    classes: dict[str, ClassCount] = Field(description="Clips by class; empty where there are none.")
    splits: dict[str, dict[str, ClassCount]] = Field(description="Split -> subset -> its clips.")
    features: list[FeatureSet] = Field(description="What was extracted.")
    videos: dict[str, Any] | None = Field(
        description="Videos that were to be had (availability.json); None: the source names no addresses."
    )
