# From clips to features: one rule per extractor, one store per shard.


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
    priority: 100  # jobs that share a decode read what it writes
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


rule extract_resnet152:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/resnet152.json",
        converted=get_converted("resnet152"),
    output:
        store=update("<results>/{dataset}/features/resnet152/{shard}.h5"),
        status="<results>/{dataset}/features/resnet152/{shard}.status.parquet",
    log:
        "<logs>/extract_resnet152/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_resnet152/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 4
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="12h",
    params:
        stage=stages.RESNET152,
        settings=get_settings("resnet152"),
        batch_size=get_batch_size("resnet152"),
        media=get_media("resnet152"),
        weights=get_weights("resnet152"),
        pca=get_pca("resnet152"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting ResNet-152 features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_resnet152.py"


rule extract_resnext101:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/resnext101.json",
        converted=get_converted("resnext101"),
    output:
        store=update("<results>/{dataset}/features/resnext101/{shard}.h5"),
        status="<results>/{dataset}/features/resnext101/{shard}.status.parquet",
    log:
        "<logs>/extract_resnext101/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_resnext101/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 4
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="12h",
    params:
        stage=stages.RESNEXT101,
        settings=get_settings("resnext101"),
        batch_size=get_batch_size("resnext101"),
        media=get_media("resnext101"),
        weights=get_weights("resnext101"),
        pca=get_pca("resnext101"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting 3D ResNeXt-101 features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_resnext101.py"


rule extract_c3d:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/c3d.json",
        converted=get_converted("c3d"),
    output:
        store=update("<results>/{dataset}/features/c3d/{shard}.h5"),
        status="<results>/{dataset}/features/c3d/{shard}.status.parquet",
    log:
        "<logs>/extract_c3d/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_c3d/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 4
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="12h",
    params:
        stage=stages.C3D,
        settings=get_settings("c3d"),
        batch_size=get_batch_size("c3d"),
        media=get_media("c3d"),
        weights=get_weights("c3d"),
        pca=get_pca("c3d"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting C3D features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_c3d.py"


rule extract_vggish:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/vggish.json",
        converted=get_converted("vggish"),
    output:
        store=update("<results>/{dataset}/features/vggish/{shard}.h5"),
        status="<results>/{dataset}/features/vggish/{shard}.status.parquet",
    log:
        "<logs>/extract_vggish/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_vggish/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 2
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="4h",
    params:
        stage=stages.VGGISH,
        settings=get_settings("vggish"),
        batch_size=get_batch_size("vggish"),
        media=get_media("vggish"),
        weights=get_weights("vggish"),
        pca=get_pca("vggish"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting VGGish features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_vggish.py"


rule extract_selavi:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/selavi.json",
        converted=get_converted("selavi"),
    output:
        store=update("<results>/{dataset}/features/selavi/{shard}.h5"),
        status="<results>/{dataset}/features/selavi/{shard}.status.parquet",
    log:
        "<logs>/extract_selavi/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_selavi/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 4
    resources:
        gpu=get_gpus,
        mem_mb=6000,
        runtime="12h",
    params:
        stage=stages.SELAVI,
        settings=get_settings("selavi"),
        batch_size=get_batch_size("selavi"),
        media=get_media("selavi"),
        weights=get_weights("selavi"),
        pca=get_pca("selavi"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting SeLaVi features of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_selavi.py"


rule extract_spectrogram:
    input:
        probe="<results>/{dataset}/probe/{shard}.parquet",
        weights="<results>/{dataset}/weights/spectrogram.json",
        converted=get_converted("spectrogram"),
    output:
        store=update("<results>/{dataset}/features/spectrogram/{shard}.h5"),
        status="<results>/{dataset}/features/spectrogram/{shard}.status.parquet",
    log:
        "<logs>/extract_spectrogram/{dataset}/{shard}.log",
    benchmark:
        "<benchmarks>/extract_spectrogram/{dataset}/{shard}.tsv"
    conda:
        "../envs/avpipe.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime="4h",
    params:
        stage=stages.SPECTROGRAM,
        settings=get_settings("spectrogram"),
        batch_size=get_batch_size("spectrogram"),
        media=get_media("spectrogram"),
        weights=get_weights("spectrogram"),
        pca=get_pca("spectrogram"),
        device=get_device,
        timeout=get_timeout,
        others=get_others,
        share_decode=get_share_decode,
    message:
        "Extracting the log-mel spectrograms of {wildcards.dataset}, shard {wildcards.shard}"
    script:
        "../workflow/scripts/extract_spectrogram.py"
