# Cutting clips out of files and bringing them to 25 fps, in file mode; stream mode does both while decoding.
# The clips are deleted once their features are there; --notemp keeps them.


rule trim_clips:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
    output:
        clips=temp(directory("<results>/{dataset}/trimmed/{shard}")),
        status="<results>/{dataset}/trimmed/{shard}.parquet",
    log:
        "<logs>/trim_clips/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/trim_clips/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        mem_mb=grows(2000),
        runtime=grows(240),
    params:
        stage=versions.TRIM,
        timeout=PROJECT.config.clip_timeout_seconds,
    message:
        "Cutting the clips of {wildcards.dataset}, shard {wildcards.shard}, out of their files"
    script:
        "../workflow/scripts/trim_clips.py"


rule convert_fps:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights=lambda wildcards: [
            checked_weights(wildcards, each) for each in media.converted_extractors(PROJECT, wildcards.dataset)
        ],
        trimmed=branch(
            ask(media.is_trimmed),
            then=["<results>/{dataset}/trimmed/{shard}", "<results>/{dataset}/trimmed/{shard}.parquet"],
        ),
    output:
        clips=temp(directory("<results>/{dataset}/converted/{shard}")),
        status="<results>/{dataset}/converted/{shard}.parquet",
    log:
        "<logs>/convert_fps/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/convert_fps/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        mem_mb=grows(2000),
        runtime=grows(240),
    params:
        stage=versions.CONVERT_FPS,
        rate_hz=setting("features.c3d.rate_hz"),
        frame_rate=setting("frame_rate"),
        consumers=ask(media.consumers),
        timeout=PROJECT.config.clip_timeout_seconds,
    message:
        "Converting the clips of {wildcards.dataset}, shard {wildcards.shard}, to {params.rate_hz} fps"
    script:
        "../workflow/scripts/convert_fps.py"
