"""Extract the features of one shard; the rule is named after the extractor."""

from typing import TYPE_CHECKING

from avpipe.jobs.features import extract_features
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    extractor = snakemake.rule.removeprefix("extract_")
    extract_features(extractor, snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
