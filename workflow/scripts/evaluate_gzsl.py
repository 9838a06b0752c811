"""Test a method trained with every seed on one benchmark."""

from typing import TYPE_CHECKING

from avpipe.jobs.gzsl_methods import Experiment, evaluate_method
from avpipe.jobs.job import run_job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
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
