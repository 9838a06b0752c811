"""What has become of a Slurm job, in the words that profiles/cluster-generic wants: running, success or failed."""

import subprocess
import sys

GOES_ON = {
    "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "COMPLETING", "RESIZING",
    "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD",
}  # fmt: skip


def status(job: str) -> str:
    """The word for a job: of its number's first line in squeue, or in sacct where squeue has forgotten it."""
    asked = _ask("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job)
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:
        return "running"  # Slurm does not answer now; Snakemake asks again
    if not asked.stdout.strip():
        asked = _ask("sacct", "--allocations", "--noheader", "--format=State", "--jobs", job)
    state = (asked.stdout.split() or ["UNKNOWN"])[0]  # sacct says: CANCELLED by 0
    return "success" if state == "COMPLETED" else "running" if state in GOES_ON else "failed"


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, check=False, capture_output=True, text=True)


if __name__ == "__main__":
    sys.stdout.write(status(sys.argv[1]) + "\n")
