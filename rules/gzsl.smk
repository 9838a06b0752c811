# Generalised zero-shot learning: folder tree of a split, two training stages, evaluation, eval.json.


rule account_clips:
    input:
        probes=all_made("{place}/probe/{shard}.parquet", shard=ask(inventory.shards)),
        statuses=all_made(
            "{place}/features/{extractor}/{shard}.status.parquet",
            extractor=ask(features.extractors),
            shard=ask(inventory.shards),
        ),
    output:
        "<results>/{dataset}/accounting.json",
    log:
        "<logs>/account_clips/{dataset}.log",
    benchmark:
        "<benchmarks>/account_clips/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=versions.ACCOUNT,
        folder=ask(inventory.source_folder),
        uses_repeats=ask(gzsl.uses_repeats),
        passed_over=ask(inventory.passed_over),
    message:
        "Accounting for every clip of {wildcards.dataset}"
    script:
        "../workflow/scripts/account_clips.py"


rule check_failure_rate:
    input:
        "<results>/{dataset}/accounting.json",
    output:
        "<results>/{dataset}/failure_rate.json",
    log:
        "<logs>/check_failure_rate/{dataset}.log",
    benchmark:
        "<benchmarks>/check_failure_rate/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        max_failure_rate=setting("max_failure_rate"),
    message:
        "Checking how many clips of {wildcards.dataset} are missing or damaged"
    script:
        "../workflow/scripts/check_failure_rate.py"


rule write_class_split:
    input:
        files=ask(gzsl.split_files, check=require_gzsl),
        names=ask(gzsl.names_files),
        probes=all_made("{place}/probe/{shard}.parquet", shard=ask(gzsl.split_shards)),
    output:
        directory("<results>/{dataset}/gzsl/{split}/class-split"),
    log:
        "<logs>/write_class_split/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/write_class_split/{dataset}/{split}.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=versions.GZSL_TREE,
        class_split=ask(gzsl.class_split),
        own_split=ask(gzsl.own_split),
    message:
        "Writing the class split {wildcards.split} of {wildcards.dataset}"
    script:
        "../workflow/scripts/write_class_split.py"


rule make_word_vectors:
    input:
        model=setting("gzsl.word_model"),
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
    output:
        "<results>/{dataset}/gzsl/{split}/word_embeddings_{dataset}_normed.npy",
    log:
        "<logs>/make_word_vectors/{dataset}/{split}.log",
    benchmark:
        "<benchmarks>/make_word_vectors/{dataset}/{split}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(16000),
        runtime=grows(60),
    params:
        stage=versions.WORD_VECTORS,
        kind=setting("gzsl.word_model_kind"),
    message:
        "Making class vectors of {wildcards.dataset}, {wildcards.split}, from {input.model}"
    script:
        "../workflow/scripts/make_word_vectors.py"


rule build_gzsl_tree:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        words=files(ask(gzsl.class_vectors, check=require_gzsl)),
        published=files(ask(gzsl.published_features)),
        probes=all_made("{place}/probe/{shard}.parquet", shard=ask(gzsl.extracted_shards)),
        statuses=all_made(
            "{place}/features/{extractor}/{shard}.status.parquet",
            extractor=ask(gzsl.extractors_of),
            shard=ask(gzsl.extracted_shards),
        ),
        video=all_made(
            "{place}/features/{extractor}/{shard}.h5",
            extractor=setting("gzsl.feature_sets.{features}.video"),
            shard=ask(gzsl.extracted_shards),
        ),
        audio=all_made(
            "{place}/features/{extractor}/{shard}.h5",
            extractor=setting("gzsl.feature_sets.{features}.audio"),
            shard=ask(gzsl.extracted_shards),
        ),
    output:
        tree=directory("<results>/{dataset}/gzsl/{split}/features/{features}"),
        summary="<results>/{dataset}/gzsl/{split}/{features}.json",
    log:
        "<logs>/build_gzsl_tree/{dataset}/{split}/{features}.log",
    benchmark:
        "<benchmarks>/build_gzsl_tree/{dataset}/{split}/{features}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        stage=versions.GZSL_TREE,
        published_state=ask(gzsl.published_state),
        max_failure_rate=not_compared(setting("max_failure_rate")),
    message:
        "Building the folder tree of {wildcards.dataset}, {wildcards.split}, {wildcards.features}"
    script:
        "../workflow/scripts/build_gzsl_tree.py"


rule export_gzsl_pickles:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
    output:
        directory("<results>/{dataset}/gzsl/{split}/published/{features}"),
    log:
        "<logs>/export_gzsl_pickles/{dataset}/{split}/{features}.log",
    benchmark:
        "<benchmarks>/export_gzsl_pickles/{dataset}/{split}/{features}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(16000),
        runtime=grows(60),
    params:
        stage=versions.GZSL_TREE,
    message:
        "Writing {wildcards.dataset}, {wildcards.split}, {wildcards.features} as pickles that the published code reads"
    script:
        "../workflow/scripts/export_gzsl_pickles.py"


rule train_gzsl:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
    output:
        # It lists the seeds' checkpoints beside it, which a job that stops must leave for the next: no outputs.
        "<results>/{dataset}/runs/{split}/{features}/{method}/{form}/training.json",
    log:
        "<logs>/train_gzsl/{dataset}/{split}/{features}/{method}/{form}.log",
    benchmark:
        "<benchmarks>/train_gzsl/{dataset}/{split}/{features}/{method}/{form}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        gpu=ask(features.gpus),
        mem_mb=grows(8000),
        runtime=grows(1440),
    params:
        stage=versions.GZSL_TRAIN,
        experiment=ask(gzsl.experiment),
        device=not_compared(PROJECT.config.device),
    message:
        "Training {wildcards.method} ({wildcards.form}) on {wildcards.dataset}, {wildcards.split}, "
        "{wildcards.features}"
    script:
        "../workflow/scripts/train_gzsl.py"


rule evaluate_gzsl:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
        training="<results>/{dataset}/runs/{split}/{features}/{method}/{form}/training.json",
    output:
        "<results>/{dataset}/runs/{split}/{features}/{method}/{form}/evaluation.json",
    log:
        "<logs>/evaluate_gzsl/{dataset}/{split}/{features}/{method}/{form}.log",
    benchmark:
        "<benchmarks>/evaluate_gzsl/{dataset}/{split}/{features}/{method}/{form}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        gpu=ask(features.gpus),
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        stage=versions.GZSL_EVALUATE,
        experiment=ask(gzsl.experiment),
        device=not_compared(PROJECT.config.device),
    message:
        "Testing {wildcards.method} ({wildcards.form}) on {wildcards.dataset}, {wildcards.split}, "
        "{wildcards.features}"
    script:
        "../workflow/scripts/evaluate_gzsl.py"


rule write_eval:
    input:
        evaluations=all_of(
            "<results>/{dataset}/runs/{experiment}/evaluation.json",
            experiment=ask(gzsl.experiments, check=require_gzsl),
        ),
        trees=all_of("<results>/{dataset}/gzsl/{benchmark}.json", benchmark=ask(gzsl.benchmarks)),
        accounting=branch(ask(features.uses_videos), then="<results>/{dataset}/accounting.json"),
        failure_rate=branch(ask(features.uses_videos), then="<results>/{dataset}/failure_rate.json"),
        weights=all_made("{place}/weights/{extractor}.json", extractor=ask(features.extractors)),
        published=PUBLISHED_GZSL,
    output:
        eval="<results>/{dataset}/eval.json",
        page=report("<results>/{dataset}/report.html", category="Results"),
        table=report("<results>/{dataset}/eval.md", category="Results"),
        figure=report("<results>/{dataset}/eval.svg", category="Results"),
        curves=report("<results>/{dataset}/beta_curves.svg", category="Results"),
    log:
        "<logs>/write_eval/{dataset}.log",
    benchmark:
        "<benchmarks>/write_eval/{dataset}.tsv"
    wildcard_constraints:
        dataset=GZSL_DATASET,
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=versions.WRITE_EVAL,
        settings=setting(),
        fidelity=PROJECT.config.fidelity,
        features_from=ask(features_from.digests),
        benchmarks=not_compared(workflow.pathvars.apply("<benchmarks>")),
    message:
        "Writing {output.eval}"
    script:
        "../workflow/scripts/write_eval.py"


rule write_gzsl_table:
    input:
        evals=all_of("<results>/{dataset}/eval.json", dataset=ask(ready_datasets)),
        published=PUBLISHED_GZSL,
    output:
        csv=report("<results>/gzsl_table.csv", category="Results"),
        markdown=report("<results>/gzsl_table.md", category="Results"),
    log:
        "<logs>/write_gzsl_table.log",
    benchmark:
        "<benchmarks>/write_gzsl_table.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=versions.GZSL_TABLE,
        not_run=ask(lacking_datasets),
    message:
        "Writing {output.markdown}"
    script:
        "../workflow/scripts/write_gzsl_table.py"
