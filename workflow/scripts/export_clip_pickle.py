"""Write a pack as a clip pickle of the published code."""

from typing import TYPE_CHECKING

from avpipe.logs import job_logging, job_name
from avpipe.retrieval.packs import read_pack
from avpipe.retrieval.published_packs import write_clip_pickle

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    write_clip_pickle(read_pack(snakemake.input[0]), snakemake.output[0], layout="youcook")
