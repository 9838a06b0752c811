"""Write a feature set as the caches and the feature pickle that the published code reads."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import export_pickles
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    export_pickles(
        class_split=snakemake.input.class_split,
        split=snakemake.wildcards.split,
        tree=snakemake.input.tree,
        target=snakemake.output[0],
    )
