# Helpers of all rules. What they know comes from avpipe.plan, which is tested on its own.
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from avpipe import versions
from avpipe.demo.datasets import RETRIEVAL_FOLDER, ZERO_SHOT
from avpipe.devices import wants_gpu
from avpipe.errors import AvpipeError
from avpipe.plan import Plan
from avpipe.registry import EXTRACTORS, METHODS
from avpipe.settings import NAME


def told(function, *arguments):
    """Call a function; what it has to say to the user becomes Snakemake's message, without a traceback."""
    try:
        return function(*arguments)
    except AvpipeError as error:
        raise WorkflowError(str(error)) from None


PLAN = told(Plan, config, Path(workflow.basedir))
# Relative, so that a project may be moved and has nothing to do all the same.
PUBLISHED = os.path.relpath(Path(workflow.basedir) / "config" / "published_gzsl.csv")


wildcard_constraints:
    # A name that the configuration lacks is told by Plan.dataset.
    dataset=NAME,
    demo="|".join(ZERO_SHOT),
    shard=r"\d{4}",
    split=NAME,
    features=NAME,
    method="|".join(METHODS),
    form="corrected|published|permuted",
    extractor="|".join(EXTRACTORS),


def get_shards(path):
    """All shards' files of a dataset, for a path with {dataset} and {shard}."""
    return lambda wildcards: [
        path.format(dataset=wildcards.dataset, shard=shard) for shard in PLAN.shards(wildcards.dataset)
    ]


def get_made_videos(wildcards):
    """An embedded dataset's videos, where the dataset is one."""
    return PLAN.made_folder(wildcards.dataset) if PLAN.is_synthetic(wildcards.dataset) else []


def get_made_folder(wildcards):
    """Where an embedded dataset lies; without a meaning for others."""
    return PLAN.made_folder(wildcards.dataset)


def get_listing(wildcards):
    """A digest of the shard's clips and their files, as the source lists them now."""
    return told(PLAN.listing, wildcards.dataset, wildcards.shard)


def get_source(wildcards):
    """The dataset's source as plain values."""
    return PLAN.dataset(wildcards.dataset).source.model_dump()


def get_leaf(*keys):
    """One value of the dataset's settings, by its keys; a model becomes plain values."""

    def leaf(wildcards):
        value = PLAN.dataset(wildcards.dataset)
        for key in keys:
            value = getattr(value, key.format(**wildcards))
        return value.model_dump() if hasattr(value, "model_dump") else value

    return leaf


def get_weights_file(wildcards):
    """The weights file and VGGish's PCA as inputs, where they are files."""
    weights = told(PLAN.weights, wildcards.dataset, wildcards.extractor)
    files = [weights, PLAN.pca(wildcards.dataset, wildcards.extractor)]
    return [file for file in files if file is not None and not file.startswith("random:")]


def get_weights_state(wildcards):
    """Size and time stamp of those files."""
    return told(PLAN.weights_state, wildcards.dataset, wildcards.extractor)


def get_weights(extractor):
    """The weights of an extractor: a path or random:<seed>; None where it has no network."""
    return lambda wildcards: told(PLAN.weights, wildcards.dataset, extractor)


def get_pca(extractor):
    """VGGish's PCA file, where its settings use one."""
    return lambda wildcards: PLAN.pca(wildcards.dataset, extractor)


def get_converted(extractor):
    """Clips converted to 25 fps and their status table, where the extractor reads such."""

    def converted(wildcards):
        if not PLAN.reads_converted(wildcards.dataset, extractor):
            return []
        folder = f"results/{wildcards.dataset}/converted/{wildcards.shard}"
        return [folder, f"{folder}.parquet"]

    return converted


def get_trimmed(wildcards):
    """Clips cut out of their files and their status table, where a conversion reads them."""
    if not PLAN.is_trimmed(wildcards.dataset):
        return []
    folder = f"results/{wildcards.dataset}/trimmed/{wildcards.shard}"
    return [folder, f"{folder}.parquet"]


def get_media(extractor):
    """How the clips that an extractor reads are prepared, part of what its features depend on."""

    def media(wildcards):
        if not PLAN.reads_converted(wildcards.dataset, extractor):
            return {"mode": "stream"}
        frame_rate = PLAN.dataset(wildcards.dataset).frame_rate
        trim = {"trim": versions.TRIM} if PLAN.is_trimmed(wildcards.dataset) else {}
        return {"mode": "file", "crf": frame_rate.crf, "convert": versions.CONVERT_FPS, **trim}

    return media


def get_consumers(wildcards):
    """Feature stores that read a shard's converted clips, by extractor."""
    folder = f"results/{wildcards.dataset}/features"
    return {
        extractor: {
            "store": f"{folder}/{extractor}/{wildcards.shard}.h5",
            "settings": PLAN.extractor_settings(wildcards.dataset, extractor),
            "media": get_media(extractor)(wildcards),
        }
        for extractor in PLAN.extractors(wildcards.dataset)
        if PLAN.reads_converted(wildcards.dataset, extractor)
    }


def get_settings(extractor):
    """What the rows of an extractor depend on."""

    def settings(wildcards):
        values = PLAN.extractor_settings(wildcards.dataset, extractor)
        return {key: value for key, value in values.items() if key != "batch_size"}

    return settings


def get_batch_size(extractor):
    """Windows per forward pass; not compared, since no row depends on it.

    Snakemake compares no param that is a function of the input.
    """
    return lambda wildcards, input: PLAN.extractor_settings(wildcards.dataset, extractor).get("batch_size")


def get_device(wildcards, input):
    """Where networks run; not compared, so that a dataset may be finished on another machine."""
    return PLAN.config.device


def get_timeout(wildcards, input):
    """Longest time for decoding a clip; not compared, since it changes no row."""
    return PLAN.config.clip_timeout_seconds


def get_consumers_checks(wildcards):
    """The checked weights of every extractor that reads converted clips."""
    dataset = wildcards.dataset
    reading = [each for each in PLAN.extractors(dataset) if PLAN.reads_converted(dataset, each)]
    return [f"results/{dataset}/weights/{extractor}.json" for extractor in reading]


def get_weights_checks(wildcards):
    """The checked weights of every extractor of the dataset."""
    return [f"results/{wildcards.dataset}/weights/{extractor}.json" for extractor in PLAN.extractors(wildcards.dataset)]


def get_max_failure_rate(wildcards, input):
    """The tolerated failure rate; not compared (see `get_batch_size`), since tolerating more changes no tree."""
    return PLAN.dataset(wildcards.dataset).max_failure_rate


def get_split_files(wildcards):
    """Every file of a split."""
    return told(PLAN.split_files, wildcards.dataset, wildcards.split)


def get_class_split(wildcards):
    """Where a published split lies; None for one that is drawn from the videos at hand."""
    return None if get_own_split(wildcards) else PLAN.class_split(wildcards.dataset)


def get_own_split(wildcards):
    """How a split is drawn from the videos at hand; None for a published one."""
    settings = PLAN.dataset(wildcards.dataset).gzsl.own_splits.get(wildcards.split)
    return settings and settings.model_dump()


def get_split_probes(wildcards):
    """What is known of the clips at hand, where the split is drawn from them."""
    return get_shards("results/{dataset}/probe/{shard}.parquet")(wildcards) if get_own_split(wildcards) else []


def get_words(wildcards):
    """The file of class vectors, unless the published features bring them."""
    return told(PLAN.words, wildcards.dataset, wildcards.split) or []


def get_word_names(wildcards):
    """The CSV from class names to names of word vectors, unless a split of one's own makes it."""
    return told(PLAN.word_names, wildcards.dataset, wildcards.split) or []


def get_word_model(wildcards):
    """The word2vec, GloVe or fastText file."""
    return PLAN.dataset(wildcards.dataset).gzsl.word_model


def get_published_features(wildcards):
    """Published features that a feature set uses."""
    return told(PLAN.published_features, wildcards.dataset, wildcards.features) or []


def get_published_state(wildcards):
    """What these features are, told by the names, sizes and time stamps of their files."""
    return told(PLAN.published_state, wildcards.dataset, wildcards.features)


def get_set_shards(path):
    """All shards' files, where the feature set is extracted."""

    def shards(wildcards):
        return [] if get_published_features(wildcards) else get_shards(path)(wildcards)

    return shards


def get_stores(modality):
    """All shards' feature stores of a feature set's video or audio extractor, where it is extracted."""

    def stores(wildcards):
        extractor = getattr(PLAN.feature_set(wildcards.dataset, wildcards.features), modality)
        return get_set_shards(f"results/{{dataset}}/features/{extractor}/{{shard}}.h5")(wildcards)

    return stores


def get_statuses(wildcards):
    """The status tables of every extractor, all shards."""
    return status_tables(wildcards.dataset, PLAN.extractors(wildcards.dataset))


def get_set_statuses(wildcards):
    """The status tables of a feature set's extractors, all shards, where it is extracted."""
    if get_published_features(wildcards):
        return []
    features = PLAN.feature_set(wildcards.dataset, wildcards.features)
    return status_tables(wildcards.dataset, dict.fromkeys([features.video, features.audio]))


def status_tables(dataset, extractors):
    """The status tables of some extractors, all shards."""
    folder = f"results/{dataset}/features"
    return [f"{folder}/{each}/{shard}.status.parquet" for each in extractors for shard in PLAN.shards(dataset)]


def get_evaluations(wildcards):
    """The evaluation of every benchmark, method and form of a dataset, controls included."""
    told(PLAN.require_gzsl, wildcards.dataset)
    return [
        f"results/{wildcards.dataset}/runs/{'/'.join(experiment)}/evaluation.json"
        for experiment in PLAN.dataset(wildcards.dataset).gzsl.experiments()
    ]


def get_trees(wildcards):
    """The summaries of every benchmark's folder tree."""
    return [
        f"results/{wildcards.dataset}/gzsl/{each.split}/{each.features}.json"
        for each in PLAN.dataset(wildcards.dataset).gzsl.benchmarks
    ]


def get_accounting(name):
    """A file of the account of clips, where the dataset has videos."""
    return lambda wildcards: f"results/{wildcards.dataset}/{name}" if PLAN.uses_videos(wildcards.dataset) else []


def get_experiment(wildcards):
    """A method's settings in one form on one benchmark, with the seeds."""
    return told(PLAN.experiment, wildcards.dataset, wildcards.features, wildcards.method, wildcards.form)


def get_table_evals(wildcards):
    """The results of every zero-shot dataset whose data are at hand."""
    return [f"results/{dataset}/eval.json" for dataset in PLAN.table_datasets()[0]]


def get_gpus(wildcards):
    """1 where the job would compute on a GPU, else 0, so that a profile's limit binds only then."""
    return int(wants_gpu(PLAN.config.device))
