"""Train a retrieval model with every seed."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import RunJob, train_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    if snakemake.input.pack:
        source = {"pack": snakemake.input.pack}
    elif snakemake.input.videos:
        source = {"howto100m": {**snakemake.params.whole_videos, "videos": snakemake.input.videos}}
    else:
        source = {"stores": {name: list(snakemake.input[name]) for name in ("video_2d", "video_3d", "audio")}}
        source |= {"probes": list(snakemake.input.probes), "statuses": list(snakemake.input.statuses)}
    # Snakemake hands over an input that a run lacks as an empty list.
    train_run(
        RunJob(**snakemake.params.job),
        source={**source, "captions": snakemake.params.captions},
        words=snakemake.input.words or None,
        start=snakemake.params.start,
        device=snakemake.params.device,
        threads=snakemake.threads,
        target=snakemake.output[0],
    )
