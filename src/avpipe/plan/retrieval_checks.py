"""What retrieval on a dataset needs from outside, found and checked before any job runs. Imports no torch."""

from __future__ import annotations

from avpipe.errors import AvpipeError
from avpipe.plan.features import retrieval_reads_videos
from avpipe.plan.missing import WITHOUT_WEIGHTS, missing_path, missing_weights
from avpipe.plan.project import Project
from avpipe.plan.retrieval import SubsetName, named_run, subsets_of, tests
from avpipe.retrieval.settings import FROM_RUN, PUBLISHED, Run
from avpipe.sources.listing import clips_of, describe_clips
from avpipe.sources.local import Described
from avpipe.sources.settings import ClipTable, HowTo100M, Packs, PublishedFeatures, Source, Synthetic

_CAPTIONS = "https://www.rocq.inria.fr/cluster-willow/amiech/howto100m/raw_caption.zip (raw_caption.json, about 3.4 GB)"


def missing(project: Project, dataset: str) -> list[str]:
    """All that retrieval on a dataset needs and that is not there, one problem each."""
    settings = project.dataset(dataset)
    retrieval = settings.retrieval
    problems = _missing_videos(settings.source, dataset)
    if not retrieval.runs:
        for name in retrieval.subsets:
            problems += _missing_subset(project, SubsetName(dataset, name))
    for name in retrieval.runs:
        problems += _missing_for_run(project, dataset, name)
    return list(dict.fromkeys(problems))


def _missing_for_run(project: Project, dataset: str, name: str, *, is_tested: bool = True) -> list[str]:
    """What one run needs: its start, the clips that it is trained and tested on, captions and their word vectors."""
    settings = project.dataset(dataset)
    retrieval, key = settings.retrieval, f"datasets.{dataset}.retrieval"
    run, is_made = retrieval.runs[name], isinstance(settings.source, Synthetic)
    problems = _missing_start(project, dataset, name, run)
    own_tests = set() if is_tested else set(tests(project, dataset, name).values())
    for subset in subsets_of(project, dataset, name):
        problems += _missing_subset(project, subset) if subset not in own_tests else []
    if run.epochs and run.windows is not None and run.windows.drawn == "captions" and not is_made:
        problems += missing_path("the captions with times", retrieval.captions, f"{key}.captions", _CAPTIONS)
    if run.uses_text and not is_made:
        hint = "https://code.google.com/archive/p/word2vec (GoogleNews-vectors-negative300.bin.gz)"
        hint += f"; or set the runs of text models under {key}.runs to null"
        problems += missing_path("the word vectors", retrieval.word_vectors, f"{key}.word_vectors", hint)
    return problems


def _missing_subset(project: Project, name: SubsetName) -> list[str]:
    configured, what = project.config.datasets.get(name.dataset), f"the clips of {name.dataset}/{name.subset}"
    if configured is None or name.subset not in configured.retrieval.subsets:
        return [f"{what}: no such subset is configured; correct the run's tests"]
    subset = configured.retrieval.subsets[name.subset]
    key = f"datasets.{name.dataset}.retrieval.subsets.{name.subset}.path"
    if subset.path is not None:
        return missing_path(what, subset.path, key, subset.obtain)
    if isinstance(configured.source, Packs | HowTo100M | PublishedFeatures):
        return [f"{what}: the source has no videos to make them of; set {key}"]
    return []


def _missing_videos(source: Source, dataset: str) -> list[str]:
    """What is not there of features of whole videos; videos are looked for by `avpipe.plan.requirements`."""
    if not isinstance(source, HowTo100M):
        return []
    key, sound = f"datasets.{dataset}.source", source.audio_path or source.path
    problems = missing_path("the features of whole videos", source.path, f"{key}.path", source.obtain)
    if sound != source.path:
        problems += missing_path("their spectrograms", sound, f"{key}.audio_path", source.obtain)
    return problems + missing_path("the list of videos", source.videos, f"{key}.videos", source.obtain)


def _missing_start(project: Project, dataset: str, name: str, run: Run) -> list[str]:
    key = f"datasets.{dataset}.retrieval.runs.{name}.weights"
    if run.is_scratch:
        return []
    if run.weights == PUBLISHED:
        return missing_weights(project, dataset, run.model, f"the weights of {run.model}", WITHOUT_WEIGHTS)
    if not run.weights.startswith(FROM_RUN):
        return missing_path("the checkpoint", run.weights, key, "")
    return _unfit_run(project, dataset, name, run)


def _unfit_run(project: Project, dataset: str, name: str, run: Run) -> list[str]:
    """What is wrong with the run that another one starts from."""
    key, seen = f"datasets.{dataset}.retrieval.runs.{name}.weights", [(dataset, name)]
    chosen = run
    while chosen.weights.startswith(FROM_RUN):
        other = named_run(chosen.weights)
        if other in seen:
            chain = " -> ".join("/".join(each) for each in [*seen, other])
            return [f"a start for the run {name}: {chain} goes in a circle; change {key}"]
        configured = project.config.datasets
        if other[0] not in configured or other[1] not in configured[other[0]].retrieval.runs:
            known = [f"{each}/{run}" for each, settings in configured.items() for run in settings.retrieval.runs]
            wanted = f"a start for the run {name}: there is no run {'/'.join(other)}"
            return [f"{wanted}; there are {', '.join(known)}; set {key}"]
        seen.append(other)
        chosen = configured[other[0]].retrieval.runs[other[1]]
        fields = ("model", "embedding_dim", "audio_channels")
        differing = [each for each in fields if getattr(chosen, each) != getattr(run, each)]
        if differing:
            found = ", ".join(f"{each} {getattr(chosen, each)}, not {getattr(run, each)}" for each in differing)
            return [f"a start for the run {name}: {'/'.join(other)} has {found}; make them equal, or change {key}"]
        if chosen.epochs == 0:
            return [f"a start for the run {name}: {'/'.join(other)} trains nothing (epochs 0); start from its weights"]
    return _missing_for_run(project, *seen[1], is_tested=False)


def check_subsets(project: Project, dataset: str) -> None:
    """Read the table of a dataset of videos, and see that its subsets are what they should be.

    Raises:
        AvpipeError: a subset has no clip, or two subsets would be the same clips.
    """
    settings = project.dataset(dataset)
    made = [name for name, subset in settings.retrieval.subsets.items() if subset.path is None]
    if not made or not retrieval_reads_videos(settings) or isinstance(settings.source, Synthetic):
        return
    described = describe_clips(settings.source, project.made_folder(dataset))
    if len(made) > 1 and all(clip.subset is None for clip in described):
        raise AvpipeError(
            f"{dataset}: the source does not say which clips are in {' and which in '.join(made)}. Add a column "
            f"`subset` to the table of clips."
        )
    clips = {name: clips_of(settings.source, name, project.made_folder(dataset)) for name in made}
    for name, run in settings.retrieval.runs.items():
        own = [each.subset for each in subsets_of(project, dataset, name) if each.dataset == dataset]
        if run.uses_text and isinstance(settings.source, ClipTable):
            _check_captions(settings.source, dataset, name, {each: clips[each] for each in own if each in clips})


def _check_captions(source: ClipTable, dataset: str, run: str, clips: dict[str, list[Described]]) -> None:
    for subset, described in clips.items():
        without = [clip.clip_id for clip in described if not clip.captions]
        if without:
            raise AvpipeError(
                f"{dataset}: the run {run} reads captions, and {len(without)} clip(s) of {subset} have none, such "
                f"as {without[0]}. Fill the column `caption` of {source.path}, or set the run to null."
            )
