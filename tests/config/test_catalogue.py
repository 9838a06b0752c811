"""The catalogue of published weight files and what is made of a file's digest."""

from pathlib import Path

import pytest

from avpipe.config.catalogue import read_catalogue
from avpipe.config.models import Weights
from avpipe.errors import AvpipeError
from avpipe.features.checks import judge_digest

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
