"""Select word vectors for the captions of whole videos."""

from typing import TYPE_CHECKING

from avpipe.jobs.retrieval import select_window_words
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    select_window_words(snakemake.params.captions, snakemake.params.model, snakemake.output[0])
