"""Make the videos and class vectors of the embedded dataset."""

from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.jobs.inventory import make_demo
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    make_demo(Path(snakemake.output.videos).parent, workers=snakemake.threads)
