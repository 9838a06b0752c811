"""Fail when too many clips of a dataset are missing or damaged."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import check_failure_rate
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    check_failure_rate(snakemake.input[0], snakemake.params.max_failure_rate, snakemake.output[0])
