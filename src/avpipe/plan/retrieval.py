"""What retrieval on a dataset needs, found and checked before any job runs. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any, NamedTuple

from avpipe.config.models import Dataset, ExtractorName
from avpipe.demo.datasets import RETRIEVAL_FOLDER
from avpipe.errors import AvpipeError
from avpipe.plan.missing import missing_path
from avpipe.plan.project import Project
from avpipe.retrieval.settings import FROM_RUN, PUBLISHED, Retrieval, Run, Subset
from avpipe.sources.listing import list_source, source_table
from avpipe.sources.local import Described, describe_table
from avpipe.sources.settings import ClipTable, HowTo100M, Packs, PublishedFeatures, Source, Synthetic

EXTRACTORS: dict[str, ExtractorName] = {"video_2d": "resnet152", "video_3d": "resnext101", "audio": "spectrogram"}
"""What AVLnet reads, and the extractor that makes it."""
CONTROL = "permuted"
VARIANTS = ("main", CONTROL)


class Place(NamedTuple):
    """A subset of a dataset."""

    dataset: str
    subset: str

    @property
    def pack(self) -> str:
        """The pack of its clips."""
        return f"results/{self.dataset}/retrieval/packs/{self.subset}.h5"

    def words(self, dataset: str) -> str:
        """Word vectors of its captions, from the word model of the dataset whose runs read them."""
        return f"results/{dataset}/retrieval/words/{self.dataset}/{self.subset}.h5"


def reads_videos(settings: Dataset) -> bool:
    """Whether packs or windows are made of the source's videos."""
    if isinstance(settings.source, Packs | HowTo100M | PublishedFeatures):
        return False
    retrieval = settings.retrieval
    trains_on_windows = any(run.windows is not None and run.epochs for run in retrieval.runs.values())
    return trains_on_windows or any(subset.path is None for subset in retrieval.subsets.values())


def describe_clips(source: Source, made_folder: str = RETRIEVAL_FOLDER) -> list[Described]:
    """Subset and captions of every clip of a source; a source that is no table has neither."""
    table = source_table(source, made_folder)
    if table is not None:
        return describe_table(table)
    return [Described(clip.clip_id, None, ()) for clip in list_source(source, made_folder)]


def clips_of(source: Source, subset: str, made_folder: str = RETRIEVAL_FOLDER) -> list[Described]:
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


class RetrievalPlan:
    """The configuration, seen as the rules of retrieval need it.

    Args:
        plan: of the whole workflow.
    """

    def __init__(self, plan: Project) -> None:
        self.plan = plan

    def settings(self, dataset: str) -> Retrieval:
        """The retrieval settings of a dataset, quirks decided."""
        return self.plan.dataset(dataset).retrieval

    def datasets(self) -> list[str]:
        """Datasets that are used for retrieval."""
        return [name for name in self.plan.datasets if is_used(self.plan.dataset(name))]

    def run(self, dataset: str, run: str) -> Run:
        """A run by name.

        Raises:
            AvpipeError: there is none of that name.
        """
        runs = self.settings(dataset).runs
        if run not in runs:
            raise AvpipeError(f"{dataset} has no retrieval run {run!r}; it has {', '.join(runs) or 'none'}.")
        return runs[run]

    def runs(self, dataset: str) -> list[tuple[str, str]]:
        """(run, variant) of everything to run, controls included."""
        self.plan.require(dataset)
        runs = self.settings(dataset).runs
        return [(name, variant) for name, run in runs.items() for variant in VARIANTS[: 1 + _has_control(run)]]

    def place(self, dataset: str, test: str) -> Place:
        """Where `test` or `other/test` is."""
        other, _, subset = test.rpartition("/")
        return Place(other or dataset, subset)

    def subset(self, place: Place) -> Subset:
        """A subset's settings.

        Raises:
            AvpipeError: there is none of that name.
        """
        subsets = self.settings(place.dataset).subsets
        if place.subset not in subsets:
            raise AvpipeError(
                f"{place.dataset} has no retrieval subset {place.subset!r}; it has {', '.join(subsets) or 'none'}."
            )
        return subsets[place.subset]

    def given(self, place: Place) -> str | None:
        """The file that a subset is read from; None where it is made of the source's clips."""
        return self.subset(place).path

    @functools.cache  # noqa: B019 - there is one plan in a process
    def subset_digest(self, place: Place) -> str | None:
        """`digest_of` a subset's clips as the table lists them now; None where it is given or not made yet."""
        if self.given(place) is not None or self.plan.is_synthetic(place.dataset):
            return None
        return digest_of(clips_of(self.plan.dataset(place.dataset).source, place.subset))

    def tests(self, dataset: str, run: str) -> dict[str, Place]:
        """What a run is tested on, by the names that the configuration uses."""
        chosen = self.run(dataset, run)
        return {
            test: self.place(dataset, test)
            for test in (self.settings(dataset).tests if chosen.tests is None else chosen.tests)
        }

    def places(self, dataset: str, run: str) -> list[Place]:
        """Every subset that a run is trained or tested on."""
        chosen = self.run(dataset, run)
        trained = [Place(dataset, chosen.train)] if chosen.epochs and chosen.windows is None else []
        return [*trained, *self.tests(dataset, run).values()]

    def start(self, dataset: str, run: str) -> str:
        """What a run starts from: random, random:<seed>, or the path of a checkpoint or of a run's training.json."""
        weights = self.run(dataset, run).weights
        if weights == PUBLISHED:
            return self.plan.weights_file(dataset, self.run(dataset, run).model)
        if weights.startswith(FROM_RUN):
            other, name = self.other_run(weights)
            self.run(other, name)
            return f"results/{other}/retrieval/runs/{name}/main/training.json"
        return weights

    @staticmethod
    def other_run(weights: str) -> tuple[str, str]:
        """Dataset and run of run:<dataset>/<run>."""
        dataset, _, run = weights.removeprefix(FROM_RUN).partition("/")
        return dataset, run

    def job(self, dataset: str, run: str, variant: str, *, training: bool) -> dict[str, Any]:
        """A run's settings as plain values; for training without what that does not depend on."""
        settings, chosen = self.settings(dataset), self.run(dataset, run)
        values: dict[str, Any] = {
            "name": run,
            "variant": variant,
            "run": chosen.model_dump(exclude={"tests", "permuted_control"}),
            "audio_frames": chosen.windows.audio_frames if chosen.windows and training else settings.audio_frames,
            "max_words": settings.max_words,
            "seeds": settings.seeds,
        }
        return values if training else values | {"long_clips": settings.long_clips}

    def test_settings(self, dataset: str, run: str) -> dict[str, dict[str, Any]]:
        """For each test the frames that are read of a clip, the benchmark's number of clips, and its standing."""
        return {
            test: {
                "audio_frames": self.settings(place.dataset).audio_frames,
                "expected": self.subset(place).expected,
                "diagnostic": self.subset(place).diagnostic,
            }
            for test, place in self.tests(dataset, run).items()
        }


def _has_control(run: Run) -> bool:
    return run.permuted_control and run.epochs > 0


def is_used(settings: Dataset) -> bool:
    """Whether a dataset is used for retrieval."""
    return bool(settings.retrieval.runs or settings.retrieval.subsets)


def missing(plan: Project, dataset: str) -> list[str]:
    """All that retrieval on a dataset needs and that is not there, one problem each."""
    settings = plan.dataset(dataset)
    retrieval = settings.retrieval
    problems = _missing_videos(settings.source, dataset)
    if not retrieval.runs:
        for name in retrieval.subsets:
            problems += _missing_subset(plan, Place(dataset, name))
    for name in retrieval.runs:
        problems += _missing_for_run(plan, dataset, name)
    return list(dict.fromkeys(problems))


def _missing_for_run(plan: Project, dataset: str, name: str, *, is_tested: bool = True) -> list[str]:
    """What one run needs: its start, the clips that it is trained and tested on, captions and their word vectors."""
    settings = plan.dataset(dataset)
    retrieval, key = settings.retrieval, f"datasets.{dataset}.retrieval"
    run, is_made = retrieval.runs[name], isinstance(settings.source, Synthetic)
    problems = _missing_start(plan, dataset, name, run)
    own_tests = set() if is_tested else set(RetrievalPlan(plan).tests(dataset, name).values())
    for place in RetrievalPlan(plan).places(dataset, name):
        problems += _missing_subset(plan, place) if place not in own_tests else []
    if run.epochs and run.windows is not None and run.windows.drawn == "captions" and not is_made:
        problems += missing_path("the captions with times", retrieval.captions, f"{key}.captions", "")
    if run.uses_text and not is_made:
        hint = "https://code.google.com/archive/p/word2vec (GoogleNews-vectors-negative300.bin.gz)"
        hint += f"; or set the runs of text models under {key}.runs to null"
        problems += missing_path("the word vectors", retrieval.word_vectors, f"{key}.word_vectors", hint)
    return problems


def _missing_subset(plan: Project, place: Place) -> list[str]:
    configured = plan.config.datasets.get(place.dataset)
    if configured is None or place.subset not in configured.retrieval.subsets:
        return [f"the clips of {place.dataset}/{place.subset}: no such subset is configured; correct the run's tests"]
    subset, key = configured.retrieval.subsets[place.subset], f"datasets.{place.dataset}.retrieval.subsets"
    if subset.path is not None:
        what = f"the clips of {place.dataset}/{place.subset}"
        return missing_path(what, subset.path, f"{key}.{place.subset}.path", subset.obtain)
    if isinstance(configured.source, Packs | HowTo100M | PublishedFeatures):
        made_of = f"the clips of {place.dataset}/{place.subset}: the source has no videos to make them of"
        return [f"{made_of}; set {key}.{place.subset}.path"]
    return []


def _missing_videos(source: Source, dataset: str) -> list[str]:
    """What is not there of features of whole videos; videos are looked for by `Plan`."""
    if not isinstance(source, HowTo100M):
        return []
    key, sound = f"datasets.{dataset}.source", source.audio_path or source.path
    problems = missing_path("the features of whole videos", source.path, f"{key}.path", source.obtain)
    if sound != source.path:
        problems += missing_path("their spectrograms", sound, f"{key}.audio_path", source.obtain)
    return problems + missing_path("the list of videos", source.videos, f"{key}.videos", source.obtain)


def _missing_start(plan: Project, dataset: str, name: str, run: Run) -> list[str]:
    key = f"datasets.{dataset}.retrieval.runs.{name}.weights"
    if run.is_scratch:
        return []
    if run.weights == PUBLISHED:
        path = plan.weights_file(dataset, run.model)
        hint = plan.with_url(run.model, "random:<seed> to try the chain without them")
        return (
            []
            if path.startswith("random:")
            else missing_path(f"the weights of {run.model}", path, f"weights.{run.model}", hint)
        )
    if not run.weights.startswith(FROM_RUN):
        return missing_path("the checkpoint", run.weights, key, "")
    return _unfit_run(plan, dataset, name, run)


def _unfit_run(plan: Project, dataset: str, name: str, run: Run) -> list[str]:
    """What is wrong with the run that another one starts from."""
    key, seen = f"datasets.{dataset}.retrieval.runs.{name}.weights", [(dataset, name)]
    chosen = run
    while chosen.weights.startswith(FROM_RUN):
        place = RetrievalPlan.other_run(chosen.weights)
        if place in seen:
            chain = " -> ".join("/".join(each) for each in [*seen, place])
            return [f"a start for the run {name}: {chain} goes in a circle; change {key}"]
        other = plan.config.datasets.get(place[0])
        if other is None or place[1] not in other.retrieval.runs:
            known = [f"{each}/{run}" for each in plan.datasets for run in plan.config.datasets[each].retrieval.runs]
            wanted = f"a start for the run {name}: there is no run {'/'.join(place)}"
            return [f"{wanted}; there are {', '.join(known)}; set {key}"]
        seen.append(place)
        chosen = other.retrieval.runs[place[1]]
        fields = ("model", "embedding_dim", "audio_channels")
        differing = [each for each in fields if getattr(chosen, each) != getattr(run, each)]
        if differing:
            found = ", ".join(f"{each} {getattr(chosen, each)}, not {getattr(run, each)}" for each in differing)
            return [f"a start for the run {name}: {'/'.join(place)} has {found}; make them equal, or change {key}"]
        if chosen.epochs == 0:
            return [f"a start for the run {name}: {'/'.join(place)} trains nothing (epochs 0); start from its weights"]
    return _missing_for_run(plan, *seen[1], is_tested=False)


def check_subsets(plan: Project, dataset: str) -> None:
    """Read the table of a dataset of videos, and see that its subsets are what they should be.

    Raises:
        AvpipeError: a subset has no clip, or two subsets would be the same clips.
    """
    settings = plan.dataset(dataset)
    made = [name for name, subset in settings.retrieval.subsets.items() if subset.path is None]
    if not made or not reads_videos(settings) or isinstance(settings.source, Synthetic):
        return
    described = describe_clips(settings.source)
    if len(made) > 1 and all(clip.subset is None for clip in described):
        raise AvpipeError(
            f"{dataset}: the source does not say which clips are in {' and which in '.join(made)}. Add a column "
            f"`subset` to the table of clips."
        )
    for name in made:
        clips_of(settings.source, name)
    for name, run in settings.retrieval.runs.items():
        tests = [settings.retrieval.tests if run.tests is None else run.tests]
        _check_captions(settings, dataset, name, run, [test for each in tests for test in each if "/" not in test])


def _check_captions(settings: Dataset, dataset: str, name: str, run: Run, tests: list[str]) -> None:
    trained = [run.train] if run.epochs and run.windows is None else []
    if not run.uses_text or not isinstance(settings.source, ClipTable):
        return
    for subset in [*trained, *tests]:
        if settings.retrieval.subsets[subset].path is None:
            without = [clip.clip_id for clip in clips_of(settings.source, subset) if not clip.captions]
            if without:
                raise AvpipeError(
                    f"{dataset}: the run {name} reads captions, and {len(without)} clip(s) of {subset} have none, such "
                    f"as {without[0]}. Fill the column `caption` of {settings.source.path}, or set the run to null."
                )
