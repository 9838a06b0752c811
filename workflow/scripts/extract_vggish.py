"""Extract the VGGish features of one shard."""

from typing import TYPE_CHECKING

from avpipe.features.shards import extract_shard, request_shard
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    params = snakemake.params
    request = request_shard(
        "vggish",
        probe=snakemake.input.probe,
        weights_check=snakemake.input.weights,
        converted=snakemake.input.converted or None,
        settings=params.settings,
        weights=params.weights,
        pca=params.pca,
        media=params.media,
    )
    extract_shard(
        request,
        snakemake.output.store,
        snakemake.output.status,
        device=params.device,
        threads=snakemake.threads,
        clip_timeout_seconds=params.timeout,
    )
