"""A Slurm of one node on this machine, whole in one folder: its own key, ports on 127.0.0.1, no accounting."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# The step that the plugin starts inside a job is told no SLURM_CONF, so the file must lie where Slurm looks by itself.
USUAL_PLACE = Path("/etc/slurm/slurm.conf")
DAEMONS = ("slurmd", "slurmctld", "munged")
SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=600
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no Slurm can be started here, or None."""
    lacking = [name for name in (*DAEMONS, "sbatch", "scontrol") if shutil.which(name) is None]
    if lacking:
        return f"Slurm is not installed here: {', '.join(lacking)} (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root"
    if USUAL_PLACE.is_symlink() or USUAL_PLACE.exists():
        return f"another Slurm is set up here, in {USUAL_PLACE.parent}"
    return None


class Cluster:
    """The daemons, and Slurm's commands as root.

    Args:
        folder: an empty one for all files; root's, since munged refuses others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        controller_port, node_port = free_ports()
        settings = SETTINGS.format(
            host=self.host, folder=self.folder, controller_port=controller_port, node_port=node_port
        )
        (self.folder / "slurm.conf").write_text(settings)
        USUAL_PLACE.parent.mkdir(exist_ok=True)
        USUAL_PLACE.symlink_to(self.folder / "slurm.conf")
        self.start_daemon(
            "munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self.start_daemon("slurmctld")
        self.start_daemon("slurmd")
        self.wait_for_node()

    def wait_for_node(self) -> None:
        """Wait until the node takes jobs: a new slurmd brings it up (ReturnToService)."""
        wait_until(lambda: self.command("sinfo", "-h", "-o", "%T").strip() == "idle", "the node is idle")

    def start_daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            subprocess.run([name, *arguments], check=True, stdout=out, stderr=out, timeout=30)

    def end_daemon(self, name: str, with_signal: int = signal.SIGTERM) -> None:
        """End a daemon by its pid file and wait until it is gone."""
        file = self.folder / f"{name}.pid"
        if not file.exists() or not file.read_text().strip():
            return
        pid = int(file.read_text())
        try:
            os.kill(pid, with_signal)
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"{name} has ended")
        except ProcessLookupError:
            pass
        file.unlink(missing_ok=True)

    def lose_node(self) -> None:
        """Kill slurmd and all that it started, as a machine that goes down does; it comes back at once."""
        self.end_daemon("slurmd", signal.SIGKILL)
        self.kill_jobs()
        self.command("scontrol", "update", f"nodename={self.host}", "state=down", "reason=tried")
        self.start_daemon("slurmd")
        self.wait_for_node()
        # Slurm puts them back itself, for two minutes from now, when it has cleared the node.
        for number, _, _ in self.jobs("PENDING"):
            self.command("scontrol", "update", f"jobid={number}", "starttime=now+10")

    def kill_jobs(self) -> None:
        """Kill every process of a job, and the daemons that wait for them."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and _is_of_a_job(process, str(self.folder.parent)):
                with suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)

    def stop(self) -> None:
        try:
            if (self.folder / "slurmctld.pid").exists():
                self.command("scancel", "-u", "root", check=False)
                wait_until(lambda: not self.command("squeue", "-h"), "all jobs have ended")
        finally:
            for name in DAEMONS:
                self.end_daemon(name)
            self.kill_jobs()
            USUAL_PLACE.unlink(missing_ok=True)

    def command(self, *words: str, check: bool = True) -> str:
        return subprocess.run(words, check=check, capture_output=True, text=True, timeout=30).stdout

    def jobs(self, state: str = "all") -> list[tuple[str, str, str]]:
        """Number, state and comment (which names the rule) of all jobs that Slurm remembers."""
        lines = self.command("squeue", "-h", f"--states={state}", "--format=%i|%T|%k").splitlines()
        return [(number, now, comment) for number, now, comment in (line.split("|", 2) for line in lines)]


def _is_of_a_job(process: Path, mark: str) -> bool:
    """Whether a folder of /proc is that of a Slurm job's process, or of the daemon that waits for it."""
    try:
        if (process / "cmdline").read_bytes().startswith(b"slurmstepd: ["):
            return True
        environment = (process / "environ").read_bytes()
    except OSError:  # it has ended, or is another's
        return False
    return b"SLURM_JOB_ID=" in environment and mark.encode() in environment


def wait_until(holds: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"After {seconds:.0f} s it is still not so that {what}.")
        time.sleep(0.1)


def free_ports() -> tuple[int, int]:
    """Two ports of 127.0.0.1 that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
