"""Fail when too many clips of a dataset are missing or damaged."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import check_failure_rate
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    check_failure_rate(snakemake.input[0], snakemake.params.max_failure_rate, snakemake.output[0])
