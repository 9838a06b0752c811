"""Extract the features of one shard; the rule is named after the extractor."""

from typing import TYPE_CHECKING

from avpipe.jobs.features import extract_features
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    extractor = snakemake.rule.removeprefix("extract_")
    extract_features(extractor, snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
