"""What the Snakefile asks before any job runs: clips, shards, paths, and everything that is missing.

Nothing here imports Snakemake, torch or a media library: it is read at every start of Snakemake.
"""

from avpipe.plan.workflow import Plan

__all__ = ["Plan"]
