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
        stage=stages.GZSL_TREE,
        class_split=get_leaf("gzsl", "class_split"),
    message:
        "Writing the class split {wildcards.split} of {wildcards.dataset}"
    script:
        "../workflow/scripts/write_class_split.py"


rule build_gzsl_tree:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        words=get_words,
        probes=get_shards("results/{dataset}/probe/{shard}.parquet"),
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
        stage=stages.GZSL_TREE,
        max_failure_rate=get_max_failure_rate,
    message:
        "Building the folder tree of {wildcards.dataset}, {wildcards.split}, {wildcards.features}"
    script:
        "../workflow/scripts/build_gzsl_tree.py"


rule train_gzsl_stage1:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
    output:
        stage="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage1/stage.json",
        checkpoint="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage1/checkpoint.pt",
        epochs="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage1/epochs.csv",
    log:
        "<logs>/train_gzsl_stage1/{dataset}/{split}/{features}/{method}/{text}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_gzsl_stage1/{dataset}/{split}/{features}/{method}/{text}/seed{seed}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        gpu=get_gpus,
        mem_mb=8000,
        runtime="12h",
    params:
        stage=stages.GZSL_TRAIN,
        hyperparameters=get_leaf("gzsl", "methods", "{method}"),
        training=get_leaf("gzsl", "training"),
        device=PLAN.config.device,
    message:
        "Stage 1 of {wildcards.method} on {wildcards.dataset}, {wildcards.split}, {wildcards.features}, "
        "{wildcards.text} class vectors, seed {wildcards.seed}"
    script:
        "../workflow/scripts/train_gzsl_stage1.py"


rule train_gzsl_stage2:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
        stage1="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage1/stage.json",
    output:
        stage="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage2/stage.json",
        checkpoint="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage2/checkpoint.pt",
        epochs="<results>/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage2/epochs.csv",
    log:
        "<logs>/train_gzsl_stage2/{dataset}/{split}/{features}/{method}/{text}/seed{seed}.log",
    benchmark:
        "<benchmarks>/train_gzsl_stage2/{dataset}/{split}/{features}/{method}/{text}/seed{seed}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        gpu=get_gpus,
        mem_mb=8000,
        runtime="12h",
    params:
        stage=stages.GZSL_TRAIN,
        hyperparameters=get_leaf("gzsl", "methods", "{method}"),
        training=get_leaf("gzsl", "training"),
        device=PLAN.config.device,
    message:
        "Stage 2 of {wildcards.method} on {wildcards.dataset}, {wildcards.split}, {wildcards.features}, "
        "{wildcards.text} class vectors, seed {wildcards.seed}"
    script:
        "../workflow/scripts/train_gzsl_stage2.py"


rule evaluate_gzsl:
    input:
        class_split="<results>/{dataset}/gzsl/{split}/class-split",
        tree="<results>/{dataset}/gzsl/{split}/features/{features}",
        checkpoints=get_seeds(
            "results/{dataset}/runs/{split}/{features}/{method}/{text}/seed{seed}/stage2/checkpoint.pt"
        ),
    output:
        "<results>/{dataset}/runs/{split}/{features}/{method}/{text}/evaluation.json",
    log:
        "<logs>/evaluate_gzsl/{dataset}/{split}/{features}/{method}/{text}.log",
    benchmark:
        "<benchmarks>/evaluate_gzsl/{dataset}/{split}/{features}/{method}/{text}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        gpu=get_gpus,
        mem_mb=8000,
        runtime="1h",
    params:
        stage=stages.GZSL_EVALUATE,
        hyperparameters=get_leaf("gzsl", "methods", "{method}"),
        device=PLAN.config.device,
    message:
        "Evaluating {wildcards.method} on {wildcards.dataset}, {wildcards.split}, {wildcards.features}, "
        "{wildcards.text} class vectors"
    script:
        "../workflow/scripts/evaluate_gzsl.py"


rule write_eval:
    input:
        evaluations=get_evaluations,
        trees=get_trees,
        accounting="<results>/{dataset}/accounting.json",
        failure_rate="<results>/{dataset}/failure_rate.json",
        weights=get_weights_checks,
    output:
        eval="<results>/{dataset}/eval.json",
        table=report("<results>/{dataset}/eval.md", category="Results"),
        figure=report("<results>/{dataset}/eval.svg", category="Results"),
    log:
        "<logs>/write_eval/{dataset}.log",
    benchmark:
        "<benchmarks>/write_eval/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=stages.WRITE_EVAL,
        settings=lambda wildcards: PLAN.dataset(wildcards.dataset).model_dump(),
        fidelity=PLAN.config.fidelity,
    message:
        "Writing results/{wildcards.dataset}/eval.json"
    script:
        "../workflow/scripts/write_eval.py"
