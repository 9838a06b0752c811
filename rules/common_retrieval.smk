# Helpers of the rules of retrieval. What they know comes from avpipe.plan.retrieval, which is tested on its own.
import re

from avpipe.plan.retrieval import EXTRACTORS as PACK_EXTRACTORS
from avpipe.plan.retrieval import VARIANTS, Place, RetrievalPlan

RETRIEVAL = RetrievalPlan(PLAN)
PUBLISHED_RETRIEVAL = os.path.relpath(Path(workflow.basedir) / "config" / "published_retrieval.csv")

# One name, two ways to make it: a dataset's eval.json is that of its task.
RETRIEVAL_DATASET = "|".join(re.escape(name) for name in RETRIEVAL.datasets()) or "(?!)"
GZSL_DATASET = f"(?!(?:{RETRIEVAL_DATASET})/){NAME}"


wildcard_constraints:
    source=NAME,
    subset=NAME,
    run=NAME,
    variant="|".join(VARIANTS),


def get_place(wildcards):
    """The subset that the wildcards name."""
    return Place(wildcards.dataset, wildcards.subset)


def get_given_pack(wildcards):
    """The clip pickle or pack that a subset is read from."""
    return told(RETRIEVAL.given, get_place(wildcards)) or []


def is_made(wildcards):
    """Whether a subset is made of the source's clips."""
    return not get_given_pack(wildcards)


def get_pack_stores(stream):
    """All shards' feature stores of one of the three extractors, where a subset is made of the source's clips."""
    path = f"results/{{dataset}}/features/{PACK_EXTRACTORS[stream]}/{{shard}}.h5"
    return lambda wildcards: get_shards(path)(wildcards) if is_made(wildcards) else []


def get_pack_probes(wildcards):
    """What is known of the source's clips."""
    return get_shards("results/{dataset}/probe/{shard}.parquet")(wildcards) if is_made(wildcards) else []


def get_pack_statuses(wildcards):
    """The status tables of the three extractors, all shards."""
    return status_tables(wildcards.dataset, PACK_EXTRACTORS.values()) if is_made(wildcards) else []


def get_made_table(wildcards):
    """The embedded dataset, whose table has the captions."""
    return get_made_videos(wildcards) if is_made(wildcards) else []


def get_subset_digest(wildcards):
    """A digest of a subset's clips and captions, as the table has them now."""
    return told(RETRIEVAL.subset_digest, get_place(wildcards))


def get_retrieval_leaf(key):
    """One value of the dataset's retrieval settings."""
    return lambda wildcards: getattr(RETRIEVAL.settings(wildcards.dataset), key)


def get_expected(wildcards):
    """How many clips the benchmark has."""
    return RETRIEVAL.subset(get_place(wildcards)).expected


def get_file(key):
    """A file of the retrieval settings as an input; those of an embedded dataset come with its folder."""

    def file(wildcards):
        return [] if PLAN.is_synthetic(wildcards.dataset) else get_retrieval_leaf(key)(wildcards) or []

    return file


def get_run(wildcards):
    """A run's settings."""
    return told(RETRIEVAL.run, wildcards.dataset, wildcards.run)


def trains_on_windows(wildcards):
    """Whether a run is trained on windows of whole videos."""
    return get_run(wildcards).windows is not None


def get_training_pack(wildcards):
    """The clips that a run is trained on."""
    return [] if trains_on_windows(wildcards) else Place(wildcards.dataset, get_run(wildcards).train).pack


def get_training_words(wildcards):
    """Word vectors of the captions that a run is trained with."""
    if not get_run(wildcards).uses_text:
        return []
    if trains_on_windows(wildcards):
        return f"results/{wildcards.dataset}/retrieval/window_words.h5"
    return Place(wildcards.dataset, get_run(wildcards).train).words(wildcards.dataset)


def reads_stores(wildcards):
    """Whether a run is trained on windows of the source's videos."""
    return trains_on_windows(wildcards) and PLAN.uses_videos(wildcards.dataset)


def get_window_stores(stream):
    """All shards' feature stores, where a run is trained on windows of the source's videos."""
    path = f"results/{{dataset}}/features/{PACK_EXTRACTORS[stream]}/{{shard}}.h5"
    return lambda wildcards: get_shards(path)(wildcards) if reads_stores(wildcards) else []


def get_window_probes(wildcards):
    """What is known of those videos."""
    return get_shards("results/{dataset}/probe/{shard}.parquet")(wildcards) if reads_stores(wildcards) else []


def get_window_statuses(wildcards):
    """The status tables of their features."""
    return status_tables(wildcards.dataset, PACK_EXTRACTORS.values()) if reads_stores(wildcards) else []


def get_window_captions(wildcards):
    """Captions with times, where windows are drawn around them."""
    windows = get_run(wildcards).windows
    return get_file("captions")(wildcards) if windows is not None and windows.drawn == "captions" else []


def get_captions_path(wildcards):
    """Where those are; None where none are needed."""
    windows = get_run(wildcards).windows
    return get_retrieval_leaf("captions")(wildcards) if windows is not None and windows.drawn == "captions" else None


def get_video_list(wildcards):
    """The list of videos of HowTo100M's layout."""
    return getattr(PLAN.dataset(wildcards.dataset).source, "videos", None) or []


def get_whole_videos(wildcards):
    """The folders of HowTo100M's layout."""
    source = PLAN.dataset(wildcards.dataset).source
    return {"path": source.path, "audio_path": source.audio_path} if get_video_list(wildcards) else None


def get_start(wildcards):
    """What a run starts from."""
    return told(RETRIEVAL.start, wildcards.dataset, wildcards.run)


def get_start_file(wildcards):
    """The file that a run starts from, where it is one."""
    start = get_start(wildcards)
    return [] if start.startswith("random") else start


def get_training_job(wildcards):
    """What decides a run's training."""
    return told(lambda: RETRIEVAL.job(wildcards.dataset, wildcards.run, wildcards.variant, training=True))


def get_evaluation_job(wildcards):
    """What decides a run's evaluation."""
    return told(lambda: RETRIEVAL.job(wildcards.dataset, wildcards.run, wildcards.variant, training=False))


def get_training(wildcards):
    """The training to test; none where weights are tested as they are."""
    folder = f"results/{wildcards.dataset}/retrieval/runs/{wildcards.run}/{wildcards.variant}"
    return f"{folder}/training.json" if get_run(wildcards).epochs else []


def get_index_training(wildcards):
    """The training of a run, without its control."""
    training = f"results/{wildcards.dataset}/retrieval/runs/{wildcards.run}/main/training.json"
    return training if get_run(wildcards).epochs else []


def get_index_words(wildcards):
    """Word vectors of an indexed subset's captions."""
    return get_place(wildcards).words(wildcards.dataset) if get_run(wildcards).uses_text else []


def get_index_job(wildcards):
    """What decides how a run's index is made."""
    return told(lambda: RETRIEVAL.job(wildcards.dataset, wildcards.run, "main", training=False))


def get_untrained_start(wildcards):
    """The checkpoint to test, where nothing is trained."""
    return [] if get_run(wildcards).epochs else get_start_file(wildcards)


def get_tests(wildcards):
    """What a run is tested on."""
    return told(RETRIEVAL.tests, wildcards.dataset, wildcards.run)


def get_test_packs(wildcards):
    """The packs of those."""
    return [place.pack for place in get_tests(wildcards).values()]


def get_test_words(wildcards):
    """Word vectors of their captions."""
    places = get_tests(wildcards).values() if get_run(wildcards).uses_text else []
    return [place.words(wildcards.dataset) for place in places]


def get_test_settings(wildcards):
    """For each test, in the order of the packs, how it is read and counted."""
    return told(RETRIEVAL.test_settings, wildcards.dataset, wildcards.run)


def get_run_gpus(wildcards):
    """How many GPUs a run is trained on."""
    return get_run(wildcards).gpus * get_gpus(wildcards)


def get_retrieval_evaluations(wildcards):
    """The evaluation of every run, controls included."""
    return [
        f"results/{wildcards.dataset}/retrieval/runs/{run}/{variant}/evaluation.json"
        for run, variant in told(RETRIEVAL.runs, wildcards.dataset)
    ]


def get_pack_summaries(wildcards):
    """The summaries of every subset that a run is trained or tested on."""
    places = [
        place for run, _ in RETRIEVAL.runs(wildcards.dataset) for place in RETRIEVAL.places(wildcards.dataset, run)
    ]
    return list(dict.fromkeys(place.pack.removesuffix(".h5") + ".json" for place in places))
