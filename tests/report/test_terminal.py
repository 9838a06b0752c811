import io

from made_results import make_evaluation, make_record, make_seed
from rich.console import Console

from avpipe.report.terminal import WIDTH, print_result

METHODS = ("avca", "ale", "devise", "sje", "apn", "cjme", "avgzslnet", "fvaegan")


def printed(record):
    text = io.StringIO()
    print_result(record, Console(file=text, width=WIDTH))
    return text.getvalue()


def test_eight_methods_in_two_forms_fit_a_hundred_columns():
    widest = {"seen": 100.0, "unseen": 99.99, "hm": 99.99, "zsl": 100.0}
    known = {"hm": {"value": 41.34}, "zsl": {"value": 37.72}}
    evaluations = []
    for method in METHODS:
        for form in ("corrected", "published", "permuted"):
            seeds = [{**make_seed(n, 0.0), **(widest if n else dict.fromkeys(widest, 50.0))} for n in range(12)]
            quirks = {"chooses_on_test": form == "published"}
            evaluations.append(make_evaluation([], method, form, seeds=seeds, quirks=quirks))
    lines = printed(make_record(evaluations, published={**known})).splitlines()
    assert max(map(len, lines)) <= WIDTH
    for method in METHODS:
        rows = [line.split() for line in lines if line.startswith(f"{method} ")]
        # one line each: method, form, four figures, seeds and what was published
        assert [row[1] for row in rows] == ["corrected", "published", "permuted"]
        # eleven seeds of 100 and one of 50: the mean is 95.83, the deviation 50 / sqrt(12)
        assert [row[2] for row in rows] == ["95.83±14.43", "95.83±14.43†", "95.83±14.43"]
        assert all(len(row) == 8 and row[-1] == "41.34/37.72" for row in rows)


def test_notices_and_failed_clips_are_printed_as_they_are():
    record = make_record([make_evaluation([1.0])], weights={"c3d": {"label": "random:0"}})
    record["clips"]["failed"] = [{"clip_id": "[x]", "reason": "no_audio", "stage": "s", "detail": "why"}] * 12
    record["notices"].append("A note with [brackets] ü")
    text = printed(record)
    assert "RANDOM WEIGHTS: c3d" in text and "A note with [brackets] ü" in text
    assert text.count("  [x]: no_audio (why)") == 10 and "and 2 more in eval.json" in text
    assert "clips: requested 3, ok 2, no_audio 1" in text


def test_given_features_have_no_account():
    record = make_record([make_evaluation([1.0])])
    del record["clips"]
    text = printed(record)
    assert (
        "clips: " not in text
        and "cls_split, cls_features" in text
        and "41.34" not in text
        and "chance ZSL 16.7" in text
    )
