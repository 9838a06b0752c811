"""Probe the files of one shard."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import probe_clips
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    probe_clips(
        snakemake.input.inventory,
        snakemake.output.probe,
        sources=snakemake.input.sources or None,
        require_audio=snakemake.params.require_audio,
        min_seconds=snakemake.params.min_seconds,
        max_seconds=snakemake.params.max_seconds,
    )
