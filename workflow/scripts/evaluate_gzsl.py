"""Test a method trained with every seed on one benchmark."""

from typing import TYPE_CHECKING

from avpipe.gzsl.jobs import evaluate_seeds
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    evaluate_seeds(
        tree=snakemake.input.tree,
        method=snakemake.wildcards.method,
        text=snakemake.wildcards.text,
        hyperparameters=snakemake.params.hyperparameters,
        checkpoints=snakemake.input.checkpoints,
        device=snakemake.params.device,
        threads=snakemake.threads,
        target=snakemake.output[0],
    )
