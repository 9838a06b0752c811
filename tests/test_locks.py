import os
import socket
import subprocess
import sys

import pytest

from avpipe.errors import AvpipeError
from avpipe.jobs.gzsl_methods import train_method
from avpipe.jobs.retrieval import train_run
from avpipe.locks import sole_writer

HOLD = """
import sys, time
from pathlib import Path
from avpipe.locks import sole_writer
with sole_writer(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(120)
"""


def start_holder(path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_writer_is_refused_until_the_first_is_dead(tmp_path):
    path = tmp_path / "run" / ".training.lock"
    holder = start_holder(path)
    try:
        named = f"seed3 is being written by process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(AvpipeError, match=named), sole_writer(path, "seed3"):
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert path.exists(), "kill -9 leaves the file, and not the lock"
    with sole_writer(path, "seed3"):
        assert path.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert not path.exists()


@pytest.mark.parametrize("train", [train_method, train_run])
def test_a_run_that_another_job_trains_is_not_trained(tmp_path, train):
    holder = start_holder(tmp_path / ".training.lock")
    try:
        with pytest.raises(AvpipeError, match=f"{tmp_path} is being written by process {holder.pid}"):
            train(type("Job", (), {"settings": lambda self: type("Run", (), {"gpus": 1})})(), device="cpu", threads=1,
                  target=tmp_path / "training.json")  # fmt: skip
    finally:
        holder.kill()
        holder.communicate()
    assert {path.name for path in tmp_path.iterdir()} == {".training.lock"}
