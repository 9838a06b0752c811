"""File mode: clips cut and converted first; the same frames as stream mode, and only new clips are converted again."""

import csv
import shutil

import numpy as np
import pytest
import yaml
from project import Project, new_project, small_settings

from avpipe.features.store import read_clips

FEATURES = [f"results/small/features/{name}/0000.h5" for name in ("c3d", "vggish")]
CLIPS = 4  # every second one is cut


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A project without benchmarks, some of whose videos are those of the small dataset, and with real networks."""
    settings = small_settings()
    del settings["gzsl"]
    project = new_project(tmp_path / "project", settings | {"extract_also": ["c3d", "vggish"], "n_shards": 1})
    for path in sorted((finished.folder / "videos").rglob("*.*"))[:CLIPS]:
        target = project.folder / path.relative_to(finished.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return project


def write_table(project: Project, extra: int = 0) -> list[str]:
    """A table of every video, every second one from 0.1 s on; `extra` clips more, with ids no file could have."""
    rows = []
    for number, path in enumerate(sorted((project.folder / "videos").rglob("*.*"))):
        start = "0.1" if number % 2 else ""
        rows.append([path.stem, path.relative_to(project.folder), path.parent.name, start, ""])
    rows += [[f"extra/../{number}", rows[0][1], rows[0][2], "0.02", ""] for number in range(extra)]
    with (project.folder / "clips.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["clip_id", "path", "class", "start_seconds", "end_seconds"], *rows])
    return [row[0] for row in rows]


def set_mode(project: Project, mode: str) -> None:
    settings = project.settings()
    small = settings["datasets"]["small"]
    small |= {"source": {"kind": "table", "path": "clips.csv"}, "frame_rate": {"mode": mode, "crf": 2}}
    (project.folder / "small.yaml").write_text(yaml.safe_dump(settings))


def make_features(project: Project, *arguments: str) -> str:
    done = project.snakemake(*FEATURES, "--cores", "2", *arguments)
    return done.stdout + done.stderr


def features(project: Project) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for path in FEATURES:
        for clip in read_clips(project.folder / path):
            (stream,) = clip.streams.values()
            found.setdefault(clip.clip_id, {})[path.split("/")[3]] = stream.values
    return found


def test_both_modes_give_the_same_features_and_a_new_clip_alone_is_converted(project):
    ids = write_table(project)
    set_mode(project, "stream")
    make_features(project)
    streamed = features(project)
    assert set(streamed) == set(ids)
    set_mode(project, "file")
    make_features(project)
    converted = features(project)
    assert not (project.folder / "results/small/converted/0000").exists()  # deleted after use
    for clip_id in ids:
        for name in ("c3d", "vggish"):
            one, other = streamed[clip_id][name], converted[clip_id][name]
            assert one.shape == other.shape
            # Sound is stored losslessly; pictures at crf 2 differ by a grey level or so, far less than clips differ.
            tolerance = 1e-5 if name == "vggish" else 0.05
            assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(one), (clip_id, name)
    new = "extra/../0"
    write_table(project, extra=1)
    output = make_features(project)
    assert "[convert_fps small 0000] clips converted: 1 done, 0 failed" in output
    assert new in features(project)
