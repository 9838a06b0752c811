# Audio-video retrieval: packs of clips, training and tests of AVLnet's models, eval.json.


rule build_pack:
    input:
        given=get_given_pack,
        made=get_made_table,
        probes=get_pack_probes,
        statuses=get_pack_statuses,
        video_2d=get_pack_stores("video_2d"),
        video_3d=get_pack_stores("video_3d"),
        audio=get_pack_stores("audio"),
    output:
        pack="<results>/{dataset}/retrieval/packs/{subset}.h5",
        summary="<results>/{dataset}/retrieval/packs/{subset}.json",
    log:
        "<logs>/build_pack/{dataset}/{subset}.log",
    benchmark:
        "<benchmarks>/build_pack/{dataset}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=16000,
        runtime="2h",
    params:
        stage=versions.PACK,
        digest=get_subset_digest,
        source=get_source,
        made_folder=get_made_folder,
        min_audio_frames=get_retrieval_leaf("min_audio_frames"),
        audio_frames=get_retrieval_leaf("audio_frames"),
        expected=get_expected,
    message:
        "Packing the clips of {wildcards.dataset}, {wildcards.subset}"
    script:
        "../workflow/scripts/build_pack.py"


rule export_clip_pickle:
    input:
        "<results>/{dataset}/retrieval/packs/{subset}.h5",
    output:
        "<results>/{dataset}/retrieval/published/{subset}.pkl",
    log:
        "<logs>/export_clip_pickle/{dataset}/{subset}.log",
    benchmark:
        "<benchmarks>/export_clip_pickle/{dataset}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        stage=versions.PACK,
    message:
        "Writing {wildcards.dataset}, {wildcards.subset}, as a pickle that the published code reads"
    script:
        "../workflow/scripts/export_clip_pickle.py"


rule select_words:
    input:
        pack="<results>/{source}/retrieval/packs/{subset}.h5",
        model=get_file("word_vectors"),
        made=get_made_videos,
    output:
        "<results>/{dataset}/retrieval/words/{source}/{subset}.h5",
    log:
        "<logs>/select_words/{dataset}/{source}/{subset}.log",
    benchmark:
        "<benchmarks>/select_words/{dataset}/{source}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=8000,
        runtime="1h",
    params:
        stage=versions.CAPTION_WORDS,
        model=get_retrieval_leaf("word_vectors"),
    message:
        "Selecting word vectors of {wildcards.dataset} for the captions of {wildcards.source}, {wildcards.subset}"
    script:
        "../workflow/scripts/select_words.py"


rule select_window_words:
    input:
        captions=get_file("captions"),
        model=get_file("word_vectors"),
        made=get_made_videos,
    output:
        "<results>/{dataset}/retrieval/window_words.h5",
    log:
        "<logs>/select_window_words/{dataset}.log",
    benchmark:
        "<benchmarks>/select_window_words/{dataset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=32000,
        runtime="4h",
    params:
        stage=versions.CAPTION_WORDS,
        model=get_retrieval_leaf("word_vectors"),
        captions=get_retrieval_leaf("captions"),
    message:
        "Selecting word vectors for the captions of whole videos of {wildcards.dataset}"
    script:
        "../workflow/scripts/select_window_words.py"


rule train_retrieval:
    input:
        pack=get_training_pack,
        video_2d=get_window_stores("video_2d"),
        video_3d=get_window_stores("video_3d"),
        audio=get_window_stores("audio"),
        probes=get_window_probes,
        statuses=get_window_statuses,
        videos=get_video_list,
        captions=get_window_captions,
        words=get_training_words,
        start=get_start_file,
        made=get_made_videos,
    output:
        # It lists the seeds' checkpoints beside it, which a job that stops must leave for the next: no outputs.
        "<results>/{dataset}/retrieval/runs/{run}/{variant}/training.json",
    log:
        "<logs>/train_retrieval/{dataset}/{run}/{variant}.log",
    benchmark:
        "<benchmarks>/train_retrieval/{dataset}/{run}/{variant}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 16
    resources:
        gpu=get_run_gpus,
        mem_mb=32000,
        runtime="48h",
    params:
        stage=versions.RETRIEVAL_TRAIN,
        job=get_training_job,
        start=get_start,
        whole_videos=get_whole_videos,
        captions=get_captions_path,
        device=get_device,
    message:
        "Training {wildcards.run} ({wildcards.variant}) for retrieval on {wildcards.dataset}"
    script:
        "../workflow/scripts/train_retrieval.py"


rule evaluate_retrieval:
    input:
        packs=get_test_packs,
        words=get_test_words,
        training=get_training,
        start=get_untrained_start,
    output:
        "<results>/{dataset}/retrieval/runs/{run}/{variant}/evaluation.json",
    log:
        "<logs>/evaluate_retrieval/{dataset}/{run}/{variant}.log",
    benchmark:
        "<benchmarks>/evaluate_retrieval/{dataset}/{run}/{variant}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 16
    resources:
        gpu=get_gpus,
        mem_mb=16000,
        runtime="4h",
    params:
        stage=versions.RETRIEVAL_EVALUATE,
        job=get_evaluation_job,
        start=get_start,
        tests=get_test_settings,
        device=get_device,
    message:
        "Testing {wildcards.run} ({wildcards.variant}) for retrieval on {wildcards.dataset}"
    script:
        "../workflow/scripts/evaluate_retrieval.py"


rule index_pack:
    input:
        pack="<results>/{dataset}/retrieval/packs/{subset}.h5",
        words=get_index_words,
        training=get_index_training,
        start=get_untrained_start,
    output:
        "<results>/{dataset}/retrieval/index/{run}/{subset}.h5",
    log:
        "<logs>/index_pack/{dataset}/{run}/{subset}.log",
    benchmark:
        "<benchmarks>/index_pack/{dataset}/{run}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 16
    resources:
        gpu=get_gpus,
        mem_mb=16000,
        runtime="4h",
    params:
        stage=versions.RETRIEVAL_INDEX,
        job=get_index_job,
        start=get_start,
        device=get_device,
    message:
        "Indexing {wildcards.dataset}, {wildcards.subset}, for searches with {wildcards.run}"
    script:
        "../workflow/scripts/index_pack.py"


rule write_retrieval_eval:
    input:
        evaluations=get_retrieval_evaluations,
        packs=get_pack_summaries,
        accounting=get_accounting("accounting.json"),
        failure_rate=get_accounting("failure_rate.json"),
        weights=get_weights_checks,
        published=PUBLISHED_RETRIEVAL,
    output:
        eval="<results>/{dataset}/eval.json",
        table=report("<results>/{dataset}/eval.md", category="Results"),
        figure=report("<results>/{dataset}/eval.svg", category="Results"),
    log:
        "<logs>/write_retrieval_eval/{dataset}.log",
    benchmark:
        "<benchmarks>/write_retrieval_eval/{dataset}.tsv"
    wildcard_constraints:
        dataset=RETRIEVAL_DATASET,
    localrule: True
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=1000,
        runtime="10m",
    params:
        stage=versions.WRITE_RETRIEVAL_EVAL,
        settings=lambda wildcards: PLAN.dataset(wildcards.dataset).model_dump(),
        fidelity=PLAN.config.fidelity,
    message:
        "Writing results/{wildcards.dataset}/eval.json"
    script:
        "../workflow/scripts/write_retrieval_eval.py"
