"""Make class vectors from a word2vec, GloVe or fastText file."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import make_words
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    make_words(
        model=snakemake.input.model,
        names=snakemake.input.class_split,
        kind=snakemake.params.kind,
        target=snakemake.output[0],
    )
