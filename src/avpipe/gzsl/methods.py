"""Registry of the zero-shot methods. Nothing here imports torch: the configuration reads it at every start."""

from __future__ import annotations

from dataclasses import dataclass

from avpipe.config.gzsl import (
    APNSettings,
    AVCASettings,
    AVGZSLNetSettings,
    CJMESettings,
    CompatibilitySettings,
    FVAEGANSettings,
    MethodSettings,
)


@dataclass(frozen=True)
class MethodEntry:
    """A method.

    Attributes:
        implementation: "module:class" of a `avpipe.gzsl.models.base.Method` made with (audio_dim, video_dim, settings).
        settings: its hyper-parameters; `MethodSettings` where it has none of its own.
        title: for tables and documentation.
        is_default: whether a dataset runs it without being asked.
        word_dim: length of the class vectors it needs.
    """

    implementation: str
    settings: type[MethodSettings]
    title: str
    is_default: bool = True
    word_dim: int = 300


METHODS = {
    "avca": MethodEntry("avpipe.gzsl.models.avca:AVCA", AVCASettings, "AVCA (CVPR 2022)"),
    "ale": MethodEntry("avpipe.gzsl.models.ale:ALE", CompatibilitySettings, "ALE (PAMI 2016)"),
    "devise": MethodEntry("avpipe.gzsl.models.devise:DEVISE", CompatibilitySettings, "DEVISE (NIPS 2013)"),
    "sje": MethodEntry("avpipe.gzsl.models.sje:SJE", CompatibilitySettings, "SJE (CVPR 2015)"),
    "apn": MethodEntry("avpipe.gzsl.models.apn:APN", APNSettings, "APN (NeurIPS 2020)"),
    "cjme": MethodEntry("avpipe.gzsl.models.cjme:CJME", CJMESettings, "CJME (WACV 2020)"),
    "avgzslnet": MethodEntry("avpipe.gzsl.models.avgzslnet:AVGZSLNet", AVGZSLNetSettings, "AVGZSLNet (WACV 2021)"),
    "fvaegan": MethodEntry("avpipe.gzsl.models.fvaegan:FVAEGAN", FVAEGANSettings, "f-VAEGAN-D2 (CVPR 2019)"),
}
