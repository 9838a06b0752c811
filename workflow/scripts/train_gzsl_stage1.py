"""Train stage 1 of a method on one benchmark with one seed."""

from typing import TYPE_CHECKING

from avpipe.gzsl.jobs import train_stage
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    train_stage(
        1,
        tree=snakemake.input.tree,
        method=snakemake.wildcards.method,
        text=snakemake.wildcards.text,
        hyperparameters=snakemake.params.hyperparameters,
        training=snakemake.params.training,
        seed=int(snakemake.wildcards.seed),
        device=snakemake.params.device,
        threads=snakemake.threads,
        target=snakemake.output.stage,
    )
