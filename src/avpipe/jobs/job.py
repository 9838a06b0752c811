"""Around every job of the workflow: its log, and what the manifests of its results name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from avpipe.io.manifest import made_by
from avpipe.logs import job_logging, job_name


@contextmanager
def run_job(snakemake: Any) -> Iterator[None]:
    """Log a job as `avpipe.logs.job_logging` does, compare its inputs with their manifests, and name them in its own.

    Args:
        snakemake: the object that Snakemake gives a script. All its params but `stage` count as settings.
    """
    settings = dict(snakemake.params.items())
    stage = settings.pop("stage", snakemake.rule)
    asks_for = f"mem_mb={snakemake.resources.get('mem_mb')}, runtime={snakemake.resources.get('runtime')}"
    with (
        job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards), asks_for),
        made_by(stage, snakemake.input, settings),
    ):
        yield
