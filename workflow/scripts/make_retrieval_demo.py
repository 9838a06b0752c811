"""Make the films, tables and word vectors of the embedded dataset for retrieval."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import make_retrieval_demo
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    make_retrieval_demo(snakemake.output[0], workers=snakemake.threads)
