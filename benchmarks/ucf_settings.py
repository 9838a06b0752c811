"""AVCA on UCF-GZSL as this project configures it: what the benchmarks of training use."""

from __future__ import annotations

from pathlib import Path

import yaml
from made_tree import KINDS

from avpipe.gzsl.settings import Choice, Gzsl

_CONFIG = Path(__file__).resolve().parents[1] / "config" / "datasets" / "ucf_gzsl.yaml"


def avca_on_ucf(features: str) -> Choice:
    """Hyper-parameters and protocol, corrected form, for "main" or "cls" features."""
    gzsl = Gzsl.model_validate(yaml.safe_load(_CONFIG.read_text("utf-8"))["gzsl"])
    return gzsl.choice("avca", KINDS[features].name, "corrected")
