"""Fetch published files."""

from typing import TYPE_CHECKING

from avpipe.jobs.files import fetch_files
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    fetch_files(snakemake.params.name, snakemake.params.files, snakemake.params.pins, snakemake.output)
