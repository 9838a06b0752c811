"""Where files lie: the roots may be anywhere, and what the configuration names itself lies where it says."""

from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.plan import Paths, Project, features, gzsl, media, retrieval

ROOT = Path(__file__).parents[2]
ELSEWHERE = Paths(results="made", resources="given")


def test_what_the_plan_chooses_lies_below_the_roots():
    runs = {"one": {"weights": "random", "epochs": 1}, "two": {"weights": "run:mine/one"}}
    own = {"source": {"kind": "packs"}, "retrieval": {"subsets": {"train": {}, "test": {}}, "runs": runs}}
    converted = {"frame_rate": {"mode": "file"}}
    project = Project.read({"datasets": {"mine": own, "demo": converted}}, ROOT, ELSEWHERE)
    stores = media.consumers(project, "demo", "0000").values()
    assert [each["store"] for each in stores] == [f"made/demo/features/{name}/0000.h5" for name in ("c3d", "vggish")]
    assert retrieval.start(project, "mine", "two") == "made/mine/retrieval/runs/one/main/training.json"
    assert retrieval.training_pack(project, "mine", "one") == "made/mine/retrieval/packs/train.h5"
    assert project.made_folder("demo") == "given/demo/videos"
    assert gzsl.class_vectors(project, "demo", "main_split") == "given/demo/word_embeddings_demo_normed.npy"
    assert project.setting("demo_retrieval", "retrieval", "word_vectors") == "given/demo_retrieval/words.vec"
    assert features.weights(project, "ucf_gzsl", "c3d") == "given/weights/c3d.pickle"


def test_a_path_of_one_s_own_stays_where_it_is_unless_it_names_a_root():
    weights = {"c3d": "resources/own.pickle", "vggish": "<resources>/own.pth", "selavi": "/data/<other>/x.pth"}
    project = Project.read({"weights": weights}, ROOT, ELSEWHERE)
    found = [features.weights(project, "ucf_gzsl", extractor) for extractor in weights]
    assert found == ["resources/own.pickle", "given/own.pth", "/data/<other>/x.pth"]


def test_a_root_with_braces_is_refused():
    with pytest.raises(AvpipeError, match="rename the folder"):
        Project.read({}, ROOT, Paths(results="{x}"))
