import io

from made_retrieval import MODALITIES, collect, make_evaluation, make_seed
from rich.console import Console

from avpipe.report.retrieval import to_document
from avpipe.report.terminal import WIDTH, print_document


def printed(record):
    text = io.StringIO()
    print_document(to_document(record), Console(file=text, width=WIDTH))
    return text.getvalue()


def test_three_models_fit_a_hundred_columns(tmp_path):
    evaluations = []
    for model in MODALITIES:
        # twelve seeds, of which one has half of what the others have: the deviation of R@1 is 50 / sqrt(12)
        widest = {"median_rank": 1675.5}
        seeds = [make_seed(n, 100.0 if n else 50.0, backwards=100.0, metrics=widest) for n in range(12)]
        evaluations.append(make_evaluation([], run="from_scratch", model=model, seeds=seeds))
    lines = printed(collect(tmp_path, evaluations, extracted=False)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    rows = [line.split() for line in lines if line.startswith("from_scratch ")]
    assert [row[1:4] for row in rows[:2]] == [["audio", "→", "video"], ["video", "→", "audio"]]
    assert [row[4] for row in rows[::2]] == ["95.83±14.43"] * 3 and len(rows) == 6
    assert all(row[-2:] == ["1675.50±0.00", "12"] for row in rows)


def test_notices_published_figures_and_the_account(tmp_path):
    text = printed(collect(tmp_path, [make_evaluation([10.0])], dataset="youcook2", notes=["A [note] ü"]))
    assert "MISSED QUERIES: test: 32 of 1000" in text and "A [note] ü" in text
    assert "published for fine_tuned, audio → video: R@1 30.7 (VLSA" in text.replace("\n", " ")
    assert "clips: requested 3, ok 2, no_audio 1" in text and "  a|b: no_audio (line" in text
    assert "test: 968 candidates (chance R@1/5/10 0.1/0.5/1.0)" in text


def test_given_features_have_no_account(tmp_path):
    assert "\nclips: " not in printed(collect(tmp_path, [make_evaluation([10.0])], extracted=False))
