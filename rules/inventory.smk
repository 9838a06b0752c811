# Which clips there are, and what is in their files.


rule make_demo:
    output:
        videos=directory("<resources>/{demo}/videos"),
        words="<resources>/{demo}/word_embeddings_demo_normed.npy",
    log:
        "<logs>/make_demo/{demo}.log",
    benchmark:
        "<benchmarks>/make_demo/{demo}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        stage=versions.MAKE_DEMO,
    message:
        "Making the videos of the embedded dataset {wildcards.demo}"
    script:
        "../workflow/scripts/make_demo.py"


rule make_retrieval_demo:
    output:
        directory("<resources>/demo_retrieval"),
    log:
        "<logs>/make_retrieval_demo.log",
    benchmark:
        "<benchmarks>/make_retrieval_demo.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        stage=versions.MAKE_RETRIEVAL_DEMO,
    message:
        "Making the films of the embedded dataset for retrieval"
    script:
        "../workflow/scripts/make_retrieval_demo.py"


rule index_source:
    input:
        made=EMBEDDED,
        sources=SOURCES,
    output:
        "<results>/{dataset}/inventory/{shard}.parquet",
    log:
        "<logs>/index_source/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/index_source/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(30),
    params:
        stage=versions.INDEX,
        source=setting("source"),
        n_shards=setting("n_shards"),
        listing=ask(inventory.listing, check=require_to_make),
        made_folder=ask(Project.made_folder),
        kept=not_compared(ask(inventory.kept_listing)),
    message:
        "Listing the clips of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/index_source.py"


rule probe_clips:
    input:
        inventory="<results>/{dataset}/inventory/{shard}.parquet",
        sources=SOURCES,
    output:
        probe=update("<results>/{dataset}/probe/{shard}.parquet"),
    log:
        "<logs>/probe_clips/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/probe_clips/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(120),
    params:
        stage=versions.PROBE,
        require_audio=setting("require_audio"),
        min_seconds=setting("min_seconds"),
        max_seconds=setting("max_seconds"),
    message:
        "Probing the files of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/probe_clips.py"
