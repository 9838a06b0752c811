import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from avpipe import devices
from avpipe.errors import AvpipeError


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(devices, "LOCKS", tmp_path / "gpus")


def test_jobs_lease_different_gpus_and_give_them_back(two_gpus):
    with devices.leased_device("auto") as first:
        mine = os.environ.pop("CUDA_VISIBLE_DEVICES")
        with devices.leased_device("cuda") as second:
            assert (first, second) == ("cuda", "cuda")
            assert {mine, os.environ["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
        os.environ["CUDA_VISIBLE_DEVICES"] = mine
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with devices.leased_device("auto"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


HOLD = """
import os, sys, time
from pathlib import Path
from avpipe import devices
os.umask(0o077)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
devices.LOCKS = Path(sys.argv[1])
devices.visible_gpus = lambda: ["0"]
with devices.leased_device("cuda"):
    print("held", flush=True)
    time.sleep(120)
"""


def test_another_users_job_waits_and_a_killed_one_frees_its_gpu(two_gpus, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        Path(shared).chmod(0o1777)
        folder = Path(shared) / "gpus"
        holders = [start_holder(folder)]
        assert holders[0].stdout.readline() == "held\n"
        assert (folder / "0.lock").stat().st_uid == 65534
        monkeypatch.setattr(devices, "LOCKS", folder)
        with devices.leased_device("cuda"):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1", "the other user's is not free"
        holders[0].kill()
        holders[0].communicate()
        with devices.leased_device("cuda"):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0", "a killed job keeps none"
            holders.append(start_holder(folder))
            with pytest.raises(subprocess.TimeoutExpired):
                holders[1].wait(timeout=3)
            assert not select.select([holders[1].stdout], [], [], 0)[0], "root's is not free to nobody"
        assert holders[1].stdout.readline() == "held\n"
        holders[1].kill()
        holders[1].communicate()


def start_holder(folder):
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", HOLD, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("place", ["0.lock", ""])
def test_no_link_is_followed_to_a_lock(two_gpus, tmp_path, place):
    victim = tmp_path / "victim"
    (devices.LOCKS if place else tmp_path).mkdir(exist_ok=True)
    (devices.LOCKS / place).symlink_to(victim)
    with pytest.raises(AvpipeError, match="cannot be used as a lock"), devices.leased_device("cuda"):
        pass
    assert not victim.exists()


def test_an_assignment_by_the_cluster_stands(two_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with devices.leased_device("auto") as device:
        assert (device, os.environ["CUDA_VISIBLE_DEVICES"]) == ("cuda", "3")


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "visible_gpus", list)
    with devices.leased_device("auto") as device:
        assert device == "cpu"
    with pytest.raises(AvpipeError, match="device: auto or cpu"), devices.leased_device("cuda"):
        pass


def test_cpu_means_cpu_even_beside_a_gpu(two_gpus):
    with devices.leased_device("cpu") as device:
        assert device == "cpu" and "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(("value", "gpus"), [("", []), ("-1", []), ("0,2", ["0", "2"])])
def test_the_variable_says_what_is_visible(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.visible_gpus() == gpus


def test_several_gpus_are_leased_together_or_not_at_all(two_gpus, monkeypatch):
    with devices.leased_devices("cuda", 2) as leased:
        assert leased == ["cuda:0", "cuda:1"]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    with devices.leased_device("cuda"):
        mine = os.environ.pop("CUDA_VISIBLE_DEVICES")

        def give_up(_):
            with devices.leased_device("cuda"):  # the other one was given back before waiting
                assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
            raise InterruptedError

        monkeypatch.setattr(devices.time, "sleep", give_up)
        with pytest.raises(InterruptedError), devices.leased_devices("cuda", 2):
            pass
        os.environ["CUDA_VISIBLE_DEVICES"] = mine


def test_more_gpus_than_there_are(two_gpus, monkeypatch):
    with pytest.raises(AvpipeError, match="3 GPUs are wanted and this job sees 2"), devices.leased_devices("cuda", 3):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with devices.leased_devices("auto", 2) as leased:
        assert leased == ["cuda:0", "cuda:1"] and os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    with devices.leased_devices("cpu", 4) as leased:
        assert leased == ["cpu"]
