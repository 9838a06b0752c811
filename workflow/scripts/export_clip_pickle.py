"""Write a pack as a clip pickle of the published code."""

from typing import TYPE_CHECKING

from avpipe.jobs.retrieval import export_clip_pickle
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    export_clip_pickle(snakemake.input[0], snakemake.output[0])
