"""Shared fixtures."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

# One thread a worker: two workers on two cores are faster than two threads each. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def gpu() -> str:
    """Skips without a GPU, but fails where AVPIPE_REQUIRE_GPU=1 promises one."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("AVPIPE_REQUIRE_GPU") == "1":
        pytest.fail("AVPIPE_REQUIRE_GPU=1, but torch finds no GPU")
    pytest.skip("no GPU here")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., Path]:
    """`built_once(name, build)`: the folder that `build(folder)` filled, once for all workers; nobody changes it."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def made(name: str, build: Callable[[Path], object]) -> Path:
        folder = shared / name
        with FileLock(shared / f"{name}.lock"):
            if not folder.exists():
                unfinished = shared / f"{name}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                build(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer in the place of each network, for tests of what is around it; 70 million weights take seconds."""
    from small_networks import replace_networks

    replace_networks(monkeypatch)


# Their tests need nothing that one worker would have to make for itself.
SPREAD = ("test_incremental", "test_bad_input", "test_plan")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the workflow; what takes longest comes first, so that no worker is left with it at the end."""
    workflow = Path(__file__).parent / "workflow"
    for item in items:
        if workflow in item.path.parents:
            item.add_marker(pytest.mark.workflow)
    items.sort(key=lambda item: (item.get_closest_marker("workflow") is None, item.get_closest_marker("slow") is None))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of one module go to one worker, which makes their common fixtures once; those of SPREAD to any."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.split("::", 1)[0]
            return nodeid if Path(module).stem in SPREAD else module

    return ByModule(config, log)
