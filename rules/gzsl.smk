# Generalised zero-shot learning: folder tree of a split, two training stages, evaluation, eval.json.


rule account_clips:
    input:
        probes=get_shards("results/{dataset}/probe/{shard}.parquet"),
        statuses=get_statuses,
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
        max_failure_rate=get_leaf("max_failure_rate"),
    message:
        "Checking how many clips of {wildcards.dataset} are missing or damaged"
    script:
        "../workflow/scripts/check_failure_rate.py"


rule write_class_split:
    input:
        files=get_split_files,
        names=get_word_names,
        probes=get_split_probes,
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
        class_split=get_class_split,
        own_split=get_own_split,
    message:
        "Writing the class split {wildcards.split} of {wildcards.dataset}"
    script:
        "../workflow/scripts/write_class_split.py"


rule make_word_vectors:
    input:
        model=get_word_model,
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
        mem_mb=16000,
        runtime="1h",
    params:
        stage=versions.WORD_VECTORS,
        kind=get_leaf("gzsl", "word_model_kind"),
    message:
        "Making class vectors of {wildcards.dataset}, {wildcards.split}, from {input.model}"
    script:
        "../workflow/scripts/make_word_vectors.py"


rule build_gzsl_tree:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        words=get_words,
        published=get_published_features,
        inventories=get_set_shards("results/{dataset}/inventory/{shard}.parquet"),
        probes=get_set_shards("results/{dataset}/probe/{shard}.parquet"),
        statuses=get_set_statuses,
        video=get_stores("video"),
        audio=get_stores("audio"),
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
        mem_mb=8000,
        runtime="1h",
    params:
        stage=versions.GZSL_TREE,
        published_state=get_published_state,
        max_failure_rate=get_max_failure_rate,
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
        mem_mb=16000,
        runtime="1h",
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
        gpu=get_gpus,
        mem_mb=8000,
        runtime="24h",
    params:
        stage=versions.GZSL_TRAIN,
        experiment=get_experiment,
        device=get_device,
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
        gpu=get_gpus,
        mem_mb=8000,
        runtime="1h",
    params:
        stage=versions.GZSL_EVALUATE,
        experiment=get_experiment,
        device=get_device,
    message:
        "Testing {wildcards.method} ({wildcards.form}) on {wildcards.dataset}, {wildcards.split}, "
        "{wildcards.features}"
    script:
        "../workflow/scripts/evaluate_gzsl.py"


rule write_eval:
    input:
        evaluations=get_evaluations,
        trees=get_trees,
        accounting=get_accounting("accounting.json"),
        failure_rate=get_accounting("failure_rate.json"),
        weights=get_weights_checks,
        published=PUBLISHED,
    output:
        eval="<results>/{dataset}/eval.json",
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
        settings=lambda wildcards: PLAN.dataset(wildcards.dataset).model_dump(),
        fidelity=PLAN.config.fidelity,
    message:
        "Writing results/{wildcards.dataset}/eval.json"
    script:
        "../workflow/scripts/write_eval.py"


rule write_gzsl_table:
    input:
        evals=get_table_evals,
        published=PUBLISHED,
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
        not_run=lambda wildcards: PLAN.table_datasets()[1],
    message:
        "Writing results/gzsl_table.md"
    script:
        "../workflow/scripts/write_gzsl_table.py"
