"""Write a class split, read or drawn, in the published layout."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import write_split
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Snakemake hands over an input that a dataset lacks as an empty list.
with run_job(snakemake):
    write_split(
        class_split=snakemake.params.class_split,
        own_split=snakemake.params.own_split,
        probes=snakemake.input.probes,
        name=snakemake.wildcards.split,
        dataset=snakemake.wildcards.dataset,
        names=snakemake.input.names,
        target=snakemake.output[0],
    )
