"""Bring the clips of one shard to the frame rate of the extractors."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.media import convert_fps

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    params = snakemake.params
    convert_fps(
        snakemake.input.probe,
        snakemake.output.clips,
        snakemake.output.status,
        consumers=params.consumers,
        weights_checks=snakemake.input.weights,
        trimmed=snakemake.input.trimmed or None,
        rate_hz=params.rate_hz,
        crf=params.frame_rate["crf"],
        workers=snakemake.threads,
        timeout_seconds=params.timeout,
    )
