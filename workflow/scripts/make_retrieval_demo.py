"""Make the films, tables and word vectors of the embedded dataset for retrieval."""

from typing import TYPE_CHECKING

from avpipe.jobs.inventory import make_retrieval_demo
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    make_retrieval_demo(snakemake.output[0], workers=snakemake.threads)
