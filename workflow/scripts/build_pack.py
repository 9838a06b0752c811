"""Pack the clips of a subset: from feature stores, or from a clip pickle or pack that was given."""

from typing import TYPE_CHECKING

from avpipe.config.models import validate_source
from avpipe.logs import job_logging, job_name
from avpipe.retrieval.pack_jobs import pack_extracted, pack_given

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job_logging(snakemake.log[0], job_name(snakemake.rule, snakemake.wildcards)):
    common = {
        "pack": snakemake.output.pack,
        "summary": snakemake.output.summary,
        "expected": snakemake.params.expected,
        "audio_frames": snakemake.params.audio_frames,
    }
    if snakemake.input.given:
        pack_given(snakemake.input.given, **common)
    else:
        pack_extracted(
            source=validate_source(snakemake.params.source),
            made_folder=snakemake.params.made_folder,
            subset=snakemake.wildcards.subset,
            digest=snakemake.params.digest,
            stores={name: snakemake.input[name] for name in ("video_2d", "video_3d", "audio")},
            probes=snakemake.input.probes,
            statuses=snakemake.input.statuses,
            min_audio_frames=snakemake.params.min_audio_frames,
            **common,
        )
