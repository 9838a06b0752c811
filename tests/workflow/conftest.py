"""One small dataset, run once for all tests of this folder; each test works on a copy of the results."""

from pathlib import Path

import pytest
from extended_package import copy_package
from project import Project, new_project, small_settings, write_split, write_words
from small_networks import replace_networks_of_package

from avpipe.demo.zero_shot import plan_demo, render_clip

ROLES = {
    "main_split": ["train", "train", "train", "val_unseen", "val_unseen", "test_unseen", "test_unseen"],
    "other_split": ["test_unseen", "test_unseen", "train", "val_unseen", "val_unseen", "train", "train"],
}
CLASSES = 7
CLIPS_PER_CLASS = 4


def build(folder: Path, **gzsl) -> Project:
    """A project with videos, two splits and class vectors, nothing run yet."""
    project = new_project(folder, small_settings(**gzsl))
    ordinary = [spec for spec in plan_demo() if spec.oddity is None]
    labels = sorted({spec.demo.name for spec in ordinary})[:CLASSES]
    clips: dict[str, list[str]] = {label: [] for label in labels}
    for spec in ordinary:
        own = clips.get(spec.demo.name)
        if own is not None and len(own) < CLIPS_PER_CLASS:
            path = folder / "videos" / spec.relative_path
            path.parent.mkdir(parents=True, exist_ok=True)
            render_clip(spec, path)
            own.append(spec.clip_id)
    for name, roles in ROLES.items():
        write_split(folder / "split", name, clips, dict(zip(labels, roles, strict=True)))
    write_words(folder, labels)
    return project


def build_with_small_networks(folder: Path) -> Project:
    """The same with small networks: what the tests look at is which jobs run and what becomes of their files."""
    project = build(folder)
    copy_package(folder)
    replace_networks_of_package(folder / "src" / "avpipe")
    return project


# Python runs it at its start, since the library's folder is on its path: jobs then say at their end what they imported.
TELLS_IMPORTS = """import atexit, sys
from pathlib import Path


@atexit.register
def tell():
    script = Path(sys.argv[0])
    if script.parent.name == "scripts":
        with (Path(__file__).parents[1] / "imports.txt").open("a") as stream:
            stream.write(f"{script.name.split('.')[1]} {'torch' in sys.modules}\\n")
"""


def run_watched(folder: Path) -> None:
    """Run the small dataset; its imports.txt has a line for each job: its script, and whether it imported torch."""
    project = build_with_small_networks(folder)
    (folder / "src" / "sitecustomize.py").write_text(TELLS_IMPORTS)
    project.run()
    (folder / "src" / "sitecustomize.py").unlink()


@pytest.fixture(scope="session")
def finished(built_once) -> Project:
    """The small dataset, run to its end; never changed, only copied."""
    return Project(built_once("finished", lambda folder: run_watched(folder / "project")) / "project")


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished project."""
    return finished.copy(tmp_path / "project")
