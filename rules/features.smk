# From clips to features: one rule per extractor, one store per shard.


# First of all: a wrong file should be known before anything is decoded.
rule check_weights:
    input:
        files=get_weights_file,
    output:
        "<results>/{dataset}/weights/{extractor}.json",
    log:
        "<logs>/check_weights/{dataset}/{extractor}.log",
    benchmark:
        "<benchmarks>/check_weights/{dataset}/{extractor}.tsv"
    priority: 100
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=4000,
        runtime="20m",
    params:
        weights=lambda wildcards: get_weights(wildcards.extractor)(wildcards),
        pca=lambda wildcards: get_pca(wildcards.extractor)(wildcards),
    message:
        "Checking the weights of {wildcards.extractor} for {wildcards.dataset}"
    script:
        "../workflow/scripts/check_weights.py"


rule extract_c3d:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/c3d.json",
        # Order only: no clip is decoded for one network while another's weights are wrong.
        all_weights=ancient(get_weights_checks),
        converted=get_converted,
    output:
        store=update("<results>/{dataset}/features/c3d/{shard}.h5"),
        status="<results>/{dataset}/features/c3d/{shard}.status.parquet",
    log:
        "<logs>/extract_c3d/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_c3d/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 4
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="12h",
    params:
        stage=stages.C3D,
        settings=get_leaf("features", "c3d"),
        media=get_media,
        weights=get_weights("c3d"),
        pca=get_pca("c3d"),
        device=PLAN.config.device,
        timeout=PLAN.config.clip_timeout_seconds,
    message:
        "Extracting C3D features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_c3d.py"


rule extract_vggish:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/vggish.json",
        # Order only: no clip is decoded for one network while another's weights are wrong.
        all_weights=ancient(get_weights_checks),
        converted=get_converted,
    output:
        store=update("<results>/{dataset}/features/vggish/{shard}.h5"),
        status="<results>/{dataset}/features/vggish/{shard}.status.parquet",
    log:
        "<logs>/extract_vggish/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_vggish/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="4h",
    params:
        stage=stages.VGGISH,
        settings=get_leaf("features", "vggish"),
        media=get_media,
        weights=get_weights("vggish"),
        pca=get_pca("vggish"),
        device=PLAN.config.device,
        timeout=PLAN.config.clip_timeout_seconds,
    message:
        "Extracting VGGish features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_vggish.py"
