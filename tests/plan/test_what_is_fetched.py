"""Which published files are fetched before planning, which by jobs, and when features stay though weights were gone."""

from pathlib import Path

import pytest

from avpipe.io.manifest import write_json
from avpipe.plan import Paths, Project
from avpipe.plan.downloads import awaited, come_back, fetch_jobs, needs, pins
from avpipe.sources.wanted import Fetched

ROOT = Path(__file__).parents[2]
RESNET = "394f9c45" + "0" * 56
VECTORS = "GoogleNews-vectors-negative300.bin"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A project's settings of the committed datasets, with nothing there."""
    monkeypatch.chdir(tmp_path)
    return lambda **values: Project.read({"allow_download": True} | values, ROOT, Paths())


@pytest.mark.parametrize(
    ("dataset", "before", "by_jobs"),
    [
        ("ucf_gzsl", {"avca_ucf", "ucf101_videos"}, {"c3d", "vggish", "vggish_pca", "selavi"}),
        ("youcook2_videos", {"youcook2_annotation", "youcook2_test"}, {"resnet152", "resnext101", "avlnet_models"}),
        ("crosstask", set(), {"avlnet_data", "avlnet_models"}),
    ],
)
def test_planning_reads_annotations_and_splits_and_jobs_fetch_the_rest(read, dataset, before, by_jobs):
    project = read()
    found = needs(project, dataset)
    assert {need.name for need in found if need.to_plan} == before
    assert {need.name for need in found if need.for_jobs} == by_jobs
    assert {need.name for need in awaited(project, dataset).values()} == by_jobs
    assert by_jobs <= {job.name for job in fetch_jobs(project, is_planning=True)}
    forbidden = read(allow_download=False)
    assert not awaited(forbidden, dataset) and not fetch_jobs(forbidden, is_planning=True)


def test_jobs_fetch_nothing_where_a_person_has_to_get_a_file_first(read):
    assert not awaited(read(), "youcook2")
    vectors = Path("resources/avlnet") / VECTORS
    vectors.parent.mkdir(parents=True)
    with vectors.open("wb") as file:
        file.truncate(3_644_258_522)
    assert {need.name for need in awaited(read(), "youcook2").values()} == {"avlnet_data", "avlnet_models"}


def test_what_lies_there_is_fetched_by_no_job_and_what_has_a_wrong_length_before_planning(read):
    pca = Path("resources/weights/vggish_pca_params.npz")
    pca.parent.mkdir(parents=True)
    pca.write_bytes(b"half of it")
    need = next(need for need in needs(read(), "ucf_gzsl") if need.name == "vggish_pca")
    assert need.to_plan == [pca] and not need.for_jobs
    assert "vggish_pca" not in {job.name for job in fetch_jobs(read(), is_planning=True)}
    with pca.open("wb") as file:
        file.truncate(73020)
    assert "vggish_pca" not in {job.name for job in fetch_jobs(read(), is_planning=True)}
    assert "vggish_pca" in {job.name for job in fetch_jobs(read(), is_planning=False)}  # the job itself, begun before


@pytest.mark.parametrize(("extractor", "sha256"), [("resnet152", RESNET), ("resnext101", "7" * 64)])
def test_features_stay_where_the_same_weights_come_back(read, extractor, sha256):
    """By the published digest, or by the lock file where nobody publishes one."""

    def comes_back(recorded: str) -> bool:
        write_json(f"results/youcook2_videos/weights/{extractor}.json", {"sha256": recorded, "pca_sha256": None})
        return come_back(read(), "youcook2_videos", extractor)

    assert not come_back(read(), "youcook2_videos", extractor)  # nothing is recorded
    assert comes_back(sha256) == (extractor == "resnet152")
    need = next(need for need in needs(read(), "youcook2_videos") if need.name == extractor)
    file = next(iter(need.files.wanted().values()))
    pins(read(), extractor).keep(file, Fetched(5, sha256, "", "2026-11-30"))
    assert comes_back(sha256) and not comes_back("8" * 64)
    assert not come_back(read(allow_download=False), "youcook2_videos", extractor)
    need.missing[0].parent.mkdir(parents=True, exist_ok=True)
    need.missing[0].touch()
    assert not comes_back(sha256)  # others may lie there now
