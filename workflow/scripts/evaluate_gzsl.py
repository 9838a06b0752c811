"""Test a method trained with every seed on one benchmark."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl import Experiment, evaluate_method
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    experiment = Experiment(
        class_split=snakemake.input.class_split,
        split=snakemake.wildcards.split,
        tree=snakemake.input.tree,
        method=snakemake.wildcards.method,
        form=snakemake.wildcards.form,
        **snakemake.params.experiment,
    )
    evaluate_method(
        experiment,
        device=snakemake.params.device,
        threads=snakemake.threads,
        training=snakemake.input.training,
        target=snakemake.output[0],
    )
