"""Make class vectors from a word2vec, GloVe or fastText file."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import make_words
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    make_words(
        model=snakemake.input.model,
        names=snakemake.input.class_split,
        kind=snakemake.params.kind,
        target=snakemake.output[0],
    )
