"""Features of another run are compared with what is wanted here: weights by content, clips where they are at hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from avpipe import versions
from avpipe.config.catalogue import read_catalogue
from avpipe.config.models import Config
from avpipe.errors import AvpipeError
from avpipe.features.store import write_store
from avpipe.inventory.probing import Requirements, probe_shard
from avpipe.inventory.shards import index_shard
from avpipe.inventory.status import close_shard
from avpipe.io.manifest import made_by, write_json
from avpipe.plan import Project, features, features_from, media
from avpipe.plan.requirements import require
from avpipe.registry import EXTRACTORS
from avpipe.sources.local import SourceClip

CATALOGUE = Path(__file__).parents[2] / "config" / "files.yaml"
EXTRACTOR = "resnet152"
WEIGHTS = b"the weights of that run"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


def new_project(folder: Path | None, weights: str | None = None, **values) -> Project:
    dataset = {
        "source": {"kind": "class_folders"}, "n_shards": 1, "extract_also": [EXTRACTOR],
        "weights": {EXTRACTOR: weights}, "features_from": folder and str(folder),
    }  # fmt: skip
    return Project(Config.model_validate({"datasets": {"mine": dataset | values}}), catalogue={})


@pytest.fixture
def other(tmp_path) -> Path:
    """What the jobs of another run would have left of a clip that is not there, so without any features."""
    folder, wanted = tmp_path / "other" / "mine", new_project(None)
    listing, probe, weights = folder / "inventory/0000.parquet", folder / "probe/0000.parquet", folder / "weights"
    clip = SourceClip("a", "A", "/elsewhere/a.mp4", size_bytes=-1)
    with made_by(versions.INDEX, [], {"n_shards": 1, "source": "of another machine", "listing": "x"}):
        index_shard([clip], None, listing)
    with made_by(versions.PROBE, [listing], {"require_audio": True, "min_seconds": 0.0, "max_seconds": None}):
        probe_shard([clip], Requirements(True, 0.0, None), probe)
    with made_by(versions.CHECK_WEIGHTS, [], {"weights": "/elsewhere/weights.pth"}):
        record = {"label": SHA256, "sha256": SHA256, "pca_sha256": None, "remarks": {}}
        write_json(weights / f"{EXTRACTOR}.json", record)
    settings = {
        "settings": features.extractor_settings(wanted, "mine", EXTRACTOR),
        "media": media.preparation(wanted, "mine", EXTRACTOR),
    }
    place = folder / "features" / EXTRACTOR
    with made_by(EXTRACTORS[EXTRACTOR].stage, [probe, weights / f"{EXTRACTOR}.json"], {**settings, "batch_size": 7}):
        write_store(place / "0000.h5", [], streams={"values": 4}, provenance=settings, written_by={})
        close_shard(place / "0000.status.parquet", [], [])
    return folder


def problems(*arguments, **values) -> list[str]:
    return features_from.problems(new_project(*arguments, **values), "mine")


def test_the_same_weights_at_another_path_will_do_and_other_ones_are_named(other, tmp_path):
    (tmp_path / "mine.pth").write_bytes(WEIGHTS)
    assert problems(other, str(tmp_path / "mine.pth")) == []
    (tmp_path / "mine.pth").write_bytes(b"others")
    (told,) = problems(other, str(tmp_path / "mine.pth"))
    assert f"had the weights {SHA256} there" in told and "drop datasets.mine.features_from" in told


def test_weights_that_are_not_here_are_compared_as_far_as_they_are_known(other, tmp_path):
    assert problems(other, str(tmp_path / "not_here.pth")) == problems(other) == []
    (told,) = problems(other, "random:0")
    assert "random:0 are asked for: set datasets.mine.weights.resnet152" in told
    published = replace(new_project(other), catalogue=read_catalogue(CATALOGUE, {"resources": "nowhere"}))
    (told,) = features_from.problems(published, "mine")
    assert f"{features.digests(published, EXTRACTOR)[EXTRACTOR][0]} are asked for" in told


def test_nothing_else_is_required_where_all_lies_there(other):
    require(new_project(other), "mine")
    with pytest.raises(AvpipeError, match="the weights of resnet152"):
        require(new_project(None), "mine")


def test_clips_are_compared_where_the_source_is_at_hand(other, tmp_path):
    (tmp_path / "videos" / "A").mkdir(parents=True)
    (tmp_path / "videos" / "A" / "a.mp4").touch()
    source = {"kind": "class_folders", "path": str(tmp_path / "videos")}
    assert problems(other, source=source) == []
    (tmp_path / "videos" / "A" / "b.mp4").touch()
    (told,) = problems(other, source=source)
    assert "1 clip(s) of the source are not there, such as b" in told


def test_a_source_of_features_has_none_of_another_run(other):
    with pytest.raises(ValueError, match="the source has features itself"):
        new_project(other, source={"kind": "published", "path": "UCF"})
