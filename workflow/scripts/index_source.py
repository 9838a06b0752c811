"""List the clips of one shard."""

from typing import TYPE_CHECKING

from avpipe.config.models import validate_source
from avpipe.inventory.shards import index_shard, list_source, split_into_shards
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    clips = list_source(validate_source(snakemake.params.source), snakemake.params.made_folder)
    shard = split_into_shards(clips, snakemake.params.n_shards)[int(snakemake.wildcards.shard)]
    index_shard(shard, snakemake.params.listing, snakemake.output[0])
