"""Make the videos and class vectors of an embedded dataset for zero-shot learning."""

from pathlib import Path
from typing import TYPE_CHECKING

from avpipe.demo.datasets import ZERO_SHOT
from avpipe.jobs.inventory import make_demo
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    dataset = ZERO_SHOT[snakemake.wildcards.demo]
    make_demo(Path(snakemake.output.videos).parent, dataset, workers=snakemake.threads)
