"""Write the classes and clips of a split in the published layout."""

from typing import TYPE_CHECKING

from avpipe.gzsl.tree import publish_class_split
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    publish_class_split(
        snakemake.params.class_split, snakemake.wildcards.split, snakemake.input.names, snakemake.output[0]
    )
