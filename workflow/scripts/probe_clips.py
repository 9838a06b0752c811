"""Probe the files of one shard."""

from typing import TYPE_CHECKING

from avpipe.inventory.probing import Requirements, probe_shard
from avpipe.inventory.shards import read_inventory
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    requirements = Requirements(
        snakemake.params.require_audio, snakemake.params.min_seconds, snakemake.params.max_seconds
    )
    probe_shard(read_inventory(snakemake.input.inventory), requirements, snakemake.output.probe)
