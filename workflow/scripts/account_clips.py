"""Say what became of every clip of a dataset."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import account
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    params = snakemake.params
    account(
        snakemake.input.probes,
        snakemake.input.statuses,
        snakemake.output[0],
        folder=params.folder,
        uses_repeats=params.uses_repeats,
        passed_over=params.passed_over,
    )
