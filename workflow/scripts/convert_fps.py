"""Bring the clips of one shard to the frame rate of the extractors."""

from typing import TYPE_CHECKING

from avpipe.features.shards import clips_to_convert
from avpipe.logs import job_logging, job_name
from avpipe.media.prepare import convert_shard

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    params = snakemake.params
    convert_shard(
        snakemake.input.probe,
        snakemake.output.clips,
        snakemake.output.status,
        wanted=clips_to_convert(snakemake.input.probe, params.consumers, snakemake.input.weights),
        trimmed=snakemake.input.trimmed or None,
        rate_hz=params.rate_hz,
        crf=params.frame_rate["crf"],
        workers=snakemake.threads,
        timeout_seconds=params.timeout,
    )
