import json
from dataclasses import replace

import numpy as np
import pytest
from made_results import make_class, make_evaluation, make_published, make_record, make_seed, make_subset, make_tree
from read_page import read_page

from avpipe.gzsl import scores as scores_module
from avpipe.gzsl.scores import Scores
from avpipe.io.manifest import write_json
from avpipe.report.page import panels
from avpipe.report.page.confusion import confusion_of
from avpipe.report.page.maps import map_of
from avpipe.report.page.sources import Trained
from avpipe.report.page.writing import write_page

SECTIONS = [
    "Results",
    "What it rests on",
    "Learning curves",
    "Seen against unseen",
    "Classes",
    "Confusions",
    "Map",
    "Methods compared",
    "Clips",
]
CHECKPOINT = "ab" * 32
ODD = '<b>&"x'


def write_stage(folder, losses, rates=None, scored_on="validation clips"):
    """An epochs.csv of a stage."""
    folder.mkdir(parents=True)
    rows = ["epoch,loss,loss_one,loss_two,seen,unseen,hm,zsl,beta,scored_on,learning_rate,seconds"]
    for epoch, loss in enumerate(losses):
        scores = "" if rates is None else rates[epoch]
        told = [epoch, loss, loss / 2, loss / 3, *[scores] * 4, "0.1", scored_on if rates else "", 0.001, 1.5]
        rows.append(",".join(map(str, told)))
    (folder / "epochs.csv").write_text("\n".join(rows) + "\n")


def make_scores(names, n_seen, *, clips=4, seed=0):
    """Distances of some clips of each class, most of them nearest to their own."""
    draws = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(names)), clips)
    distances = draws.uniform(1, 2, (len(labels), len(names))).astype(np.float32)
    distances[np.arange(len(labels)), labels] -= 0.7
    is_seen = [place < n_seen for place in range(len(names))]
    tested = scores_module.Tested("avca", seed, 1, 0.1, {}, "both", True, list(names), is_seen, "cpu")
    return Scores(tested, labels, {"both": distances})


def write_run(folder, evaluation, scores=()):
    """evaluation.json of a run, training.json and the stages of its seeds, with their scores; gives its path."""
    run = folder / evaluation.split / evaluation.features / evaluation.method / evaluation.form
    listed = {}
    for seed in evaluation.seeds:
        write_stage(run / f"seed{seed.seed}/stage1", [3.0, 2.0, 1.0], [0.1, 0.5, 0.4])
        write_stage(run / f"seed{seed.seed}/stage2", [2.0, 1.0], [0.9, 1.0], "training clips")
        stages = {f"stage{stage}": {"best_epoch": 1} for stage in (1, 2)}
        listed[str(seed.seed)] = {**stages, "checkpoint_sha256": CHECKPOINT}
    for each in scores:
        each.write(run / f"seed{each.tested.seed}/stage2", CHECKPOINT)
    write_json(run / "training.json", {"seeds": listed})
    write_json(run / "evaluation.json", evaluation.to_json())
    return run / "evaluation.json"


@pytest.fixture
def written(tmp_path):
    """Writes the page of some evaluations and reads it; `made`: see `make_record`."""

    def write(evaluations, name="report.html", scores=(), **made):
        paths = [write_run(tmp_path / name / "runs", each, scores) for each in evaluations]
        write_page(make_record(evaluations, **made), tmp_path / name / "report.html", evaluations=paths)
        return read_page(tmp_path / name / "report.html")

    return write


def test_every_section_is_there_and_what_is_drawn_is_told(written):
    evaluations = [make_evaluation([10.0, 20.0], method) for method in ("avca", "ale")]
    page = written([*evaluations, make_evaluation([1.0, 2.0], form="permuted")], synthetic=True)
    assert page.sections == SECTIONS
    assert page.headings[0] == (1, "Some dataset")
    text = page.text
    assert text.index("SYNTHETIC DATA") < text.index("Accuracies in %")
    assert "avca, permuted" in text and "seeds 0, 1; 3 epochs in stage 1; chosen epochs 3, 3" in text
    assert any(each.startswith("HM and ZSL in %. avca, corrected: harmonic mean HM 15.00") for each in page.pictures)
    stages = [each for each in page.pictures if each.startswith("S, U and HM on ")]
    assert len(stages) == 2 * 3 and "chosen epochs 1, 1" in stages[0]
    assert ["training clips" in each for each in stages] == [False, True] * 3
    assert sum("AUSUC 12.5 %" in each for each in page.pictures) == 3


def test_published_figures_stand_in_the_table_and_their_source_below(written):
    page = written([make_evaluation([10.0])], published=make_published(hm=41.34))
    assert "41.34" in page.text and "Published figures: README." in page.text


def test_names_are_shown_as_they_are(written):
    classes = {ODD: {"gzsl": 50.0, "zsl": None, "clips": 4}, "New": {"gzsl": 20.0, "zsl": 30.0, "clips": 5}}
    evaluation = make_evaluation([], seeds=[make_seed(0, 10.0, per_class=classes, classes_without_clips=[])])
    tree = make_tree(subsets={"stage_2_train": make_subset({ODD: make_class(19, {"too_short": 1})})})
    page = written([evaluation], dataset=ODD, title=ODD, tree=tree)
    assert page.headings[0] == (1, ODD) and page.text.count(ODD) >= 3


def test_the_matrix_of_confusions_agrees_with_the_accuracies_of_the_classes():
    scores = [make_scores([ODD, *"abcde"], 4, seed=seed) for seed in range(3)]
    found = confusion_of([Trained(seed, {}, predictions=each.predictions()) for seed, each in enumerate(scores)])
    assert (found.classes, found.n_seen, found.counts.sum()) == ([ODD, *"abcde"], 4, 3 * 6 * 4)
    rates = 100 * np.diag(found.counts) / found.counts.sum(1)
    results = [each.result().per_class for each in scores]
    means = [np.mean([result[name].gzsl for result in results]) for name in found.classes]
    assert rates == pytest.approx(means) and 0 < min(rates) < max(rates)


def test_seen_classes_come_first_and_the_worst_confusion_is_named():
    scores = make_scores("ab", 0)
    tested = replace(scores.tested, classes=["new", "old", "late"], seen=[False, True, False], beta=0.0)
    labels = np.array([0, 0, 0, 1, 2])
    distances = np.full((5, 3), 9.0, np.float32)
    distances[np.arange(5), [1, 1, 2, 1, 2]] = 1.0
    scores = Scores(tested, labels, {"both": distances})
    found = confusion_of([Trained(0, {}, predictions=scores.predictions())])
    assert (found.classes, found.n_seen) == (["old", "new", "late"], 1)
    assert found.counts.tolist() == [[1, 0, 0], [2, 0, 1], [0, 0, 1]]
    assert [found.taken_for(name) for name in found.classes] == ["", "old (67 %)", ""]


@pytest.mark.parametrize("n_classes", [6, 50, 300])
def test_confusions_are_drawn_and_listed(written, n_classes):
    names = [ODD, *(f"class number {number} of many" for number in range(1, n_classes))]
    scores = make_scores(names, n_classes // 2)
    page = written([make_evaluation([], seeds=[scores.result()])], scores=[scores])
    (picture,) = (each for each in page.pictures if each.startswith("Confusion matrix of avca, corrected"))
    n_right = sum(each.gzsl * each.clips / 100 for each in scores.result().per_class.values())
    assert f" {round(n_right):,} of {4 * n_classes:,} tests of clips are right" in picture
    (picture,) = (each for each in page.pictures if each.startswith("Map of"))
    assert f"{n_classes} class vectors" in picture and "avca, corrected, seed 0" in picture
    assert ("class number 3 of many" in "".join(page.pictured)) == (n_classes < 300)


def test_clips_lie_towards_the_classes_that_they_are_near_to():
    """Of squared Euclidean distances in a plane nothing is lost: places are right but for a linear map of each kind."""
    draws = np.random.default_rng(0)
    classes, clips = draws.normal(size=(7, 2)), draws.normal(size=(40, 2))
    distances = np.linalg.norm(clips[:, None] - classes, axis=-1)
    scores = make_scores("abcdefg", 4)
    found = map_of(Scores(scores.tested, np.zeros(40, np.int64), {"both": distances}))
    assert found.share == pytest.approx(1)
    for places, true in ((found.clips, clips), (found.classes, classes)):
        centred = true - true.mean(0)
        fitted = places @ np.linalg.lstsq(places, centred, rcond=None)[0]
        assert fitted == pytest.approx(centred, abs=1e-6)
    products = found.clips @ found.classes.T
    true = (clips - clips.mean(0)) @ (classes - classes.mean(0)).T
    assert np.corrcoef(products.ravel(), true.ravel())[0, 1] == pytest.approx(1)


def test_a_picture_that_cannot_be_drawn_becomes_a_sentence(written, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no <paint> left")

    monkeypatch.setattr(panels, "draw_rates", fail)
    page = written([make_evaluation([10.0])])
    assert page.text.count("This picture was not drawn: ValueError: no <paint> left") == 2
    assert any(each.startswith("Loss of avca") for each in page.pictures)


def test_without_the_files_of_trainings_the_page_says_so(tmp_path):
    evaluation = make_evaluation([10.0])
    write_json(tmp_path / "evaluation.json", evaluation.to_json())
    target = tmp_path / "report.html"
    write_page(make_record([evaluation], clips=None), target, evaluations=[tmp_path / "evaluation.json"])
    assert "The files of the trainings are not there" in read_page(target).text


def test_the_time_of_the_jobs_is_told(tmp_path):
    for place, seconds in (("extract_c3d/mine/0000", 7200), ("extract_c3d/mine/0001", 3600), ("write_eval/mine", "NA")):
        path = tmp_path / f"benchmarks/{place}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t-\n")
    path = write_run(tmp_path, make_evaluation([10.0]))
    target = tmp_path / "report.html"
    write_page(make_record([make_evaluation([10.0])]), target, evaluations=[path], benchmarks=tmp_path / "benchmarks")
    assert "Jobs took 3.0 hours altogether" in read_page(target).text


def test_the_same_results_give_the_same_bytes(written, tmp_path):
    for name in ("one", "two"):
        written([make_evaluation([10.0, 20.0])], name)
    one, two = ((tmp_path / name / "report.html").read_bytes() for name in ("one", "two"))
    assert one == two and str(tmp_path).encode() not in one


@pytest.mark.slow
def test_a_large_benchmark_stays_small(written, tmp_path):
    """300 classes, 12,000 test clips, eight methods in two forms."""
    draws = np.random.default_rng(0)
    rates = draws.uniform(0, 100, 300).round(6).tolist()
    classes = {
        f"a class with a long name {number}": {"gzsl": rate, "zsl": rate if number % 3 == 0 else None, "clips": 40}
        for number, rate in enumerate(rates)
    }
    curve = np.sort(draws.uniform(0, 100, (3, 256))).tolist()
    betas = {"betas": [None, *range(255)], "seen": curve[0][::-1], "unseen": curve[1], "hm": curve[2], "steps": 9000}
    odd = {"per_class": classes, "classes_without_clips": [], "beta_curve": json.loads(json.dumps(betas))}
    seeds = [make_seed(number, 10.0, **odd) for number in range(3)]
    scores = [make_scores(list(classes), 200, clips=40, seed=number) for number in range(3)]
    methods = ("avca", "ale", "devise", "sje", "apn", "cjme", "avgzslnet", "fvaegan")
    evaluations = [
        make_evaluation([], method, form, seeds=seeds) for method in methods for form in ("corrected", "published")
    ]
    page = written(evaluations, scores=scores)
    assert sum(each.startswith("Confusion matrix") for each in page.pictures) == len(evaluations)
    assert (tmp_path / "report.html/report.html").stat().st_size < 10_000_000
