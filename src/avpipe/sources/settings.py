"""Where the clips of a dataset come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from avpipe.settings import InputPath, LocalPath, Settings


class ClassFolders(Settings):
    """A folder with one folder per class, as UCF-101 unpacks."""

    kind: Literal["class_folders"] = Field("class_folders", description="One folder per class, videos inside.")
    path: LocalPath | None = Field(None, description="The folder. Unset: must be set before the dataset can be run.")
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")


class ClipTable(Settings):
    """A CSV table of clips; the way to use parts of long videos, and videos lying anywhere."""

    kind: Literal["table"] = Field("table", description="A CSV table of clips.")
    path: LocalPath | None = Field(
        None,
        description="CSV with the column path and optionally clip_id (unset: the file's name and the segment), "
        "start_seconds, end_seconds, class (for zero-shot learning), subset and caption (for retrieval; further "
        "captions in columns caption2, caption3, …). Relative paths start at the table's folder.",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")


class PublishedFeatures(Settings):
    """Features that somebody published: no videos are read and no network runs."""

    kind: Literal["published"] = Field("published", description="Published features instead of videos.")
    path: InputPath | None = Field(
        None,
        description="A folder of avgzsl_benchmark_datasets, such as .../UCF: class-split/ with features/<feature set>/ "
        "(.h5 files) or _features_processed/<feature set>/ (caches).",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")


class Packs(Settings):
    """Clips for retrieval that come as packs or clip pickles: no videos are read and no network runs."""

    kind: Literal["packs"] = Field("packs", description="Every subset has a file of its own (retrieval.subsets).")


class HowTo100M(Settings):
    """Features of whole videos as AVLnet's pre-training reads them."""

    kind: Literal["howto100m"] = Field("howto100m", description="Features in HowTo100M's published layout.")
    path: InputPath | None = Field(
        None, description="Folder with <row>/<video>_2d.npz and _3d.npz, 1 and 1.5 rows a second (parsed_videos)."
    )
    audio_path: InputPath | None = Field(None, description="Folder with <row>/<video>_spec.npz. Unset: as path.")
    videos: InputPath | None = Field(
        None, description="The list of videos, one row each under the header `path` (HowTo100M_1166_videopaths.txt)."
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")


class Synthetic(Settings):
    """An embedded dataset, made by the pipeline itself."""

    kind: Literal["synthetic"] = Field("synthetic", description="An embedded dataset.")
    dataset: Literal["gzsl", "zero_shot_small", "retrieval_clips", "retrieval_films"] = Field(
        "gzsl",
        description="Which: videos in classes, half as many of them, clips of films with captions, or those films "
        "whole.",
    )


Source = Annotated[
    ClassFolders | ClipTable | PublishedFeatures | Packs | HowTo100M | Synthetic, Field(discriminator="kind")
]


def validate_source(values: dict[str, Any]) -> Source:
    """A source from the plain values that `model_dump` gave."""
    return TypeAdapter(Source).validate_python(values)
