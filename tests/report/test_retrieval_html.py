from made_retrieval import collect, make_evaluation, make_ranking
from read_page import read_page

from avpipe.io.manifest import write_json
from avpipe.report.page.writing import write_page


def write(folder, evaluations, **changes):
    record = collect(folder, evaluations, dataset="youcook2", **changes)
    paths = []
    for number, each in enumerate(evaluations):
        paths.append(folder / f"runs/{number}/evaluation.json")
        write_json(paths[-1], each.to_json())
        seeds = {str(seed.seed): {} for seed in each.seeds}
        write_json(paths[-1].with_name("training.json"), {"seeds": seeds})
        for seed in seeds:
            place = paths[-1].with_name(f"seed{seed}")
            place.mkdir()
            (place / "epochs.csv").write_text("epoch,loss,learning_rate,seconds\n0,3.5,0.1,2\n1,2.5,0.1,2\n")
    write_page(record, folder / "report.html", evaluations=paths)
    return read_page(folder / "report.html")


def test_every_section_is_there_and_what_is_drawn_is_told(tmp_path):
    page = write(tmp_path, [make_evaluation([10.0, 20.0]), make_evaluation([1.0], variant="permuted")])
    assert page.sections == ["Results", "What it rests on", "Ranks", "Learning curves", "Clips"]
    assert "30.7" in page.text and "VLSA" in page.text
    recalls = [each for each in page.pictures if each.startswith("R@k in % on test")]
    assert len(recalls) == 2 and "R@1 15.00" in recalls[0]
    assert sum(each.startswith("Loss of ") for each in page.pictures) == 2


def test_queries_are_counted_by_rank(tmp_path):
    """Of seven queries five have a rank: 1, 1, 2, 4 and 9."""
    ranks = {"n_queries": 7, "n_ranked": 5, "gallery": 9, "rank_counts": [2, 1, 1, 0, 1]}
    changes = {"language_to_video": make_ranking(28.6, **ranks)}
    page = write(tmp_path, [make_evaluation([10.0], test=changes)])
    (told,) = (each for each in page.pictures if each.startswith("Queries by rank"))
    assert told.endswith("1 28.6 %, 2 14.3 %, 3–4 14.3 %, 5–8 0.0 %, 9–16 14.3 %, missed 28.6 %.")
    assert "Not kept by tests of earlier versions: fine_tuned video → audio." in page.text


def test_a_run_that_trains_nothing_has_no_curve(tmp_path):
    write(tmp_path, [make_evaluation([10.0])])
    (tmp_path / "runs/0/training.json").unlink()
    write_page(
        collect(tmp_path, [make_evaluation([10.0])]),
        tmp_path / "report.html",
        evaluations=[tmp_path / "runs/0/evaluation.json"],
    )
    assert "Nothing was trained here" in read_page(tmp_path / "report.html").text
