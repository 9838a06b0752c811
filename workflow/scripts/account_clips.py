"""Say what became of every clip of a dataset."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import account
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    params = snakemake.params
    account(
        snakemake.input.probes,
        snakemake.input.statuses,
        snakemake.output[0],
        folder=params.folder,
        uses_repeats=params.uses_repeats,
        passed_over=params.passed_over,
    )
