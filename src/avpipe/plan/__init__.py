"""What the Snakefile asks before any job runs: clips, shards, files, and everything that is missing.

A module for each file in rules/ answers that file's questions: functions of a `Project` and of wildcards. What a
dataset needs is checked by `avpipe.plan.requirements`. Nothing here imports Snakemake, torch or a media library: it is
read at every start of Snakemake.
"""

from avpipe.plan.paths import Paths
from avpipe.plan.project import Project

__all__ = ["Paths", "Project"]
