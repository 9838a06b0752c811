"""List the clips of one shard."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import index_source
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    params = snakemake.params
    index_source(
        params.source,
        params.made_folder,
        params.n_shards,
        snakemake.wildcards.shard,
        params.listing,
        snakemake.output[0],
        params.kept,
    )
