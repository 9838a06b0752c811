"""The table of published files and what is made of a file's digest."""

import re
from pathlib import Path

import pytest

from avpipe.config.catalogue import read_catalogue
from avpipe.config.models import Weights
from avpipe.errors import AvpipeError
from avpipe.features.checks import judge_digest
from avpipe.plan import Paths, Project
from avpipe.plan.downloads import needs
from avpipe.plan.requirements import missing, missing_elsewhere
from avpipe.sources.download import fits

FILES = Path(__file__).parents[2] / "config" / "files.yaml"


def test_every_weight_file_says_where_it_is_from_and_under_which_licence():
    catalogue = read_catalogue(FILES)
    keys = {key: files for files in catalogue.values() for key in files.weights}
    published = {"resnet152", "resnext101", "c3d", "vggish", "vggish_pca", "selavi"}
    published |= {"avlnet", "avlnet_text_tri", "avlnet_text_fused"}
    assert published <= set(keys) <= set(Weights.model_fields)
    for key, files in keys.items():
        assert files.urls[0].startswith("http") and files.trained_on and files.licence and files.licence_code
        assert files.folder == "<resources>/weights"
        assert all(len(digest) in (8, 64) and int(digest, 16) for digest in files.digests(files.weights[key]))
    assert keys["resnet152"].digests("resnet152-394f9c45.pth") == ["394f9c45", "b121ed2d"]
    assert keys["avlnet"] is keys["avlnet_text_tri"] and keys["avlnet"].digests("AVLnet_release.pth") == []


ENTRY = "title: x, folder: x, licence: x, citation: x, files: {a.pth: ''}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("c3d: {folder: x}", "title"),
        ("c3d: {folders: x}", "folders"),
        (f"c3d: {{{ENTRY}}}", "neither urls nor obtain"),
        (f"c3d: {{{ENTRY}, obtain: x, weights: {{c4d: a.pth}}}}", "c4d"),
        (f"c3d: {{{ENTRY}, obtain: x, weights: {{c3d: b.pth}}}}", "none of the set's"),
        (
            f"c3d: {{{ENTRY}, obtain: x, weights: &w {{c3d: a.pth}}}}\nagain: {{{ENTRY}, obtain: x, weights: *w}}",
            "once",
        ),
        ("c3d: {title: x, folder: x, licence: x, citation: x, urls: [u], files: {a: '', b: ''}}", "that of one file"),
        (f"c3d: {{{ENTRY}, obtain: x, unpack: {{bytes: 9, pick: [../a]}}}}", "cannot be the name"),
        (f"c3d: {{{ENTRY}, obtain: x, unpack: {{bytes: 9, pick: [a], members: 3}}}}", "leave out members"),
        ("- 1", "must hold keys"),
    ],
)
def test_a_table_that_is_not_one(tmp_path, text, found):
    (tmp_path / "files.yaml").write_text(text)
    with pytest.raises(AvpipeError, match=found):
        read_catalogue(tmp_path / "files.yaml")
    with pytest.raises(AvpipeError, match="restore it"):
        read_catalogue(tmp_path / "gone.yaml")


def test_what_a_digest_tells():
    assert judge_digest("394f9c45ab", ["394f9c45", "b121ed2d"]) is None
    assert judge_digest("b121ed2dab", ["394f9c45", "b121ed2d"]) is None
    assert judge_digest("0123", []) is None  # nobody published one
    assert "begins with 394f9c45" in (judge_digest("0123", ["394f9c45"]) or "")


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


UNVERIFIED = {
    "resnext101", "c3d", "vggish", "selavi", "avlnet_models", "avlnet_data", "avlnet_japanese", "avca_features",
    "avca_models", "word2vec_google_news", "crosstask_annotation",
}  # fmt: skip
"""Sets whose files nobody has published a hash of; the lock file pins them when they are first fetched."""


def test_every_set_of_files_is_pinned():
    """An address never names a branch, and every file has a hash but those known to have none."""
    for name, files in read_catalogue(FILES).items():
        at_commits = [url for url in files.urls if "githubusercontent" in url or "huggingface" in url]
        assert all(re.search(r"/[0-9a-f]{40}/$", url) and url.startswith("https://") for url in at_commits), name
        assert not any(branch in url for url in files.urls for branch in ("/main/", "/master/")), name
        assert bool(files.without_hash()) == (name in UNVERIFIED), name
        assert files.title and files.licence and files.citation and files.folder.startswith("<resources>/")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no published files at {SHARED}")
def test_the_benchmarks_files_at_hand_have_the_lengths_and_hashes_of_the_table():
    known = {}
    for files in read_catalogue(FILES).values():
        if files.folder.endswith("AVCA-GZSL"):
            known |= {path.as_posix().partition("AVCA-GZSL/")[2]: file for path, file in files.wanted().items()}
    assert len(known) == 81
    found = 0
    for path, file in known.items():
        at_hand = SHARED / "gzsl" / path.removeprefix("avgzsl_benchmark_datasets/")
        if at_hand.is_file():
            assert fits(at_hand, file) is not None, path
            found += 1
    assert found == 77


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project.read({}, FILES.parents[1], Paths(resources=str(tmp_path)))


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("ucf_gzsl", ["avca_ucf", "ucf101_videos", "c3d", "vggish", "vggish_pca", "selavi"]),
        ("activitynet_gzsl", ["avca_activitynet", "activitynet_annotation", "c3d", "vggish", "vggish_pca", "selavi"]),
        ("vggsound_gzsl", ["avca_vggsound", "vggsound_annotation", "c3d", "vggish", "vggish_pca", "selavi"]),
        ("youcook2", ["avlnet_data", "word2vec_google_news", "avlnet_models"]),
        ("msrvtt", ["avlnet_data", "word2vec_google_news", "avlnet_models"]),
        ("crosstask", ["avlnet_data", "avlnet_models"]),
        ("youcook_japanese", ["avlnet_japanese", "avlnet_data", "avlnet_models"]),
        ("howto100m", ["avlnet_data", "word2vec_google_news"]),
        ("youcook2_videos", ["youcook2_annotation", "youcook2_test", "resnet152", "resnext101", "avlnet_models"]),
        ("msrvtt_videos", ["msrvtt_annotation", "resnet152", "resnext101", "avlnet_models"]),
        ("crosstask_videos", ["crosstask_annotation", "resnet152", "resnext101", "avlnet_models"]),
        ("demo", []),
        ("demo_gzsl", []),
        ("demo_retrieval", []),
        ("demo_pretraining", []),
    ],
)
def test_what_each_committed_dataset_needs(project, dataset, names):
    """Everything that a run finds missing is in a set, or is said to be in none."""
    found = needs(project, dataset)
    assert [need.name for need in found] == names and all(need.missing for need in found)
    elsewhere = missing_elsewhere(project, dataset)
    expected = {"howto100m": ["the features of whole videos", "the list of videos", "the captions with times"]}
    if not project.is_synthetic(dataset):  # their splits lie in the checkout, where this test is not
        assert [problem.split(":")[0] for problem in elsewhere] == expected.get(dataset, [])
        assert len(missing(project, dataset)) >= len(names)


def test_every_committed_dataset_is_among_them():
    here = {path.stem for path in (FILES.parent / "datasets").glob("*.yaml")}
    marks = test_what_each_committed_dataset_needs.pytestmark
    assert here == {each[0] for mark in marks for each in mark.args[1]}


def test_files_of_ones_own_are_asked_for_no_more(tmp_path, monkeypatch):
    """What is needed follows the settings: other splits, no text models, features instead of videos, a start."""
    monkeypatch.chdir(tmp_path)

    def names(dataset, **settings):
        values = {"datasets": {dataset: settings}}
        project = Project.read(values, FILES.parents[1], Paths(resources=str(tmp_path)))
        return {need.name: [path.name for path in need.missing] for need in needs(project, dataset)}

    own = names("ucf_gzsl", gzsl={"class_split": "/mine/class-split"}, source={"path": "/mine/UCF-101"})
    assert own["avca_ucf"] == ["word_embeddings_ucf_normed.npy"] and "ucf101_videos" not in own
    source = {"kind": "published", "path": "<resources>/avca_features/UCF"}
    published = names("ucf_gzsl", source=source)
    assert published == {"avca_features": ["UCF"]}
    runs = {f"text_{kind}_{how}": None for kind in ("tri", "fused") for how in ("zero_shot", "fine_tuned")}
    spoken = names("youcook2", retrieval={"runs": runs})
    assert "word2vec_google_news" not in spoken and spoken["avlnet_models"] == ["AVLnet_release.pth"]
    assert "youcook_train_audio.pkl" in names("youcook_japanese")["avlnet_data"]  # cascaded_youcook2 starts from it
