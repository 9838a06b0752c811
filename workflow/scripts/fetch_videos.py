"""Fetch the videos of one shard."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import fetch_videos
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    params = snakemake.params
    fetch_videos(
        params.source,
        params.made_folder,
        params.n_shards,
        snakemake.wildcards.shard,
        snakemake.output.table,
        mode=params.mode,
        require_audio=params.require_audio,
        downloads=params.downloads,
        hosts=params.hosts,
    )
