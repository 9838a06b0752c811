"""What rules/retrieval.smk asks: the subsets, runs, tests and word vectors of a dataset for retrieval."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any, NamedTuple

from avpipe.config.models import Dataset
from avpipe.errors import AvpipeError
from avpipe.plan import features, inventory
from avpipe.plan.project import Project
from avpipe.retrieval.settings import FROM_RUN, PUBLISHED, Run, Subset
from avpipe.sources.listing import list_source, source_table
from avpipe.sources.local import Described, describe_table
from avpipe.sources.settings import HowTo100M, Source

CONTROL = "permuted"
VARIANTS = ("main", CONTROL)


class SubsetName(NamedTuple):
    """A subset of a dataset."""

    dataset: str
    subset: str


def is_used(settings: Dataset) -> bool:
    """Whether a dataset is used for retrieval."""
    return bool(settings.retrieval.runs or settings.retrieval.subsets)


def datasets(project: Project) -> list[str]:
    """Datasets that are used for retrieval."""
    return [name for name in project.config.datasets if is_used(project.dataset(name))]


def subset_settings(project: Project, dataset: str, subset: str) -> Subset:
    """A subset's settings.

    Raises:
        AvpipeError: there is none of that name.
    """
    subsets = project.dataset(dataset).retrieval.subsets
    if subset not in subsets:
        raise AvpipeError(f"{dataset} has no retrieval subset {subset!r}; it has {', '.join(subsets) or 'none'}.")
    return subsets[subset]


def run_settings(project: Project, dataset: str, run: str) -> Run:
    """A run's settings.

    Raises:
        AvpipeError: there is none of that name.
    """
    runs = project.dataset(dataset).retrieval.runs
    if run not in runs:
        raise AvpipeError(f"{dataset} has no retrieval run {run!r}; it has {', '.join(runs) or 'none'}.")
    return runs[run]


# Subsets of clips


def given_pack(project: Project, dataset: str, subset: str) -> str | None:
    """The clip pickle or pack that a subset is read from; None where it is made of the source's clips."""
    return subset_settings(project, dataset, subset).path


def is_made(project: Project, dataset: str, subset: str) -> bool:
    """Whether a subset is made of the source's clips."""
    return not given_pack(project, dataset, subset)


def pack_shards(project: Project, dataset: str, subset: str) -> list[str]:
    """The shards that a subset is made of; none for one that is read from a file."""
    return inventory.shards(project, dataset) if is_made(project, dataset, subset) else []


def expected_clips(project: Project, dataset: str, subset: str) -> int | None:
    """How many clips the benchmark has."""
    return subset_settings(project, dataset, subset).expected


@functools.cache
def subset_digest(project: Project, dataset: str, subset: str) -> str | None:
    """`digest_of` a subset's clips as the table lists them now; None where it is given or not made yet."""
    if given_pack(project, dataset, subset) is not None or project.is_synthetic(dataset):
        return None
    return digest_of(clips_of(project.dataset(dataset).source, subset, project.made_folder(dataset)))


def describe_clips(source: Source, made_folder: str) -> list[Described]:
    """Subset and captions of every clip of a source; a source that is no table has neither."""
    table = source_table(source, made_folder)
    if table is not None:
        return describe_table(table)
    return [Described(clip.clip_id, None, ()) for clip in list_source(source, made_folder)]


def clips_of(source: Source, subset: str, made_folder: str) -> list[Described]:
    """The clips of a subset that is made of the source's clips.

    Raises:
        AvpipeError: there are none.
    """
    described = describe_clips(source, made_folder)
    chosen = [clip for clip in described if clip.subset in (None, subset)]
    if not chosen:
        names = sorted({str(clip.subset) for clip in described})
        raise AvpipeError(
            f"No clip of the table is in the subset {subset!r}; its column `subset` has {', '.join(names)}. "
            f"Correct the table, or set retrieval.subsets.{subset}.path."
        )
    return chosen


def digest_of(clips: list[Described]) -> str:
    """A digest of a subset: changes when a clip comes, goes or gets another caption."""
    text = json.dumps([(clip.clip_id, clip.captions) for clip in clips], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# What runs are trained on


def training_subset(project: Project, dataset: str, run: str) -> SubsetName | None:
    """The subset that a run is trained on; None where it is trained on windows of whole videos."""
    chosen = run_settings(project, dataset, run)
    return SubsetName(dataset, chosen.train) if chosen.windows is None else None


def training_pack(project: Project, dataset: str, run: str) -> str | None:
    """The pack of that subset."""
    subset = training_subset(project, dataset, run)
    return subset and project.paths.pack(*subset)


def window_shards(project: Project, dataset: str, run: str) -> list[str]:
    """The shards of the source's videos, where a run is trained on windows of them."""
    on_videos = training_subset(project, dataset, run) is None and features.uses_videos(project, dataset)
    return inventory.shards(project, dataset) if on_videos else []


def video_list(project: Project, dataset: str) -> str | None:
    """The list of videos of HowTo100M's layout."""
    source = project.dataset(dataset).source
    return source.videos if isinstance(source, HowTo100M) else None


def whole_videos(project: Project, dataset: str) -> dict[str, str | None] | None:
    """The folders of HowTo100M's layout."""
    source = project.dataset(dataset).source
    if not isinstance(source, HowTo100M) or not source.videos:
        return None
    return {"path": source.path, "audio_path": source.audio_path}


def window_captions(project: Project, dataset: str, run: str) -> str | None:
    """Captions with times, where windows are drawn around them."""
    windows = run_settings(project, dataset, run).windows
    return project.dataset(dataset).retrieval.captions if windows and windows.drawn == "captions" else None


def training_words(project: Project, dataset: str, run: str) -> str | None:
    """Word vectors of the captions that a run is trained with; None for a model that reads none."""
    if not run_settings(project, dataset, run).uses_text:
        return None
    subset = training_subset(project, dataset, run)
    return project.paths.caption_words(dataset, *subset) if subset else project.paths.window_words(dataset)


def is_trained(project: Project, dataset: str, run: str) -> bool:
    """Whether a run trains anything; if not, its weights are tested as they are."""
    return run_settings(project, dataset, run).epochs > 0


def start(project: Project, dataset: str, run: str) -> str:
    """What a run starts from: random, random:<seed>, or the path of a checkpoint or of a run's training.json."""
    chosen = run_settings(project, dataset, run)
    if chosen.weights == PUBLISHED:
        return project.weights_file(dataset, chosen.model)
    if chosen.weights.startswith(FROM_RUN):
        other = named_run(chosen.weights)
        run_settings(project, *other)
        return project.paths.training(*other)
    return chosen.weights


def start_file(project: Project, dataset: str, run: str) -> str | None:
    """The file that a run starts from, where it is one."""
    spec = start(project, dataset, run)
    return None if spec.startswith("random") else spec


def named_run(weights: str) -> tuple[str, str]:
    """Dataset and run of run:<dataset>/<run>."""
    dataset, _, run = weights.removeprefix(FROM_RUN).partition("/")
    return dataset, run


def run_job(project: Project, dataset: str, run: str, variant: str, *, training: bool) -> dict[str, Any]:
    """A run's settings as plain values; for training without what that does not depend on."""
    retrieval, chosen = project.dataset(dataset).retrieval, run_settings(project, dataset, run)
    values: dict[str, Any] = {
        "name": run,
        "variant": variant,
        "run": chosen.model_dump(exclude={"tests", "permuted_control"}),
        "audio_frames": chosen.windows.audio_frames if chosen.windows and training else retrieval.audio_frames,
        "max_words": retrieval.max_words,
        "seeds": retrieval.seeds,
    }
    return values if training else values | {"long_clips": retrieval.long_clips}


def run_gpus(project: Project, dataset: str, run: str) -> int:
    """How many GPUs a run is trained on."""
    return run_settings(project, dataset, run).gpus * features.gpus(project)


# What runs are tested on


def tests(project: Project, dataset: str, run: str) -> dict[str, SubsetName]:
    """What a run is tested on, by the names that the configuration uses: <subset>, or <dataset>/<subset>."""
    chosen = run_settings(project, dataset, run).tests
    names = {}
    for test in project.dataset(dataset).retrieval.tests if chosen is None else chosen:
        other, _, subset = test.rpartition("/")
        names[test] = SubsetName(other or dataset, subset)
    return names


def test_packs(project: Project, dataset: str, run: str) -> list[str]:
    """The packs of those."""
    return [project.paths.pack(*subset) for subset in tests(project, dataset, run).values()]


def test_words(project: Project, dataset: str, run: str) -> list[str]:
    """Word vectors of their captions; none for a model that reads none."""
    subsets = tests(project, dataset, run).values() if run_settings(project, dataset, run).uses_text else []
    return [project.paths.caption_words(dataset, *subset) for subset in subsets]


def test_settings(project: Project, dataset: str, run: str) -> dict[str, dict[str, Any]]:
    """For each test the frames that are read of a clip, the benchmark's number of clips, and its standing."""
    return {
        test: {
            "audio_frames": project.dataset(name.dataset).retrieval.audio_frames,
            "expected": subset_settings(project, *name).expected,
            "diagnostic": subset_settings(project, *name).diagnostic,
        }
        for test, name in tests(project, dataset, run).items()
    }


def index_words(project: Project, dataset: str, run: str, subset: str) -> str | None:
    """Word vectors of an indexed subset's captions; None for a model that reads none."""
    uses_text = run_settings(project, dataset, run).uses_text
    return project.paths.caption_words(dataset, dataset, subset) if uses_text else None


def subsets_of(project: Project, dataset: str, run: str) -> list[SubsetName]:
    """Every subset that a run is trained or tested on."""
    trained = training_subset(project, dataset, run) if is_trained(project, dataset, run) else None
    return [*([trained] if trained else []), *tests(project, dataset, run).values()]


def runs(project: Project, dataset: str) -> list[str]:
    """<run>/<variant> of everything to run, controls included."""
    configured = project.dataset(dataset).retrieval.runs
    return [
        f"{run}/{variant}" for run, chosen in configured.items() for variant in VARIANTS[: 1 + _has_control(chosen)]
    ]


def _has_control(run: Run) -> bool:
    return run.permuted_control and run.epochs > 0


def pack_summaries(project: Project, dataset: str) -> list[str]:
    """The summaries of every subset that a run is trained or tested on."""
    subsets = [each for run in project.dataset(dataset).retrieval.runs for each in subsets_of(project, dataset, run)]
    return [project.paths.pack_summary(*subset) for subset in dict.fromkeys(subsets)]
