import json

import pytest

from avpipe.report.figures import plot_results
from avpipe.report.results import find_notices, summarise
from avpipe.report.tables import result_rows, to_markdown


def evaluation(*hm: float) -> dict:
    seeds = [{"seed": n, "seen": 50.0, "unseen": 20.0, "hm": value, "zsl": 30.0} for n, value in enumerate(hm)]
    place = {"split": "s", "features": "f", "method": "avca", "text": "correct", "control": False}
    return {**place, "chance_zsl": 11.1, "seeds": seeds}


@pytest.fixture
def record():
    clips = {"requested": 3, "ok": 2, "reasons": {"no_audio": 1}}
    clips["failed"] = [{"clip_id": "a|b", "reason": "no_audio", "stage": "probe_clips", "detail": "line\nbreak"}]
    subsets = {"stage_1_train": {"expected": 3, "used": 2, "missing": {"no_audio": 1}}}
    return {
        "dataset": "d",
        "title": "T",
        "notices": ["RANDOM WEIGHTS: x"],
        "results": [summarise(evaluation(10.0, 20.0, 30.0)), summarise(evaluation(12.5))],
        "clips": clips,
        "benchmarks": {"s/f": {"subsets": subsets}},
    }


def test_mean_and_sample_deviation_over_seeds():
    summary = summarise(evaluation(10.0, 20.0, 30.0))
    assert (summary["mean"]["hm"], summary["std"]["hm"], summary["std"]["seen"]) == (20.0, 10.0, 0.0)
    assert summarise(evaluation(12.5))["std"]["hm"] is None


def test_rows_of_the_table(record):
    assert result_rows(record)[0][4:] == ("50.00 ± 0.00", "20.00 ± 0.00", "20.00 ± 10.00", "30.00 ± 0.00", "11.1", "3")
    assert result_rows(record)[1][6] == "12.50"


def test_the_page_says_what_the_numbers_rest_on(record):
    page = to_markdown(record)
    assert "RANDOM WEIGHTS" in page and "| stage_1_train | 3 | 2 | no_audio 1 |" in page
    assert "| a\\|b | no_audio | probe_clips | line break |" in page


def test_the_figure_is_the_same_bytes_each_time(record, tmp_path):
    for name in ("1.svg", "2.svg"):
        plot_results(record, tmp_path / name)
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert b"RANDOM WEIGHTS" in (tmp_path / "1.svg").read_bytes() or (tmp_path / "1.svg").stat().st_size > 5000


@pytest.mark.parametrize(
    ("synthetic", "label", "words"),
    [
        (True, "random:3", ["SYNTHETIC", "c3d (random:3)"]),
        (False, "random:3", ["c3d (random:3)"]),
        (False, "x.pth", []),
    ],
)
def test_notices(synthetic, label, words):
    notices = find_notices(settings_of_a_report(synthetic), {"c3d": {"label": label}})
    assert len(notices) == len(words) and all(word in notice for word, notice in zip(words, notices, strict=True))


def settings_of_a_report(synthetic=False):
    sets = {"cls_features": {"video": "c3d", "audio": "vggish"}}
    gzsl = {"permuted_control": False, "feature_sets": sets, "benchmarks": [{"features": "cls_features"}]}
    return {"synthetic": synthetic, "notes": [], "gzsl": gzsl}


def test_networks_that_no_benchmark_uses_are_named_apart():
    weights = {"c3d": {"label": "random:1"}, "selavi": {"label": "random:2"}, "spectrogram": {"label": "none"}}
    used, besides = find_notices(settings_of_a_report(), weights)
    assert "c3d (random:1)" in used and "selavi" not in used
    assert "selavi (random:2)" in besides and "no figure here rests on them" in besides


def test_weights_that_are_not_the_published_ones_are_named():
    (notice,) = find_notices(
        settings_of_a_report(), {"c3d": {"label": "ab", "remarks": {"c3d": "not the published file"}}}
    )
    assert notice == "OTHER WEIGHTS: c3d is not the published file."


def test_the_record_is_json(record):
    assert json.loads(json.dumps(record, allow_nan=False)) == record
