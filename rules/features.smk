# From clips to features: one rule for each extractor of the registry, one store per shard.


# What the files are, for the provenance of features; that they fit was seen while planning (avpipe.plan.requirements).
rule check_weights:
    input:
        files=ask(features.weight_files, check=require_to_make),
    output:
        "<results>/{dataset}/weights/{extractor}.json",
    log:
        "<logs>/check_weights/{dataset}/{extractor}.log",
    benchmark:
        "<benchmarks>/check_weights/{dataset}/{extractor}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(4000),
        runtime=grows(20),
    params:
        stage=versions.CHECK_WEIGHTS,
        weights=ask(features.weights),
        pca=ask(features.pca),
        digests=ask(features.digests),
        state=ask(features.weights_state),
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
            weights=partial(checked_weights, extractor=_extractor),
            converted=branch(
                ask(media.reads_converted, extractor=_extractor),
                then=["<results>/{dataset}/converted/{shard}", "<results>/{dataset}/converted/{shard}.parquet"],
            ),
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
            gpu=ask(features.gpus) if _entry.has_weights else 0,
            mem_mb=grows(_entry.resources.mem_mb),
            runtime=grows(_entry.resources.runtime),
        params:
            stage=_entry.stage,
            settings=ask(features.extractor_settings, extractor=_extractor),
            batch_size=not_compared(ask(features.batch_size, extractor=_extractor)),
            media=ask(media.preparation, extractor=_extractor),
            weights=ask(features.weights, check=require_to_make, extractor=_extractor),
            pca=ask(features.pca, extractor=_extractor),
            device=not_compared(PROJECT.config.device),
            timeout=not_compared(PROJECT.config.clip_timeout_seconds),
        message:
            f"Extracting {_entry.title} features of {{wildcards.dataset}}, shard {{wildcards.shard}}"
        script:
            "../workflow/scripts/extract_features.py"
