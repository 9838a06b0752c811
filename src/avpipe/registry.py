"""Every extractor, zero-shot method and retrieval model: one entry each, from which all that lists them derives.

Implementations and settings are named as "module:class" and imported when asked for: planning a workflow must not
import torch. A module of settings must not import it either.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from avpipe.errors import AvpipeError


@dataclass(frozen=True)
class Resources:
    """What a job asks of the machine; a profile may set others.

    Attributes:
        threads: CPU threads.
        mem_mb: memory in MB.
        runtime: longest time of a first attempt, in minutes.
    """

    threads: int = 4
    mem_mb: int = 6000
    runtime: int = 720


@dataclass(frozen=True)
class ExtractorEntry:
    """A feature extractor.

    Attributes:
        implementation: of `avpipe.features.types.Extractor`, made with (settings).
        settings_model: of `avpipe.features.settings.ExtractorSettings`.
        title: its name in reports and messages.
        rows: what one row of its features is, a line of help.
        stage: its stage version (see `avpipe.versions`).
        streams: name of each stream and dimension of its features.
        weights: which file has the published weights; None: it has no network.
        pca: which file has the PCA that its constructor takes as well; None: it takes none.
        follows_conversion: whether it reads clips at the converted frame rate where clips are converted first, as the
            publication did; the others always read the source.
        resources: of the job that extracts a shard.
    """

    implementation: str
    settings_model: str
    title: str
    rows: str
    stage: str
    streams: Mapping[str, int]
    weights: str | None = None
    pca: str | None = None
    follows_conversion: bool = False
    resources: Resources = field(default=Resources())

    @property
    def settings(self) -> Any:
        """The model of its settings."""
        return load(self.settings_model)

    @property
    def has_weights(self) -> bool:
        """Whether it has a network."""
        return self.weights is not None

    @property
    def uses_pca(self) -> bool:
        """Whether its constructor takes a PCA file."""
        return self.pca is not None


@dataclass(frozen=True)
class MethodEntry:
    """A zero-shot method.

    Attributes:
        implementation: of `avpipe.gzsl.models.base.Method`, made with (audio_dim, video_dim, settings).
        title: for tables and documentation.
        settings_model: its hyper-parameters; `MethodSettings` where it has none of its own.
        is_default: whether a dataset runs it without being asked.
        word_dim: length of the class vectors that it needs.
    """

    implementation: str
    title: str
    settings_model: str = "avpipe.gzsl.models.settings:MethodSettings"
    is_default: bool = True
    word_dim: int = 300

    @property
    def settings(self) -> Any:
        """The model of its settings."""
        return load(self.settings_model)


@dataclass(frozen=True)
class ModelEntry:
    """A retrieval model.

    Attributes:
        implementation: of `avpipe.retrieval.models.base.RetrievalModel`, made with (embedding_dim, audio_channels,
            video_dim, word_dim).
        title: its name in messages.
        query: what is searched with, such as "audio+text".
        weights: which file has the published weights; a key of the configuration's `weights` in any case.
        published_dim: the published dimension of its embeddings.
        halves_embedding: whether audio and text have half of the dimension each, so that it must be even.
    """

    implementation: str
    title: str
    query: str
    weights: str = "A checkpoint of one's own"
    published_dim: int = 4096
    halves_embedding: bool = False

    @property
    def uses_text(self) -> bool:
        """Whether it reads captions."""
        return "text" in self.query.split("+")


EXTRACTORS = {
    "resnet152": ExtractorEntry(
        implementation="avpipe.features.resnet152:ResNet152Extractor",
        settings_model="avpipe.features.settings:ResNet152Settings",
        title="ResNet-152",
        rows="2048 per frame, 1 frame a second, unit length (ImageNet); pooled by maximum",
        stage="resnet152/2",
        streams={"video": 2048},
        weights="resnet152-394f9c45.pth (ImageNet, V1)",
    ),
    "resnext101": ExtractorEntry(
        implementation="avpipe.features.resnext101:ResNeXt101Extractor",
        settings_model="avpipe.features.settings:ResNeXt101Settings",
        title="3D ResNeXt-101",
        rows="2048 per 16 frames at 24 a second, unit length (Kinetics); pooled by maximum",
        stage="resnext101/2",
        streams={"video": 2048},
        weights="resnext101.pth of 3D ResNeXt-101 (Kinetics)",
    ),
    "c3d": ExtractorEntry(
        implementation="avpipe.features.c3d:C3DExtractor",
        settings_model="avpipe.features.settings:C3DSettings",
        title="C3D",
        rows="4096 per 16 frames at 25 a second (Sports-1M); pooled by mean",
        stage="c3d/3",
        streams={"video": 4096},
        weights="c3d.pickle of C3D (Sports-1M)",
        follows_conversion=True,
    ),
    "vggish": ExtractorEntry(
        implementation="avpipe.features.vggish:VGGishExtractor",
        settings_model="avpipe.features.settings:VGGishSettings",
        title="VGGish",
        rows="128 per 0.96 s of sound (AudioSet); pooled by mean",
        stage="vggish/3",
        streams={"audio": 128},
        weights="pytorch_vggish.pth of VGGish",
        pca="vggish_pca_params.npz, needed where postprocess is on.",
        follows_conversion=True,
        resources=Resources(threads=2, runtime=240),
    ),
    "selavi": ExtractorEntry(
        implementation="avpipe.features.selavi:SeLaViExtractor",
        settings_model="avpipe.features.settings:SeLaViSettings",
        title="SeLaVi",
        rows="512 of video and 512 of audio per window of 1 s (VGGSound); pooled by mean",
        stage="selavi/2",
        streams={"video": 512, "audio": 512},
        weights="selavi_vgg_sound.pth of SeLaVi (VGGSound)",
    ),
    "spectrogram": ExtractorEntry(
        implementation="avpipe.features.spectrogram:SpectrogramExtractor",
        settings_model="avpipe.features.settings:SpectrogramSettings",
        title="log-mel spectrogram",
        rows="40 mel bands per 0.01 s of sound, in dB, AVLnet's input; no weights; pooled by mean",
        stage="spectrogram/2",
        streams={"audio": 40},
        resources=Resources(threads=1, mem_mb=2000, runtime=240),
    ),
}

METHODS = {
    "avca": MethodEntry(
        "avpipe.gzsl.models.avca:AVCA", "AVCA (CVPR 2022)", settings_model="avpipe.gzsl.models.settings:AVCASettings"
    ),
    "ale": MethodEntry(
        "avpipe.gzsl.models.ale:ALE",
        "ALE (PAMI 2016)",
        settings_model="avpipe.gzsl.models.settings:CompatibilitySettings",
    ),
    "devise": MethodEntry(
        "avpipe.gzsl.models.devise:DEVISE",
        "DEVISE (NIPS 2013)",
        settings_model="avpipe.gzsl.models.settings:CompatibilitySettings",
    ),
    "sje": MethodEntry(
        "avpipe.gzsl.models.sje:SJE",
        "SJE (CVPR 2015)",
        settings_model="avpipe.gzsl.models.settings:CompatibilitySettings",
    ),
    "apn": MethodEntry(
        "avpipe.gzsl.models.apn:APN", "APN (NeurIPS 2020)", settings_model="avpipe.gzsl.models.settings:APNSettings"
    ),
    "cjme": MethodEntry(
        "avpipe.gzsl.models.cjme:CJME", "CJME (WACV 2020)", settings_model="avpipe.gzsl.models.settings:CJMESettings"
    ),
    "avgzslnet": MethodEntry(
        "avpipe.gzsl.models.avgzslnet:AVGZSLNet",
        "AVGZSLNet (WACV 2021)",
        settings_model="avpipe.gzsl.models.settings:AVGZSLNetSettings",
    ),
    "fvaegan": MethodEntry(
        "avpipe.gzsl.models.fvaegan:FVAEGAN",
        "f-VAEGAN-D2 (CVPR 2019)",
        settings_model="avpipe.gzsl.models.settings:FVAEGANSettings",
    ),
}

MODELS = {
    "avlnet": ModelEntry(
        "avpipe.retrieval.models.avlnet:AVLnet", "AVLnet", query="audio", weights="AVLnet_release.pth (HowTo100M)"
    ),
    "avlnet_text_tri": ModelEntry(
        "avpipe.retrieval.models.avlnet_text_tri:AVLnetTextTri",
        "AVLnet-Text-Tri",
        query="text",
        weights="AVLnet_Text_Tri_release.pth",
        published_dim=6144,
    ),
    "avlnet_text_fused": ModelEntry(
        "avpipe.retrieval.models.avlnet_text_fused:AVLnetTextFused",
        "AVLnet-Text-Fused",
        query="audio+text",
        weights="AVLnet_Text_Fused_release.pth",
        halves_embedding=True,
    ),
}

Entry = TypeVar("Entry", ExtractorEntry, MethodEntry, ModelEntry)


def extractor(name: str) -> ExtractorEntry:
    """The entry of an extractor.

    Raises:
        AvpipeError: unknown name.
    """
    return _known(EXTRACTORS, name, "extractor")


def method(name: str) -> MethodEntry:
    """The entry of a zero-shot method.

    Raises:
        AvpipeError: unknown name.
    """
    return _known(METHODS, name, "zero-shot method")


def model(name: str) -> ModelEntry:
    """The entry of a retrieval model.

    Raises:
        AvpipeError: unknown name.
    """
    return _known(MODELS, name, "retrieval model")


def with_stream(stream: str) -> list[str]:
    """Names of the extractors that have a stream."""
    return [name for name, entry in EXTRACTORS.items() if stream in entry.streams]


def load(location: str) -> Any:
    """The class that an entry names as "module:class"; of an implementation this imports torch."""
    module, _, attribute = location.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _known(entries: dict[str, Entry], name: str, kind: str) -> Entry:
    if name not in entries:
        raise AvpipeError(f"Unknown {kind} {name!r}. Expected one of: {', '.join(entries)}.")
    return entries[name]
