"""Select word vectors for the captions of a pack."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import select_pack_words

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    select_pack_words(snakemake.input.pack, snakemake.params.model, snakemake.output[0])
