"""The catalogue of published weight files and what is made of a file's digest."""

import re
from pathlib import Path

import pytest

from avpipe.config.catalogue import read_catalogue, read_file_sets
from avpipe.config.models import Weights
from avpipe.errors import AvpipeError
from avpipe.features.checks import judge_digest
from avpipe.plan import Paths, Project
from avpipe.plan.downloads import needs
from avpipe.sources.download import fits

CATALOGUE = Path(__file__).parents[2] / "config" / "weights.yaml"


def test_every_weight_file_says_where_it_is_from_and_under_which_licence():
    catalogue = read_catalogue(CATALOGUE)
    published = {"resnet152", "resnext101", "c3d", "vggish", "vggish_pca", "selavi"}
    published |= {"avlnet", "avlnet_text_tri", "avlnet_text_fused"}
    assert published <= set(catalogue) <= set(Weights.model_fields)
    for entry in catalogue.values():
        assert entry.url.startswith("http") and entry.trained_on and entry.licence_weights and entry.licence_code
        assert entry.path == f"<resources>/weights/{Path(entry.path).name}"
        assert all(len(digest) in (8, 64) and int(digest, 16) for digest in entry.sha256)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("c3d: {path: x}", "url"),
        ("c3d: {paths: x}", "paths"),
        ("{}", "expected"),
        ("- 1", "must hold keys"),
    ],
)
def test_a_catalogue_that_is_not_one(tmp_path, text, found):
    (tmp_path / "weights.yaml").write_text(text)
    with pytest.raises(AvpipeError, match=found):
        read_catalogue(tmp_path / "weights.yaml")
    with pytest.raises(AvpipeError, match="restore it"):
        read_catalogue(tmp_path / "gone.yaml")


def test_what_a_digest_tells():
    assert judge_digest("394f9c45ab", ["394f9c45", "b121ed2d"]) is None
    assert judge_digest("b121ed2dab", ["394f9c45", "b121ed2d"]) is None
    assert judge_digest("0123", []) is None  # nobody published one
    assert "begins with 394f9c45" in (judge_digest("0123", ["394f9c45"]) or "")


FILES = CATALOGUE.with_name("files.yaml")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_every_set_of_files_is_pinned():
    """An address never names a branch, and every file has a hash."""
    for name, files in read_file_sets(FILES, {}).items():
        assert all(re.search(r"/[0-9a-f]{40}/$", url) and url.startswith("https://") for url in files.urls), name
        assert all(re.search(r"(sha256:[0-9a-f]{64}|git:[0-9a-f]{40})$", facts) for facts in files.files.values()), name
        assert files.title and files.licence and files.citation and files.folder.startswith("<resources>/")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no published files at {SHARED}")
def test_the_benchmarks_files_at_hand_have_the_lengths_and_hashes_of_the_table():
    known = {}
    for name, files in read_file_sets(FILES, {}).items():
        if name.startswith("avca_"):
            known |= {path.as_posix().partition("AVCA-GZSL/")[2]: file for path, file in files.wanted().items()}
    assert len(known) == 81
    found = 0
    for path, file in known.items():
        at_hand = SHARED / "gzsl" / path.removeprefix("avgzsl_benchmark_datasets/")
        if at_hand.is_file():
            assert fits(at_hand, file) is not None, path
            found += 1
    assert found == 77


def test_committed_datasets_name_sets_that_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = Project.read({}, CATALOGUE.parents[1], Paths(resources=str(tmp_path)))
    for name in ("ucf_gzsl", "activitynet_gzsl", "vggsound_gzsl"):
        found = needs(project, name)
        assert {need.name for need in found if need.files} >= set(project.dataset(name).files) and found[0].missing
        assert Path(project.dataset(name).gzsl.class_split).relative_to(tmp_path).parts[0] == "AVCA-GZSL"
        wanted = [path for need in found if need.files for path in need.missing]
        assert Path(project.dataset(name).gzsl.word_vectors) in wanted
        assert Path(project.dataset(name).gzsl.class_split) / "all_class.txt" in wanted
    assert needs(project, "demo") == []
