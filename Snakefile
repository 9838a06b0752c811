# avpipe: raw videos to audio-visual research results.
#
#   snakemake --cores N results/<dataset>/eval.json
#
# results/    everything the workflow makes, each file with a manifest that says what made it
# resources/  what is downloaded or generated before a dataset's videos can be listed
# Both can lie elsewhere: docs/workflow.md.
import sys

from snakemake.pathvars import Pathvars
from snakemake.utils import min_version

from avpipe.config.yaml_files import check_config_files
from avpipe.errors import AvpipeError
from avpipe.settings import expand_home

min_version("9.27")

try:
    check_config_files(["config/config.yaml"])
except AvpipeError as error:
    sys.exit(str(error))


configfile: "config/config.yaml"


# Snakemake leaves ~ as it is and would make a folder of that name.
workflow.pathvars.update(
    Pathvars.from_config(
        {"pathvars": {name: expand_home(folder) for name, folder in (config.get("pathvars") or {}).items()}}
    )
)


pathvars:
    results="results",
    resources="resources",
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "rules/common.smk"
include: "rules/provenance.smk"
include: "rules/videos.smk"
include: "rules/inventory.smk"
include: "rules/media.smk"
include: "rules/features.smk"
include: "rules/gzsl.smk"
include: "rules/retrieval.smk"


rule all:
    default_target: True
    input:
        collect("<results>/{dataset}/eval.json", dataset="demo"),
