"""Check that a weights file fits its network."""

from typing import TYPE_CHECKING

from avpipe.jobs.features import check_weights
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    params = snakemake.params
    check_weights(
        snakemake.wildcards.extractor, params.weights, params.pca, snakemake.output[0], digests=params.digests
    )
