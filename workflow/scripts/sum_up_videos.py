"""Count the videos of a dataset that are to be had."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import sum_up_videos
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    sum_up_videos(snakemake.params.source, snakemake.input.tables, snakemake.output[0])
