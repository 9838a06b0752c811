"""What rules/retrieval.smk asks: the subsets, runs, tests and word vectors of a dataset for retrieval."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from avpipe.config.models import Dataset
from avpipe.plan import features, inventory
from avpipe.plan.project import Project
from avpipe.retrieval.settings import FROM_RUN, PUBLISHED, Run
from avpipe.sources.listing import clips_of, digest_of
from avpipe.sources.settings import HowTo100M

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


def run_settings(project: Project, dataset: str, run: str) -> Run:
    """A run's settings; raises AvpipeError if there is none of that name."""
    settings: Run = project.setting(dataset, "retrieval", "runs", run)
    return settings


# Subsets of clips


def is_made(project: Project, dataset: str, subset: str) -> bool:
    """Whether a subset is made of the source's clips, not read from a clip pickle or pack."""
    return not project.setting(dataset, "retrieval", "subsets", subset).path


def pack_shards(project: Project, dataset: str, subset: str) -> list[str]:
    """The shards that a subset is made of; none for one that is read from a file."""
    return inventory.shards(project, dataset) if is_made(project, dataset, subset) else []


@functools.cache
def subset_digest(project: Project, dataset: str, subset: str) -> str | None:
    """`digest_of` a subset's clips as the table lists them now; None where it is given or not made yet."""
    if not is_made(project, dataset, subset) or project.is_synthetic(dataset):
        return None
    return digest_of(clips_of(project.dataset(dataset).source, subset, project.made_folder(dataset)))


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


def starts(project: Project, dataset: str, run: str) -> list[tuple[str, str]]:
    """A run, the run that it starts from, and so on, each as dataset and name, as far as they are configured."""
    found: list[tuple[str, str]] = []
    place, datasets = (dataset, run), project.config.datasets
    while place not in found and place[0] in datasets and place[1] in datasets[place[0]].retrieval.runs:
        found.append(place)
        weights = datasets[place[0]].retrieval.runs[place[1]].weights
        if weights.startswith(FROM_RUN):
            place = named_run(weights)
    return found


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


def test_subsets(project: Project, dataset: str, run: str) -> list[SubsetName]:
    """The subsets of those."""
    return list(tests(project, dataset, run).values())


def test_settings(project: Project, dataset: str, run: str) -> dict[str, dict[str, Any]]:
    """For each test the frames that are read of a clip, which captions ask, the number of clips and its standing."""
    return {
        test: {
            "audio_frames": project.dataset(name.dataset).retrieval.audio_frames,
            "expected": project.setting(name.dataset, "retrieval", "subsets", name.subset).expected,
            "captions": project.dataset(name.dataset).retrieval.test_captions,
            "diagnostic": project.setting(name.dataset, "retrieval", "subsets", name.subset).diagnostic,
        }
        for test, name in tests(project, dataset, run).items()
    }


def subsets_of(project: Project, dataset: str, run: str) -> list[SubsetName]:
    """Every subset that a run is trained or tested on."""
    trained = training_subset(project, dataset, run) if run_settings(project, dataset, run).epochs else None
    return [*([trained] if trained else []), *tests(project, dataset, run).values()]


def runs(project: Project, dataset: str) -> list[str]:
    """<run>/<variant> of everything to run, controls included."""
    configured = project.dataset(dataset).retrieval.runs
    return [
        f"{run}/{variant}"
        for run, chosen in configured.items()
        for variant in VARIANTS[: 1 + (chosen.permuted_control and chosen.epochs > 0)]
    ]


def used_subsets(project: Project, dataset: str) -> list[SubsetName]:
    """Every subset that a run is trained or tested on, each once."""
    names = project.dataset(dataset).retrieval.runs
    return list(dict.fromkeys(subset for run in names for subset in subsets_of(project, dataset, run)))
