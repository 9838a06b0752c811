from pathlib import Path

import pytest

from avpipe.errors import AvpipeError
from avpipe.report.gzsl import KEYS, read_table
from avpipe.report.published import COLUMNS, find_dataset

SHIPPED = Path(__file__).parents[2] / "config/published_gzsl.csv"
HEAD = ",".join((*KEYS, *COLUMNS))


@pytest.fixture(scope="module")
def shipped():
    return read_table(SHIPPED)


def test_seen_and_unseen_give_the_harmonic_mean_within_rounding(shipped):
    gaps = []
    for figures in shipped.values():
        if "seen" in figures:
            s, u, hm = (figures[metric].value for metric in ("seen", "unseen", "hm"))
            # Each figure is off by at most 0.005; the derivatives of 2SU/(S+U) are 2U²/(S+U)² and 2S²/(S+U)².
            allowed = 0.005 * (1 + 2 * (u * u + s * s) / (s + u) ** 2)
            gaps.append(abs(2 * s * u / (s + u) - hm))
            assert gaps[-1] <= allowed
    assert len(gaps) == 44  # 8 methods and 7 on three datasets, but one pair is not known
    assert max(gaps) == pytest.approx(0.014, abs=5e-4)  # docs/methods.md, Published zero-shot figures


def test_what_is_known_is_there(shipped):
    assert {key[:3] for key in shipped} == {
        (dataset, split, features)
        for dataset in ("vggsound_gzsl", "ucf_gzsl", "activitynet_gzsl")
        for split, features in (("main_split", "main_features"), ("cls_split", "cls_features"))
    }
    avca = shipped["ucf_gzsl", "cls_split", "cls_features", "avca"]
    assert {metric: figure.value for metric, figure in avca.items()} == {
        "seen": 63.15,
        "unseen": 30.72,
        "hm": 41.34,
        "zsl": 37.72,
    }
    assert avca["hm"].confirmed and avca["hm"].source == "AVCA-GZSL README"
    assert not avca["seen"].confirmed and str(avca["seen"]) == "63.15 (unconfirmed)"
    assert shipped["ucf_gzsl", "main_split", "main_features", "ale"]["seen"].confirmed
    assert set(shipped["ucf_gzsl", "cls_split", "cls_features", "ale"]) == {"hm", "zsl"}
    assert ("ucf_gzsl", "cls_split", "cls_features", "fvaegan") not in shipped


@pytest.mark.parametrize(
    ("name", "title", "expected"),
    [
        ("ucf_gzsl", "", "ucf_gzsl"),
        ("ucf_gzsl_selavi", "", "ucf_gzsl"),
        ("UCF-GZSL.own", "", "ucf_gzsl"),
        ("mine", "UCF-GZSL, C3D/VGGish features", "ucf_gzsl"),
        ("vggsound_gzsl", "", "vggsound_gzsl"),
        ("ucf_gzsl2", "", None),
        ("my_ucf_gzsl", "About UCF-GZSL", None),
    ],
)
def test_the_published_dataset_of_a_dataset(shipped, name, title, expected):
    assert find_dataset(shipped, name, title) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "columns"),
        (f"{HEAD}\nd,s,f,m,hm,x,README,yes\n", "row 2"),
        (f"{HEAD}\nd,s,f,m,hm,101,README,yes\n", "row 2"),
        (f"{HEAD}\nd,s,f,m,hm,nan,README,yes\n", "row 2"),
        (f"{HEAD}\nd,s,f,m,mean,1,README,yes\n", "a metric of"),
        (f"{HEAD}\nd,s,f,m,hm,1,README,maybe\n", "yes or no"),
        (f"{HEAD}\nd,s,f,m,hm,1\n", "row 2"),
        (f"{HEAD}\nd,s,f,m,hm,1,README,yes\nd,s,f,m,hm,2,README,yes\n", "row 3 repeats hm of d, s, f, m"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(AvpipeError, match=message):
        read_table(tmp_path / "p.csv")


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(AvpipeError, match="not read"):
        read_table(tmp_path / "gone.csv")
