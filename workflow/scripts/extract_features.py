"""Extract the features of one shard; the folder of its store is named after the extractor."""

from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.jobs.features import extract_features
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    extractor = Path(snakemake.output.store).parent.name  # a workflow that imports the rule gives it another name
    extract_features(extractor, snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
