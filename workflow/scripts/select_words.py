"""Select word vectors for the captions of a pack."""

from typing import TYPE_CHECKING

from avpipe.logs import job_logging, job_name
from avpipe.retrieval.pack_jobs import select_pack_words

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    select_pack_words(snakemake.input.pack, snakemake.params.model, snakemake.output[0])
