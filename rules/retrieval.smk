# Audio-video retrieval: packs of clips, training and tests of AVLnet's models, eval.json.


rule build_pack:
    input:
        given=files(setting("retrieval.subsets.{subset}.path")),
        made=branch(ask(retrieval.is_made), then=EMBEDDED),
        probes=all_made("{place}/probe/{shard}.parquet", shard=ask(retrieval.pack_shards)),
        statuses=all_made(
            "{place}/features/{extractor}/{shard}.status.parquet",
            extractor=RETRIEVAL_EXTRACTORS,
            shard=ask(retrieval.pack_shards),
        ),
        video_2d=all_made("{place}/features/resnet152/{shard}.h5", shard=ask(retrieval.pack_shards)),
        video_3d=all_made("{place}/features/resnext101/{shard}.h5", shard=ask(retrieval.pack_shards)),
        audio=all_made("{place}/features/spectrogram/{shard}.h5", shard=ask(retrieval.pack_shards)),
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
        mem_mb=grows(16000),
        runtime=grows(120),
    params:
        stage=versions.PACK,
        digest=ask(retrieval.subset_digest),
        source=setting("source"),
        made_folder=ask(Project.made_folder),
        min_audio_frames=setting("retrieval.min_audio_frames"),
        audio_frames=setting("retrieval.audio_frames"),
        expected=setting("retrieval.subsets.{subset}.expected"),
    message:
        "Packing the clips of {wildcards.dataset}, {wildcards.subset}"
    script:
        "../workflow/scripts/build_pack.py"


rule export_clip_pickle:
    input:
        "<results>/{dataset}/retrieval/packs/{subset}.h5",
    output:
        "<results>/{dataset}/retrieval/published/{subset}.pkl",
        rests_on="<results>/{dataset}/retrieval/published/{subset}.pkl.json",
    log:
        "<logs>/export_clip_pickle/{dataset}/{subset}.log",
    benchmark:
        "<benchmarks>/export_clip_pickle/{dataset}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        stage=versions.PACK,
    message:
        "Writing {wildcards.dataset}, {wildcards.subset}, as a pickle that the published code reads"
    script:
        "../workflow/scripts/export_clip_pickle.py"


rule select_words:
    input:
        pack="<results>/{source}/retrieval/packs/{subset}.h5",
        model=branch(ask(Project.is_synthetic), otherwise=setting("retrieval.word_vectors")),
        made=EMBEDDED,
    output:
        "<results>/{dataset}/retrieval/words/{source}/{subset}.h5",
    log:
        "<logs>/select_words/{dataset}/{source}/{subset}.log",
    benchmark:
        "<benchmarks>/select_words/{dataset}/{source}/{subset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(60),
    params:
        stage=versions.CAPTION_WORDS,
        model=setting("retrieval.word_vectors"),
    message:
        "Selecting word vectors of {wildcards.dataset} for the captions of {wildcards.source}, {wildcards.subset}"
    script:
        "../workflow/scripts/select_words.py"


rule select_window_words:
    input:
        captions=branch(ask(Project.is_synthetic), otherwise=setting("retrieval.captions")),
        model=branch(ask(Project.is_synthetic), otherwise=setting("retrieval.word_vectors")),
        made=EMBEDDED,
    output:
        "<results>/{dataset}/retrieval/window_words.h5",
    log:
        "<logs>/select_window_words/{dataset}.log",
    benchmark:
        "<benchmarks>/select_window_words/{dataset}.tsv"
    conda:
        "../envs/avpipe.yaml"
    resources:
        mem_mb=grows(32000),
        runtime=grows(240),
    params:
        stage=versions.CAPTION_WORDS,
        model=setting("retrieval.word_vectors"),
        captions=setting("retrieval.captions"),
    message:
        "Selecting word vectors for the captions of whole videos of {wildcards.dataset}"
    script:
        "../workflow/scripts/select_window_words.py"


rule train_retrieval:
    input:
        pack=files(ask(retrieval.training_pack)),
        video_2d=all_made("{place}/features/resnet152/{shard}.h5", shard=ask(retrieval.window_shards)),
        video_3d=all_made("{place}/features/resnext101/{shard}.h5", shard=ask(retrieval.window_shards)),
        audio=all_made("{place}/features/spectrogram/{shard}.h5", shard=ask(retrieval.window_shards)),
        probes=all_made("{place}/probe/{shard}.parquet", shard=ask(retrieval.window_shards)),
        statuses=all_made(
            "{place}/features/{extractor}/{shard}.status.parquet",
            extractor=RETRIEVAL_EXTRACTORS,
            shard=ask(retrieval.window_shards),
        ),
        videos=files(ask(retrieval.video_list)),
        captions=branch(ask(Project.is_synthetic), otherwise=ask(retrieval.window_captions)),
        words=files(ask(retrieval.training_words)),
        start=files(ask(retrieval.start_file)),
        made=EMBEDDED,
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
        gpu=ask(retrieval.run_gpus),
        mem_mb=grows(32000),
        runtime=grows(2880),
    params:
        stage=versions.RETRIEVAL_TRAIN,
        job=ask(retrieval.run_job, training=True),
        start=ask(retrieval.start),
        whole_videos=ask(retrieval.whole_videos),
        captions=ask(retrieval.window_captions),
        device=not_compared(PROJECT.config.device),
    message:
        "Training {wildcards.run} ({wildcards.variant}) for retrieval on {wildcards.dataset}"
    script:
        "../workflow/scripts/train_retrieval.py"


rule evaluate_retrieval:
    input:
        packs=all_of("<results>/{test.dataset}/retrieval/packs/{test.subset}.h5", test=ask(retrieval.test_subsets)),
        words=branch(
            setting("retrieval.runs.{run}.uses_text"),
            then=all_of(
                "<results>/{dataset}/retrieval/words/{test.dataset}/{test.subset}.h5", test=ask(retrieval.test_subsets)
            ),
        ),
        training=branch(
            setting("retrieval.runs.{run}.epochs"),
            then="<results>/{dataset}/retrieval/runs/{run}/{variant}/training.json",
        ),
        start=branch(setting("retrieval.runs.{run}.epochs"), otherwise=files(ask(retrieval.start_file))),
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
        gpu=ask(features.gpus),
        mem_mb=grows(16000),
        runtime=grows(240),
    params:
        stage=versions.RETRIEVAL_EVALUATE,
        job=ask(retrieval.run_job, training=False),
        start=ask(retrieval.start),
        tests=ask(retrieval.test_settings),
        device=not_compared(PROJECT.config.device),
    message:
        "Testing {wildcards.run} ({wildcards.variant}) for retrieval on {wildcards.dataset}"
    script:
        "../workflow/scripts/evaluate_retrieval.py"


rule index_pack:
    input:
        pack="<results>/{dataset}/retrieval/packs/{subset}.h5",
        words=branch(
            setting("retrieval.runs.{run}.uses_text"), then="<results>/{dataset}/retrieval/words/{dataset}/{subset}.h5"
        ),
        training=branch(
            setting("retrieval.runs.{run}.epochs"), then="<results>/{dataset}/retrieval/runs/{run}/main/training.json"
        ),
        start=branch(setting("retrieval.runs.{run}.epochs"), otherwise=files(ask(retrieval.start_file))),
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
        gpu=ask(features.gpus),
        mem_mb=grows(16000),
        runtime=grows(240),
    params:
        stage=versions.RETRIEVAL_INDEX,
        job=ask(retrieval.run_job, variant="main", training=False),
        start=ask(retrieval.start),
        device=not_compared(PROJECT.config.device),
    message:
        "Indexing {wildcards.dataset}, {wildcards.subset}, for searches with {wildcards.run}"
    script:
        "../workflow/scripts/index_pack.py"


rule write_retrieval_eval:
    input:
        evaluations=all_of(
            "<results>/{dataset}/retrieval/runs/{run}/evaluation.json", run=ask(retrieval.runs, check=require)
        ),
        packs=all_of("<results>/{used.dataset}/retrieval/packs/{used.subset}.json", used=ask(retrieval.used_subsets)),
        accounting=branch(ask(features.uses_videos), then="<results>/{dataset}/accounting.json"),
        failure_rate=branch(ask(features.uses_videos), then="<results>/{dataset}/failure_rate.json"),
        weights=all_made("{place}/weights/{extractor}.json", extractor=ask(features.extractors)),
        published=PUBLISHED_RETRIEVAL,
    output:
        eval="<results>/{dataset}/eval.json",
        page=report("<results>/{dataset}/report.html", category="Results"),
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
        settings=setting(),
        fidelity=PROJECT.config.fidelity,
        features_from=ask(features_from.digests),
        benchmarks=not_compared(workflow.pathvars.apply("<benchmarks>")),
    message:
        "Writing {output.eval}"
    script:
        "../workflow/scripts/write_retrieval_eval.py"
