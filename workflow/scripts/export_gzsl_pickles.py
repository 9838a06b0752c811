"""Write a feature set as the caches and the feature pickle that the published code reads."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import export_pickles
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    export_pickles(
        class_split=snakemake.input.class_split,
        split=snakemake.wildcards.split,
        tree=snakemake.input.tree,
        target=snakemake.output[0],
    )
