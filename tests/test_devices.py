import os
import subprocess
import sys
import time

import pytest

from avpipe import devices
from avpipe.errors import AvpipeError


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "visible_gpus", lambda: ["0", "1"])
    monkeypatch.setattr(devices.tempfile, "gettempdir", lambda: str(tmp_path))


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


def test_a_lease_ends_with_its_process(two_gpus, tmp_path):
    """A killed job must not keep a GPU for ever: locks belong to processes."""
    code = (
        "import sys, time, pathlib\nfrom filelock import FileLock\n"
        "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    folder = tmp_path / f"avpipe-gpus-{os.getuid()}"
    folder.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder / "0.lock")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with devices.leased_device("auto"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    time.sleep(0.1)
    with devices.leased_device("auto"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


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
