# Published files that jobs read: weights, packs of clips, models. What planning reads is there before (avpipe.plan.downloads).


# A rule for each file that is not there, so that none can run again; in a job's own Snakemake it may have come meanwhile.
for _job in downloads.fetch_jobs(PROJECT, is_planning=workflow.is_main_process):

    rule:
        name:
            _job.rule
        output:
            # What has come of a file lies beside it under another name; what is there already stays.
            *[update(str(path)) for path in _job.paths],
        log:
            f"<logs>/{_job.rule}.log",
        benchmark:
            f"<benchmarks>/{_job.rule}.tsv"
        # Nodes of a cluster may have no way to the network.
        localrule: True
        conda:
            "../envs/avpipe.yaml"
        resources:
            mem_mb=2000,
            runtime="1d",
            downloads=1,
        params:
            stage=versions.FETCH_FILES,
            name=_job.name,
            files=_job.files.model_dump(),
            pins=str(downloads.pins(PROJECT, _job.name).path),
        message:
            "Fetching {params.files[title]} to {params.files[folder]}"
        script:
            "../workflow/scripts/fetch_files.py"
