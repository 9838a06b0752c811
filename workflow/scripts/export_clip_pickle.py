"""Write a pack as a clip pickle of the published code."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import export_clip_pickle

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    export_clip_pickle(snakemake.input[0], snakemake.output[0])
