"""What eval.json of both tasks begins with: the dataset, its account of clips, and what the result was made with."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avpipe import versions
from avpipe.registry import EXTRACTORS
from avpipe.schema.reading import read_summary
from avpipe.schema.stored import Account, DatasetSettings, Kind, Provenance, Record, Weights

_LIBRARIES = ("avpipe", "torch", "numpy", "av", "h5py", "librosa", "pandas", "pyarrow", "snakemake", "imageio-ffmpeg")


def begin_record(
    kind: Kind,
    *,
    dataset: str,
    settings: Mapping[str, Any],
    fidelity: str,
    accounting: str | None,
    weights: Sequence[str],
    features_from: Mapping[str, str] | None = None,
) -> Record:
    """A record without notices and results.

    Args:
        kind: the task.
        dataset: its name.
        settings: the dataset's settings, all quirks decided.
        fidelity: the config's word.
        accounting: the dataset's account of clips; None where its features were given, not extracted.
        weights: checked weights, named <extractor>.json; empty where nothing was extracted.
        features_from: digests of what another run has made; None where all was made here.
    """
    checked = {Path(path).stem: read_summary(path, Weights) for path in weights}
    chosen = DatasetSettings.model_validate(settings)
    return Record(
        kind=kind,
        dataset=dataset,
        title=chosen.title,
        notices=[],
        fidelity={"word": fidelity, **_extractor_quirks(settings, list(checked))},
        clips=read_summary(accounting, Account) if accounting else None,
        provenance=Provenance(
            stages=_stage_versions(),
            libraries={name: version(name) for name in _LIBRARIES},
            weights=checked if accounting else None,
            ffmpeg=_ffmpeg_version() if accounting else None,
            git_commit=_git_commit(),
            settings=chosen,
            features_from=dict(features_from) if features_from else None,
        ),
    )


def _stage_versions() -> dict[str, str]:
    stages = {name: value for name, value in vars(versions).items() if name.isupper()}
    return stages | {name.upper(): entry.stage for name, entry in EXTRACTORS.items()}


def _extractor_quirks(settings: Mapping[str, Any], extractors: Sequence[str]) -> dict[str, Any]:
    """Every switch of the extractors that ran, with its value; those of methods and runs are in each result."""
    from avpipe.config.models import Dataset

    features = Dataset.model_validate(dict(settings)).features
    return {
        f"features.{extractor}.{name}": value
        for extractor in extractors
        for name, value in getattr(features, extractor).quirks().items()
    }


@functools.cache
def _git_commit() -> str | None:
    """The commit of the checkout avpipe runs from, with "+changes" where files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _ffmpeg_version() -> str:
    from avpipe.media.ffmpeg import ffmpeg_version

    return ffmpeg_version()
