"""Pack the clips of a subset: of the source, or of a clip pickle or pack that was given."""

from typing import TYPE_CHECKING

from avpipe.jobs.job import run_job
from avpipe.jobs.retrieval import import_pack, pack_subset

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with run_job(snakemake):
    made, window = snakemake.output, snakemake.params.audio_frames
    if snakemake.input.given:
        expected = snakemake.params.expected
        import_pack(snakemake.input.given, window=window, target=made.pack, summary=made.summary, expected=expected)
    else:
        pack_subset(
            source=snakemake.params.source,
            made_folder=snakemake.params.made_folder,
            subset=snakemake.wildcards.subset,
            digest=snakemake.params.digest,
            stores={name: snakemake.input[name] for name in ("video_2d", "video_3d", "audio")},
            probes=snakemake.input.probes,
            statuses=snakemake.input.statuses,
            min_audio_frames=snakemake.params.min_audio_frames,
            window=window,
            target=made.pack,
            summary=made.summary,
        )
