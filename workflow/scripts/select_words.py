"""Select word vectors for the captions of a pack."""

from typing import TYPE_CHECKING


from avpipe.logs import job_logging, job_name
from avpipe.retrieval.packs import caption_sentences
from avpipe.retrieval.text import select_words

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    select_words(snakemake.input.model, caption_sentences(snakemake.input.pack), snakemake.output[0])
