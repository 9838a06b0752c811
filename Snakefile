# avpipe: raw videos to audio-visual research results.
#
#   snakemake --cores N results/<dataset>/eval.json
#
# results/    everything the workflow makes, each file with a manifest that says what made it
# resources/  what is downloaded or generated before a dataset's videos can be listed
# Both can lie elsewhere: docs/workflow.md.
from snakemake.utils import min_version

min_version("9.27")


pathvars:
    results="results",
    resources="resources",
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "rules/places.smk"


# The first of all, which is what runs where no target is named, unless a workflow that imports these has its own before.
rule all:
    input:
        collect("<results>/{dataset}/eval.json", dataset="demo"),


include: "rules/common.smk"
include: "rules/provenance.smk"
include: "rules/files.smk"
include: "rules/videos.smk"
include: "rules/inventory.smk"
include: "rules/media.smk"
include: "rules/features.smk"
include: "rules/gzsl.smk"
include: "rules/retrieval.smk"
