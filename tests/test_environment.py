"""What other people install: the lock names no host, and the conda file has the lock's versions."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", LOCK, re.MULTILINE))


def direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.match(r"[a-z0-9-]+", entry).group() for entry in project["dependencies"]]


def test_locks_have_hashes_and_no_host():
    for name in ("requirements.lock", "envs/bootstrap.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        packages = re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE)
        with_hash = re.findall(r"^[a-z0-9-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(packages) == len(with_hash) > 0


def test_conda_environment_is_in_step_with_the_lock():
    listed = yaml.safe_load((ROOT / "envs" / "avpipe.yaml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    assert pip == [f"{name}=={PINS[name]}" for name in direct_dependencies()]


def test_every_direct_dependency_is_locked():
    assert set(direct_dependencies()) <= set(PINS)
