# Planning asks the manifests beside the results too: what .snakemake/ knows is lost where results are copied alone, and it
# knows a folder by one time stamp. No public way leads there; a method that Snakemake renames stops it here in words.
import functools
import inspect
from contextlib import ExitStack, contextmanager

from snakemake.persistence import ParamsChange, PersistenceBase

from avpipe.io.provenance import PlannedJob, has_manifest, recorded_sha256, stale_results
from avpipe.locks import only_run


def planned(job):
    """A job of Snakemake's as `avpipe.io.provenance` takes it; `stage` and settings as in `avpipe.jobs.job.run_job`."""
    settings = dict(job.params.items())
    raw = {name: value for name, value in job.rule.params.items() if callable(value)}
    return PlannedJob(
        outputs=[str(path) for path in job.output],
        inputs=[str(path) for path in job.input],
        stage=settings.pop("stage", job.rule.name),
        settings=settings,
        not_compared={name for name, value in raw.items() if "input" in inspect.signature(value).parameters},
    )


@functools.cache
def warn_once(text):
    logger.warning(text)


def ask_manifests_too(has_metadata, params_changed, input_checksums):
    """Three of Snakemake's questions to its own records, answered from manifests where these know more."""

    def has_records(self, job):
        return has_metadata(self, job) or has_manifest(job.output)

    def changed(self, job, file=None):
        found = params_changed(self, job, file)
        PersistenceBase._params.cache_clear()  # else what planning saw is recorded, though a job has fetched weights since
        if found:
            return found
        stale = in_words(stale_results, planned(job))
        for each in stale:
            if each.is_damaged:
                warn_once(f"{each.result} is not as it was written and is made again: {each.why}.")
        return ParamsChange(only_old={f"{each.result}: {each.why}" for each in stale}, files=set(job.output))

    def checksums(self, job, path):
        sha256 = recorded_sha256(job.output, path)
        if sha256 is None:
            return input_checksums(self, job, path)
        # Weights that were fetched again are looked at again, and their record is newer than the features. And the times
        # of another run's results (features_from) are not to be changed from here.
        is_ours = has_manifest([path]) and path.startswith(f"{PATHS.results}/") and Path(path).parent.name != "weights"
        if is_ours and "dataset" in job.wildcards.keys():
            results = f"{PATHS.results}/{job.wildcards.dataset}"
            warn_once(
                f"{results}: files are newer than what was made from them, though that was made from just these. If they "
                f"were copied without their time stamps, `avpipe adopt {results}` puts this right, and less runs again."
            )
        return {f"sha256:{sha256}"}

    return has_records, changed, checksums


def locks_while_it_lives(lock):
    """Snakemake's lock, and one that `--unlock` does not take from a run that lives; neither under -n."""

    @contextmanager
    def held(self):
        with ExitStack() as stack:
            runs, outputs = Path(".snakemake", "avpipe_runs"), map(str, self.all_outputfiles())
            in_words(stack.enter_context, only_run(runs, outputs))
            stack.enter_context(lock(self))
            yield

    return held


# Once, however often a workflow imports rules of this one.
if workflow.is_main_process and not hasattr(PersistenceBase, "asks_manifests"):
    PersistenceBase.asks_manifests = True
    PersistenceBase.lock = locks_while_it_lives(PersistenceBase.lock)
    PersistenceBase.has_metadata, PersistenceBase.params_changed, PersistenceBase.input_checksums = ask_manifests_too(
        PersistenceBase.has_metadata, PersistenceBase.params_changed, PersistenceBase.input_checksums
    )
