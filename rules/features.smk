# From clips to features: one rule for each extractor of the registry, one store per shard.


# What the files are, for the provenance of features; that they fit was seen while planning (Plan.require).
rule check_weights:
    input:
        files=get_weights_file,
    output:
        "<results>/{dataset}/weights/{extractor}.json",
    log:
        "<logs>/check_weights/{dataset}/{extractor}.log",
    benchmark:
        "<benchmarks>/check_weights/{dataset}/{extractor}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=4000,
        runtime="20m",
    params:
        weights=lambda wildcards: get_weights(wildcards.extractor)(wildcards),
        pca=lambda wildcards: get_pca(wildcards.extractor)(wildcards),
        digests=lambda wildcards: PLAN.digests(wildcards.extractor),
        state=get_weights_state,
    message:
        "Checking the weights of {wildcards.extractor} for {wildcards.dataset}"
    script:
        "../workflow/scripts/check_weights.py"


for _extractor, _entry in EXTRACTORS.items():

    rule:
        name:
            f"extract_{_extractor}"
        input:
            probe="<results>/{dataset}/probe/{shard}.parquet",
            weights=f"<results>/{{dataset}}/weights/{_extractor}.json",
            converted=get_converted(_extractor),
        output:
            store=update(f"<results>/{{dataset}}/features/{_extractor}/{{shard}}.h5"),
            status=f"<results>/{{dataset}}/features/{_extractor}/{{shard}}.status.parquet",
        log:
            f"<logs>/extract_{_extractor}/{{dataset}}/{{shard}}.log",
        benchmark:
            f"<benchmarks>/extract_{_extractor}/{{dataset}}/{{shard}}.tsv"
        conda:
            "../envs/avpipe.yaml"
        threads: _entry.resources.threads
        resources:
            gpu=get_gpus if _entry.has_weights else 0,
            mem_mb=_entry.resources.mem_mb,
            runtime=_entry.resources.runtime,
        params:
            stage=_entry.stage,
            settings=get_settings(_extractor),
            batch_size=get_batch_size(_extractor),
            media=get_media(_extractor),
            weights=get_weights(_extractor),
            pca=get_pca(_extractor),
            device=get_device,
            timeout=get_timeout,
        message:
            f"Extracting {_entry.title} features of {{wildcards.dataset}}, shard {{wildcards.shard}}"
        script:
            "../workflow/scripts/extract_features.py"
