"""Select word vectors for the captions of whole videos."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import select_window_words

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    select_window_words(snakemake.params.captions, snakemake.params.model, snakemake.output[0])
