# Videos that an annotation or a table names: what became of each, and fetching those that are not there.


# On the machine that Snakemake runs on: nodes of a cluster may have no way to the network.
rule fetch_videos:
    output:
        table=update("<results>/{dataset}/sources/{shard}.parquet"),
    log:
        "<logs>/fetch_videos/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/fetch_videos/{dataset}/{shard}.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="1d",
        downloads=1,
    params:
        stage=versions.FETCH_VIDEOS,
        videos=ask(videos.digest, check=require_to_make),
        mode=ask(videos.mode),
        source=not_compared(setting("source")),
        made_folder=not_compared(ask(Project.made_folder)),
        n_shards=setting("n_shards"),
        require_audio=setting("require_audio"),
        downloads=not_compared(PROJECT.config.downloads.model_dump()),
        hosts=not_compared(PATHS.hosts()),
    message:
        "Fetching the videos of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/fetch_videos.py"


rule sum_up_videos:
    input:
        tables=all_of("<results>/{dataset}/sources/{shard}.parquet", shard=ask(inventory.shards, check=require)),
    output:
        "<results>/{dataset}/availability.json",
    log:
        "<logs>/sum_up_videos/{dataset}.log",
    benchmark:
        "<benchmarks>/sum_up_videos/{dataset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(20),
    params:
        stage=versions.SUM_UP_VIDEOS,
        source=setting("source"),
    message:
        "Counting the videos of {wildcards.dataset} that are to be had"
    script:
        "../workflow/scripts/sum_up_videos.py"
