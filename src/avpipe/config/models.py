"""The whole configuration as models: what to run, on which data, with which settings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, create_model, field_validator, model_validator

from avpipe.gzsl.settings import Gzsl
from avpipe.media.settings import FrameRate
from avpipe.registry import EXTRACTORS, MODELS
from avpipe.retrieval.settings import Retrieval
from avpipe.settings import Fidelity, InputPath, LocalPath, Settings, check_names
from avpipe.sources.settings import Downloads, HowTo100M, Packs, PublishedFeatures, Source


class WeightFiles(Settings):
    """Base of `Weights`, which has a field for every weight file."""

    @field_validator("*")
    @classmethod
    def _random_has_a_seed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or not value.startswith("random:"):
            return value
        if info.field_name is not None and info.field_name.endswith("_pca"):
            extractor = info.field_name.removesuffix("_pca")
            raise ValueError(
                f"the PCA has no random stand-in; set datasets.<name>.features.{extractor}.postprocess: false"
            )
        if not re.fullmatch(r"random:[0-9]+", value):
            raise ValueError(f"{value!r} is not random:<seed> with a whole number, such as random:0")
        return f"random:{int(value.removeprefix('random:'))}"


def _weight_files() -> dict[str, str]:
    """Every key of `Weights` and its meaning, as the registry has them."""
    files = {}
    for name, entry in EXTRACTORS.items():
        if entry.weights is not None:
            files[name] = f"{entry.weights}, or random:<seed>."
        if entry.pca is not None:
            files[f"{name}_pca"] = entry.pca
    return files | {name: f"{entry.weights}, or random:<seed>." for name, entry in MODELS.items()}


if TYPE_CHECKING:
    Weights = WeightFiles
    Extractors = Settings
    ExtractorName = str
else:
    ExtractorName = Literal[tuple(EXTRACTORS)]
    Weights = create_model(
        "Weights",
        __base__=WeightFiles,
        __doc__="Weights of the networks: the path of a published file, or random:<seed>.",
        **{key: (InputPath | None, Field(None, description=meaning)) for key, meaning in _weight_files().items()},
    )
    _SETTINGS = {name: entry.settings for name, entry in EXTRACTORS.items()}
    Extractors = create_model(
        "Extractors",
        __base__=Settings,
        __doc__="Settings of each extractor.",
        **{
            name: (model, Field(model(), description=f"{EXTRACTORS[name].title}.")) for name, model in _SETTINGS.items()
        },
    )


class Dataset(Settings):
    """One dataset."""

    title: str = Field("", description="One line for reports.")
    synthetic: bool = Field(False, description="Whether the data are made up; said wherever a result is shown.")
    notes: list[str] = Field([], description="Sentences said wherever a result is shown, such as what was made up.")
    source: Source = Field(description="Where the videos come from.")
    features_from: InputPath | None = Field(
        None,
        description="The results of this dataset in another run, such as `/shared/results/ucf_gzsl`: its clips, "
        "weights' records and features are read there and not made here; nothing is written there (docs/clusters.md).",
    )
    files: list[str] = Field(
        [], description="Sets of published files that it needs, by their names in config/files.yaml."
    )
    n_shards: int = Field(32, ge=1, le=9999, description="Parts the clips are divided into, by hash; fixed for good.")
    require_audio: bool = Field(True, description="Set clips without a sound track aside (reason no_audio).")
    min_seconds: float = Field(0.0, ge=0, description="Shorter clips are set aside (reason too_short).")
    max_seconds: float | None = Field(None, gt=0, description="Longer clips are set aside (reason too_long).")
    max_failure_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest tolerated share of clips that are missing or damaged; what a clip simply is (silent, "
        "short, long, a duplicate) does not count.",
    )
    frame_rate: FrameRate = Field(FrameRate(), description="Conversion of the frame rate.")
    features: Extractors = Field(Extractors(), description="Settings of the extractors.")
    extract_also: list[ExtractorName] = Field(
        [], description="Extractors to run besides those that a benchmark's feature set uses."
    )
    weights: Weights = Field(Weights(), description="Weights for this dataset; unset ones as at the top level.")
    gzsl: Gzsl = Field(Gzsl(), description="Generalised zero-shot learning.")
    retrieval: Retrieval = Field(Retrieval(), description="Audio-video retrieval.")

    @model_validator(mode="after")
    def _has_one_task(self) -> Dataset:
        if self.gzsl.benchmarks and self.retrieval.runs:
            raise ValueError(
                "both benchmarks (gzsl) and runs (retrieval) are set; make two datasets of one source of it"
            )
        if self.features_from is not None and isinstance(self.source, PublishedFeatures | Packs | HowTo100M):
            raise ValueError("features_from is set, but the source has features itself; drop one of the two")
        return self


class Pathvars(Settings):
    """Folders of the workflow's files, which Snakemake itself reads; unset ones are as the Snakefile says."""

    results: LocalPath | None = Field(None, description="What the workflow makes. Unset: results.")
    resources: LocalPath | None = Field(None, description="What is downloaded or made beforehand. Unset: resources.")
    logs: LocalPath | None = Field(None, description="Logs of jobs. Unset: `<results>/logs`.")
    benchmarks: LocalPath | None = Field(None, description="Time and memory of jobs. Unset: `<results>/benchmarks`.")


class Config(Settings):
    """The configuration."""

    fidelity: Fidelity = Field(
        "corrected",
        description="One word for every quirk of the published code: corrected does what is right, published what "
        "was published; each quirk can be set on its own.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run; auto: a GPU if any.")
    weights: Weights = Field(Weights(), description="Weights of the networks.")
    allow_download: bool = Field(
        False,
        description="Whether a run fetches what is missing: of the published files (config/files.yaml) those that "
        "planning reads before it plans, the others in jobs; and videos that have an address, shard by shard.",
    )
    downloads: Downloads = Field(Downloads(), description="How videos are fetched where allow_download is true.")
    clip_timeout_seconds: float = Field(
        1800.0, gt=0, description="Longest time that decoding one clip may take (reason timeout)."
    )
    pathvars: Pathvars = Field(Pathvars(), description="Folders of the workflow's files.")
    datasets: dict[str, Dataset] = Field({}, description="Datasets by name, over config/datasets/<name>.yaml.")

    _names_are_folders = field_validator("datasets")(check_names)

    def dataset(self, name: str) -> Dataset:
        """A dataset with every quirk decided, but for those of the zero-shot methods, which each form decides.

        Top-level weights are filled in, and the forms in which methods are run.
        """
        configured = self.datasets[name]
        dataset = configured.resolved(self.fidelity)
        weights = {key: getattr(dataset.weights, key) or getattr(self.weights, key) for key in Weights.model_fields}
        gzsl = configured.gzsl.model_copy(update={"forms": configured.gzsl.forms or [self.fidelity]})
        return dataset.model_copy(update={"weights": Weights(**weights), "gzsl": gzsl})
