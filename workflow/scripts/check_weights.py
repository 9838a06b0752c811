"""Check that a weights file fits its network."""

from typing import TYPE_CHECKING

from avpipe.jobs.features import check_weights
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    params = snakemake.params
    check_weights(
        snakemake.wildcards.extractor, params.weights, params.pca, snakemake.output[0], digests=params.digests
    )
