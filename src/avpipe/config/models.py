"""The whole configuration as models: what to run, on which data, with which settings."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from avpipe.config.features import (
    C3DSettings,
    ResNet152Settings,
    ResNeXt101Settings,
    SeLaViSettings,
    SpectrogramSettings,
    VGGishSettings,
)
from avpipe.config.paths import NAME, check_input, expand_home
from avpipe.config.quirks import Fidelity, Settings
from avpipe.config.retrieval import Retrieval
from avpipe.config.zero_shot import Gzsl

ExtractorName = Literal["resnet152", "resnext101", "c3d", "vggish", "selavi", "spectrogram"]
ShareDecode = Literal["auto", "always", "never"]
VIDEO_SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")


class ClassFolders(Settings):
    """A folder with one folder per class, as UCF-101 unpacks."""

    kind: Literal["class_folders"] = Field("class_folders", description="One folder per class, videos inside.")
    path: str | None = Field(None, description="The folder. Unset: must be set before the dataset can be run.")
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")

    _expand_home = field_validator("path")(expand_home)


class ClipTable(Settings):
    """A CSV table of clips; the way to use parts of long videos, and videos lying anywhere."""

    kind: Literal["table"] = Field("table", description="A CSV table of clips.")
    path: str | None = Field(
        None,
        description="CSV with the column path and optionally clip_id (unset: the file's name and the stretch), "
        "start_seconds, end_seconds, class (for zero-shot learning), subset and caption (for retrieval; further "
        "captions in columns caption2, caption3, …). Relative paths start at the table's folder.",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")

    _expand_home = field_validator("path")(expand_home)


class PublishedFeatures(Settings):
    """Features that somebody published: no videos are read and no network runs."""

    kind: Literal["published"] = Field("published", description="Published features instead of videos.")
    path: str | None = Field(
        None,
        description="A folder of avgzsl_benchmark_datasets, such as .../UCF: class-split/ with features/<feature set>/ "
        "(.h5 files) or _features_processed/<feature set>/ (caches).",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")

    _check_input = field_validator("path")(check_input)


class Packs(Settings):
    """Clips for retrieval that come as packs or clip pickles: no videos are read and no network runs."""

    kind: Literal["packs"] = Field("packs", description="Every subset has a file of its own (retrieval.subsets).")


class HowTo100M(Settings):
    """Features of whole videos as AVLnet's pre-training reads them."""

    kind: Literal["howto100m"] = Field("howto100m", description="Features in HowTo100M's published layout.")
    path: str | None = Field(
        None, description="Folder with <row>/<video>_2d.npz and _3d.npz, 1 and 1.5 rows a second (parsed_videos)."
    )
    audio_path: str | None = Field(None, description="Folder with <row>/<video>_spec.npz. Unset: as path.")
    videos: str | None = Field(
        None, description="The list of videos, one row each under the header `path` (HowTo100M_1166_videopaths.txt)."
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")

    _check_input = field_validator("path", "audio_path", "videos")(check_input)


class Synthetic(Settings):
    """An embedded dataset, made by the pipeline itself."""

    kind: Literal["synthetic"] = Field("synthetic", description="An embedded dataset.")
    dataset: Literal["gzsl", "retrieval_clips", "retrieval_films"] = Field(
        "gzsl", description="Which: videos in classes, clips of films with captions, or those films whole."
    )


Source = Annotated[
    ClassFolders | ClipTable | PublishedFeatures | Packs | HowTo100M | Synthetic, Field(discriminator="kind")
]


class FrameRate(Settings):
    """How videos are brought to the frame rate of an extractor."""

    mode: Literal["stream", "file"] = Field(
        "stream",
        description="stream: frames are chosen while decoding, nothing is encoded again. file: near-lossless clips "
        "are written first, as the published pipeline did, and deleted after use unless Snakemake runs with --notemp. "
        "Both choose the same frames.",
    )
    crf: int = Field(6, ge=0, le=51, description="Quality of the written clips (x264 CRF; 0 is lossless).")


class Weights(Settings):
    """Weights of the networks: the path of a published file, or random:<seed>."""

    resnet152: str | None = Field(None, description="resnet152-394f9c45.pth (ImageNet, V1), or random:<seed>.")
    resnext101: str | None = Field(None, description="resnext101.pth of 3D ResNeXt-101 (Kinetics), or random:<seed>.")
    c3d: str | None = Field(None, description="c3d.pickle of C3D (Sports-1M), or random:<seed>.")
    vggish: str | None = Field(None, description="pytorch_vggish.pth of VGGish, or random:<seed>.")
    vggish_pca: str | None = Field(None, description="vggish_pca_params.npz, needed where vggish.postprocess is on.")
    selavi: str | None = Field(None, description="selavi_vgg_sound.pth of SeLaVi (VGGSound), or random:<seed>.")
    avlnet: str | None = Field(None, description="AVLnet_release.pth (HowTo100M), or random:<seed>.")
    avlnet_text_tri: str | None = Field(None, description="AVLnet_Text_Tri_release.pth, or random:<seed>.")
    avlnet_text_fused: str | None = Field(None, description="AVLnet_Text_Fused_release.pth, or random:<seed>.")

    _check_input = field_validator("*")(check_input)

    @field_validator("*")
    @classmethod
    def _random_has_a_seed(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or not value.startswith("random:"):
            return value
        if info.field_name == "vggish_pca":
            raise ValueError("the PCA has no random stand-in; set features.vggish.postprocess: false instead")
        if not re.fullmatch(r"random:[0-9]+", value):
            raise ValueError(f"{value!r} is not random:<seed> with a whole number, such as random:0")
        return f"random:{int(value.removeprefix('random:'))}"


class Extractors(Settings):
    """Settings of each extractor."""

    resnet152: ResNet152Settings = Field(ResNet152Settings(), description="ResNet-152.")
    resnext101: ResNeXt101Settings = Field(ResNeXt101Settings(), description="3D ResNeXt-101.")
    c3d: C3DSettings = Field(C3DSettings(), description="C3D.")
    vggish: VGGishSettings = Field(VGGishSettings(), description="VGGish.")
    selavi: SeLaViSettings = Field(SeLaViSettings(), description="SeLaVi.")
    spectrogram: SpectrogramSettings = Field(SpectrogramSettings(), description="AVLnet's spectrogram.")


class Dataset(Settings):
    """One dataset."""

    title: str = Field("", description="One line for reports.")
    synthetic: bool = Field(False, description="Whether the data are made up; said wherever a result is shown.")
    notes: list[str] = Field([], description="Sentences said wherever a result is shown, such as what was made up.")
    source: Source = Field(description="Where the videos come from.")
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
            raise ValueError("both gzsl.benchmarks and retrieval.runs are set; make two datasets of one source of it")
        return self


class Config(Settings):
    """The configuration."""

    fidelity: Fidelity = Field(
        "corrected",
        description="One word for every quirk of the published code: corrected does what is right, published what "
        "was published; each quirk can be set on its own.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run; auto: a GPU if any.")
    share_decode: ShareDecode = Field(
        "auto",
        description="Whether an extraction job also computes, from the same decode, what other extractors lack of "
        "its clips, for their jobs to find; auto: on a GPU, where decoding is what takes the time.",
    )
    weights: Weights = Field(Weights(), description="Weights of the networks.")
    clip_timeout_seconds: float = Field(
        1800.0, gt=0, description="Longest time that decoding one clip may take (reason timeout)."
    )
    datasets: dict[str, Dataset] = Field({}, description="Datasets by name, over config/datasets/<name>.yaml.")

    @field_validator("datasets")
    @classmethod
    def _names_are_folders(cls, value: dict[str, Dataset]) -> dict[str, Dataset]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"dataset name {name!r} must be letters, digits, '_', '-' and '.'")
        return value

    def dataset(self, name: str) -> Dataset:
        """A dataset with every quirk decided, but for those of the zero-shot methods, which each form decides.

        Top-level weights are filled in, and the forms in which methods are run.
        """
        configured = self.datasets[name]
        dataset = configured.resolved(self.fidelity)
        weights = {key: getattr(dataset.weights, key) or getattr(self.weights, key) for key in Weights.model_fields}
        gzsl = configured.gzsl.model_copy(update={"forms": configured.gzsl.forms or [self.fidelity]})
        return dataset.model_copy(update={"weights": Weights(**weights), "gzsl": gzsl})


def validate_source(values: dict[str, Any]) -> Source:
    """A source from the plain values that `model_dump` gave."""
    return TypeAdapter(Source).validate_python(values)
