# How the rules ask avpipe.plan, which has a module for each file here and is tested on its own (docs/workflow.md).
import gc
import inspect
import re
from functools import partial

from avpipe import versions
from avpipe.demo.datasets import ZERO_SHOT
from avpipe.plan import Paths, Project, downloads, features, features_from, gzsl, inventory, media, retrieval, videos
from avpipe.plan.features import RETRIEVAL_EXTRACTORS
from avpipe.plan.requirements import (
    lacking_datasets,
    ready_datasets,
    require,
    require_features_from,
    require_gzsl,
    require_to_make,
)
from avpipe.registry import EXTRACTORS, METHODS
from avpipe.settings import NAME

# Planning keeps nearly all that it makes, so that looking for what could be freed takes a seventh of its time.
gc.set_threshold(200_000, 50, 1000)

PATHS = Paths(workflow.pathvars.apply("<results>"), workflow.pathvars.apply("<resources>"))
# Snakemake lists the files of the command line first, though they win.
FILES = [] if IS_MODULE else [Path(path) for path in (*workflow.configfiles[-1:], *workflow.configfiles[:-1])]
PROJECT = in_words(Project.read, config, BASE, PATHS, FILES, logger.warning if workflow.is_main_process else None)


def is_real_run():
    """Whether jobs will run: not under -n, and not in the Snakemake of a single job on a cluster's node."""
    return workflow.is_main_process and workflow.executor_plugin is not None and not (workflow.dryrun or workflow.touch)


def signed(function):
    """A function with its signature worked out once: Snakemake asks for it several times for each job."""
    function.__signature__ = inspect.signature(function)
    return function


def ask(function, check=None, **given):
    """What a function of the plan says of a job: its parameters are the wildcards of their names, or `given`.

    Before it, `check` (`require`, `require_gzsl`) names all that the dataset needs and that is not there. The Snakemake
    of a single job need not look again at what the one that planned has found.
    """
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "project", *given)]

    def answer(wildcards):
        if check is not None and workflow.is_main_process:
            if PROJECT.config.allow_download and is_real_run():
                in_words(downloads.fetch_to_plan, PROJECT, wildcards.dataset)
            in_words(check, PROJECT, wildcards.dataset)
            in_words(downloads.tell_awaited, PROJECT, wildcards.dataset)
            if is_real_run():
                in_words(inventory.keep_listing, PROJECT, wildcards.dataset)
        return in_words(function, PROJECT, **{name: wildcards[name] for name in names}, **given)

    return signed(answer)


def setting(place=""):
    """One of the dataset's settings by its dotted keys, which may be wildcards; a section becomes plain values."""

    def value(wildcards):
        keys = [key.format(**wildcards) for key in place.split(".") if key]
        found = in_words(PROJECT.setting, wildcards.dataset, *keys)
        return found.model_dump() if hasattr(found, "model_dump") else found

    return signed(value)


def files(answer):
    """An answer as input: no file where it is None."""
    return branch(answer, then=answer)


def checked_weights(wildcards, extractor):
    """What an extractor's weights are. Where they are gone and come back just as they were, its time does not count."""
    path = PATHS.weights(wildcards.dataset, extractor)
    return ancient(path) if in_words(downloads.come_back, PROJECT, wildcards.dataset, extractor) else path


def not_compared(value):
    """A param that no result depends on: Snakemake compares none that is a function of the input."""
    return signed(lambda wildcards, input: value(wildcards) if callable(value) else value)


def grows(amount):
    """A resource, up to four times as much in later attempts: an amount of mem_mb, or a number of minutes of runtime."""
    return lambda wildcards, attempt: min(attempt, 4) * amount


# Snakemake's collect for some of a path's wildcards; the others are the job's.
all_of = partial(collect, allow_missing=True)
# The same of a dataset's listing, weights' records and features, which another run may have made (features_from).
all_made = partial(all_of, place=ask(features.place, check=require_features_from))
# What has to be made before an embedded dataset's clips, captions and word vectors can be read.
EMBEDDED = branch(ask(Project.is_synthetic), then=ask(Project.made_folder))
# What became of the videos of an annotation.
SOURCES = branch(ask(videos.are_fetched, check=require), then="<results>/{dataset}/sources/{shard}.parquet")
PUBLISHED_GZSL, PUBLISHED_RETRIEVAL = (
    f"{places.config_folder(BASE)}/published_{task}.csv" for task in ("gzsl", "retrieval")
)
# One name, two ways to make it: a dataset's eval.json is that of its task.
RETRIEVAL_DATASET = "|".join(re.escape(name) for name in retrieval.datasets(PROJECT)) or "(?!)"
GZSL_DATASET = f"(?!(?:{RETRIEVAL_DATASET})/){NAME}"


wildcard_constraints:
    # A name that the configuration lacks is refused by Project.dataset.
    dataset=NAME,
    demo="|".join(ZERO_SHOT),
    shard=r"\d{4}",
    split=NAME,
    features=NAME,
    method="|".join(METHODS),
    form="corrected|published|permuted",
    extractor="|".join(EXTRACTORS),
    source=NAME,
    subset=NAME,
    run=NAME,
    variant="|".join(retrieval.VARIANTS),
