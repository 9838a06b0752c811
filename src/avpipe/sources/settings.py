"""Where the clips of a dataset come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator

from avpipe.settings import InputPath, LocalPath, Settings
from avpipe.sources.annotations.reading import FORMATS

if TYPE_CHECKING:
    AnnotationFormat = str
else:
    AnnotationFormat = Literal[FORMATS]


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
        "captions in columns caption2, caption3, …). Relative paths start at the table's folder. In place of path a "
        "column url: where the video is fetched from, and optionally video_id, which names it.",
    )
    videos: LocalPath | None = Field(
        None, description="Where videos of the column url are put. Unset: `<resources>/videos/<dataset>`."
    )
    fetch: Literal["videos", "clips"] = Field(
        "videos",
        description="What is downloaded of a video: all of it, or only the segments of its clips, which are encoded "
        "again and do not have the video's own pictures and samples.",
    )
    obtain: str = Field("", description="Where the data can be had, shown when it is missing.")


class Annotation(Settings):
    """Clips as a dataset's own annotation lists them; their videos lie in a folder or are fetched."""

    kind: Literal["annotation"] = Field("annotation", description="Clips of a published annotation.")
    format: AnnotationFormat = Field(description="Whose annotation it is (docs/sources.md).")
    paths: dict[str, InputPath] = Field(
        description="The annotation's files: `annotation`, and further ones by the names that the format takes."
    )
    subsets: list[str] = Field([], description="Only clips of these subsets of the annotation. Empty: all.")
    only_in: InputPath | None = Field(
        None, description="A class-split folder: only clips that its csv files name. Unset: all."
    )
    videos: LocalPath | None = Field(
        None,
        description="The folder of the videos, or of clips that are cut already: files named after a video's or a "
        "clip's id, there or one folder below. Unset: `<resources>/videos/<dataset>`.",
    )
    fetch: Literal["videos", "clips"] = Field(
        "videos",
        description="What is downloaded of a video: all of it, or only the segments of its clips, which are encoded "
        "again and do not have the video's own pictures and samples.",
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
    ClassFolders | ClipTable | Annotation | PublishedFeatures | Packs | HowTo100M | Synthetic,
    Field(discriminator="kind"),
]


class Downloads(Settings):
    """How videos are fetched; what is there already does not change with it."""

    pause_seconds: list[float] = Field(
        [10.0, 20.0],
        min_length=2,
        max_length=2,
        description="Shortest and longest pause between two videos of YouTube, in seconds.",
    )
    max_height: int = Field(480, ge=16, description="Height of the pictures that are asked for, in pixels.")
    timeout_seconds: float = Field(600.0, gt=0, description="Longest time for a try, besides the video's length.")
    tries: int = Field(3, ge=1, description="Tries for a video where another may help.")
    cookies: LocalPath | None = Field(
        None, description="A file of a browser's cookies for sites that want a login. A copy of it is used."
    )

    @field_validator("pause_seconds")
    @classmethod
    def _is_a_range(cls, value: list[float]) -> list[float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("expected the shortest and the longest pause in seconds, such as [10, 20]")
        return value


def validate_source(values: dict[str, Any]) -> Source:
    """A source from the plain values that `model_dump` gave."""
    return TypeAdapter(Source).validate_python(values)
