"""The whole configuration as models: what to run, on which data, with which settings."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator, model_validator

from avpipe.config.features import (
    C3DSettings,
    ResNet152Settings,
    ResNeXt101Settings,
    SeLaViSettings,
    SpectrogramSettings,
    VGGishSettings,
)
from avpipe.config.gzsl import AVCASettings, TextAlignment, TrainingSettings
from avpipe.config.quirks import Fidelity, Settings

ExtractorName = Literal["resnet152", "resnext101", "c3d", "vggish", "selavi", "spectrogram"]
ShareDecode = Literal["auto", "always", "never"]
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What the name of a dataset, split or feature set may look like: names become folders."""

VIDEO_SUFFIXES = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")


def expand_home(path: str | None) -> str | None:
    """A path with `~` replaced by the home folder, as a shell does."""
    return None if path is None else os.path.expanduser(path)  # noqa: PTH111 - Path would change "" into "."


def check_input(path: str | None) -> str | None:
    """Like `expand_home`, for a path that becomes an input of a rule, where Snakemake gives braces a meaning."""
    if path is not None and ("{" in path or "}" in path):
        raise ValueError("Snakemake takes { and } for wildcards; rename the file or folder, or set a link to it")
    return expand_home(path)


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
        description="CSV with the columns clip_id, path and class, and optionally start_seconds and end_seconds. "
        "Relative paths start at the table's folder.",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")

    _expand_home = field_validator("path")(expand_home)


class Synthetic(Settings):
    """The embedded dataset, made by the pipeline itself."""

    kind: Literal["synthetic"] = Field("synthetic", description="The embedded dataset.")


Source = Annotated[ClassFolders | ClipTable | Synthetic, Field(discriminator="kind")]


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

    _check_input = field_validator("*")(check_input)

    @field_validator("resnet152", "resnext101", "c3d", "vggish", "selavi")
    @classmethod
    def _random_has_a_seed(cls, value: str | None) -> str | None:
        if value is None or not value.startswith("random:"):
            return value
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


class FeatureSet(Settings):
    """A pair of extractors that gives a benchmark its video and audio features."""

    video: Literal["c3d", "selavi", "resnet152", "resnext101"] = Field(
        "c3d", description="Extractor of the video features."
    )
    audio: Literal["vggish", "selavi", "spectrogram"] = Field("vggish", description="Extractor of the audio features.")


class Methods(Settings):
    """Hyper-parameters of each method; a method that is absent is not run."""

    avca: AVCASettings | None = Field(AVCASettings(), description="AVCA (CVPR 2022).")

    def enabled(self) -> list[str]:
        """Names of the methods to run."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


class GzslBenchmark(Settings):
    """One benchmark: a split with a feature set."""

    split: str = Field(pattern=f"^{NAME}$", description="Name of the split, a folder in class-split.")
    features: str = Field("cls_features", pattern=f"^{NAME}$", description="Name of the feature set.")


class Gzsl(Settings):
    """Generalised zero-shot learning on a dataset."""

    class_split: str | None = Field(None, description="The published class-split folder, or one laid out like it.")
    word_vectors: str | None = Field(None, description="The .npy with a vector for each class name.")
    word_names: str | None = Field(
        None, description="CSV from class names to names of vectors. Unset: the *_w2v_class_names.csv in class_split."
    )
    obtain: str = Field("", description="Where the split files can be had, shown when they are missing.")
    feature_sets: dict[str, FeatureSet] = Field(
        {"cls_features": FeatureSet(), "main_features": FeatureSet(video="selavi", audio="selavi")},
        description="Feature sets by name; AVCA calls C3D/VGGish cls_features and SeLaVi main_features.",
    )
    benchmarks: list[GzslBenchmark] = Field([], description="What to train and evaluate.")
    methods: Methods = Field(Methods(), description="The methods and their hyper-parameters.")
    training: TrainingSettings = Field(TrainingSettings(), description="The two-stage protocol.")
    text_alignment: Literal["correct", "published"] | None = Field(
        None,
        description="Which vector a class gets: its own (correct), or the one that the published loader gave it, "
        "wrong for 36 of UCF's 51 classes (docs/fidelity.md). Unset: 'published' if published, 'correct' if "
        "corrected.",
        json_schema_extra={"published": "published", "corrected": "correct"},
    )
    permuted_control: bool = Field(
        False, description="Also train with class vectors permuted among the classes, a control for chance."
    )
    seeds: list[int] = Field([42], min_length=1, description="Seeds; each is trained, and mean ± deviation reported.")

    _check_input = field_validator("class_split", "word_vectors", "word_names")(check_input)

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value) or min(value) < 0 or max(value) >= 2**63:
            raise ValueError(f"seeds must be different whole numbers from 0 to 2^63 - 1, found {value}")
        return value

    @model_validator(mode="after")
    def _feature_sets_exist(self) -> Gzsl:
        for benchmark in self.benchmarks:
            if benchmark.features not in self.feature_sets:
                raise ValueError(
                    f"benchmark on split {benchmark.split!r} wants the feature set {benchmark.features!r}, "
                    f"which feature_sets does not define; it has {sorted(self.feature_sets)}"
                )
        pairs = [(b.split, b.features) for b in self.benchmarks]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"a benchmark is listed twice: {pairs}")
        return self

    def texts(self) -> list[TextAlignment]:
        """The word-vector alignments to train with: the chosen one first, then the permuted control."""
        if self.text_alignment is None:
            raise ValueError("call resolved(fidelity) first")
        return [self.text_alignment, "permuted"] if self.permuted_control else [self.text_alignment]


class Dataset(Settings):
    """One dataset."""

    title: str = Field("", description="One line for reports.")
    synthetic: bool = Field(False, description="Whether the data are made up; said wherever a result is shown.")
    notes: list[str] = Field([], description="Sentences said wherever a result is shown, such as what was made up.")
    source: Source = Field(description="Where the videos come from.")
    n_shards: int = Field(ge=1, le=9999, description="Parts the clips are divided into, by hash; fixed for good.")
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
        """A dataset with every quirk decided and top-level weights filled in."""
        dataset = self.datasets[name].resolved(self.fidelity)
        weights = {key: getattr(dataset.weights, key) or getattr(self.weights, key) for key in Weights.model_fields}
        return dataset.model_copy(update={"weights": Weights(**weights)})


def validate_source(values: dict[str, Any]) -> Source:
    """A source from the plain values that `model_dump` gave."""
    return TypeAdapter(Source).validate_python(values)
