configfile: "config/config.yaml"


rule all:
    input:
        "av/results/demo/eval.json",


module avpipe:
    # A path, or github("<owner>/<repository>", path="Snakefile", tag="<version>").
    snakefile:
        config["snakefile"]
    config:
        config["avpipe"]
    prefix:
        "av"


use rule * from avpipe as avpipe_*
