"""Build the published folder tree of a split, from pooled features or from published ones."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import build_tree
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Snakemake hands over an input that a dataset lacks as an empty list.
with run_job(snakemake):
    build_tree(
        class_split=snakemake.input.class_split,
        split=snakemake.wildcards.split,
        words=snakemake.input.words or None,
        published=snakemake.input.published or None,
        probes=snakemake.input.probes,
        statuses=snakemake.input.statuses,
        stores={"video": snakemake.input.video, "audio": snakemake.input.audio},
        tree=snakemake.output.tree,
        summary=snakemake.output.summary,
        max_failure_rate=snakemake.params.max_failure_rate,
    )
