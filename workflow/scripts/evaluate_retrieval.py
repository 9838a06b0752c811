"""Test a retrieval run on every gallery."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import RunJob, evaluate_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    names = list(snakemake.params.tests)
    # Snakemake hands over an input that a run lacks as an empty list.
    words = dict(zip(names, snakemake.input.words, strict=True)) if snakemake.input.words else {}
    evaluate_run(
        RunJob(**snakemake.params.job),
        packs=dict(zip(names, snakemake.input.packs, strict=True)),
        tests=snakemake.params.tests,
        words=words,
        start=snakemake.params.start,
        training=snakemake.input.training or None,
        device=snakemake.params.device,
        threads=snakemake.threads,
        target=snakemake.output[0],
    )
