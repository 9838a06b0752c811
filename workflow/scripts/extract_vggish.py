"""Extract VGGish features of one shard."""

from typing import TYPE_CHECKING

from avpipe.features.shards import extract_job
from avpipe.logs import job_logging, job_name

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    extract_job("vggish", snakemake.input, snakemake.output, snakemake.params, snakemake.threads)
