import io

from made_results import (
    make_account,
    make_evaluation,
    make_failed,
    make_published,
    make_record,
    make_seed,
    make_weights,
)
from rich.console import Console

from avpipe.report.gzsl import to_document
from avpipe.report.terminal import WIDTH, print_document

METHODS = ("avca", "ale", "devise", "sje", "apn", "cjme", "avgzslnet", "fvaegan")


def printed(record):
    text = io.StringIO()
    print_document(to_document(record), Console(file=text, width=WIDTH))
    return text.getvalue()


def test_eight_methods_in_two_forms_fit_a_hundred_columns():
    widest = {"seen": 100.0, "unseen": 99.99, "hm": 99.99, "zsl": 100.0}
    known = make_published(hm=41.34, zsl=37.72)
    evaluations = []
    for method in METHODS:
        for form in ("corrected", "published", "permuted"):
            seeds = [make_seed(n, **(widest if n else dict.fromkeys(widest, 50.0))) for n in range(12)]
            quirks = {"chooses_on_test": form == "published"}
            evaluations.append(make_evaluation([], method, form, seeds=seeds, quirks=quirks))
    lines = printed(make_record(evaluations, published=known)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    for method in METHODS:
        rows = [line.split() for line in lines if line.startswith(f"{method} ")]
        # one line each: method, form, four figures, seeds and what was published
        assert [row[1] for row in rows] == ["corrected", "published", "permuted"]
        # eleven seeds of 100 and one of 50: the mean is 95.83, the deviation 50 / sqrt(12)
        assert [row[2] for row in rows] == ["95.83±14.43", "95.83±14.43†", "95.83±14.43"]
        assert all(len(row) == 8 and row[-1] == "41.34/37.72" for row in rows)


def test_notices_and_failed_clips_are_printed_as_they_are():
    account = make_account([make_failed(clip_id="[x]", detail="why")] * 12)
    record = make_record([make_evaluation([1.0])], weights={"c3d": make_weights("random:0")}, clips=account)
    text = printed(record.model_copy(update={"notices": [*record.notices, "A note with [brackets] ü"]}))
    assert "RANDOM WEIGHTS: c3d" in text and "A note with [brackets] ü" in text
    assert text.count("  [x]: no_audio (why)") == 10 and "and 2 more in eval.json" in text
    assert "clips: requested 3, ok 2, no_audio 1" in text


def test_given_features_have_no_account():
    text = printed(make_record([make_evaluation([1.0])], clips=None))
    assert (
        "clips: " not in text
        and "cls_split, cls_features" in text
        and "41.34" not in text
        and "chance ZSL 16.7" in text
    )
