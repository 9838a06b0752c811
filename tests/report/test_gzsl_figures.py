import re

import pytest
from made_results import make_evaluation, make_published, make_record, make_seed

from avpipe.report.beta_curves import plot_beta_curves
from avpipe.report.charts import plot_bars
from avpipe.report.gzsl import to_chart

METHODS = ("avca", "ale", "devise", "sje", "apn", "cjme", "avgzslnet", "fvaegan")


def plot_results(record, target):
    plot_bars(to_chart(record), target)


@pytest.fixture(scope="module")
def record():
    """Eight methods on two benchmarks in three forms."""
    evaluations = [
        make_evaluation([10.0, 20.0, 30.0], method, form, features=features)
        for features in ("cls_features", "main_features")
        for method in METHODS
        for form in ("corrected", "published", "permuted")
    ]
    return make_record(evaluations, synthetic=True, published=make_published(hm=41.34))


@pytest.fixture(scope="module")
def plotted(record, tmp_path_factory):
    """A folder with both figures of the record, each under its function's name."""
    folder = tmp_path_factory.mktemp("plotted")
    for plot in (plot_results, plot_beta_curves):
        plot(record, folder / f"{plot.__name__}.svg")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("plot", [plot_results, plot_beta_curves])
def test_the_same_results_give_the_same_bytes(plot, record, plotted, tmp_path):
    plot(record, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (plotted / f"{plot.__name__}.svg").read_bytes()


def comments(path):
    """The texts of a figure: matplotlib draws letters as paths and says in a comment what they spell, line by line."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL)


@pytest.mark.slow
def test_every_method_form_and_warning_is_in_the_figure(plotted):
    texts = comments(plotted / "plot_results.svg")
    for method in METHODS:
        assert texts.count(method) == 6  # three forms on two benchmarks
    assert [texts.count(form) for form in ("corrected", "published", "permuted")] == [16, 17, 16]  # one in the legend
    assert any("SYNTHETIC DATA" in text for text in texts) and "cls_split, main_features" in texts


def hatches(record, path):
    plot_results(record, path)
    return path.read_text().count("fill: url(#")


def test_controls_are_hatched(tmp_path):
    evaluations = [make_evaluation([10.0]), make_evaluation([10.0], form="permuted")]
    without, with_control = (hatches(make_record(each), tmp_path / "r.svg") for each in (evaluations[:1], evaluations))
    assert with_control == without + 4  # S, U, HM and ZSL; the legend has one of its own


def test_missing_figures_leave_gaps(tmp_path):
    evaluation = make_evaluation([], seeds=[make_seed(0, None, zsl=None), make_seed(1, None)])
    plot_results(make_record([evaluation]), tmp_path / "r.svg")
    plot_beta_curves(make_record([evaluation]), tmp_path / "b.svg")
    plot_results(make_record([]), tmp_path / "none.svg")
    plot_beta_curves(make_record([]), tmp_path / "none.svg")


@pytest.mark.slow
def test_curves_of_methods_without_controls(plotted):
    texts = comments(plotted / "plot_beta_curves.svg")
    assert texts.count("avca, corrected") == texts.count("avca, published") == 2
    assert "avca, permuted" not in texts and "not calibrated" not in texts


def test_a_method_without_a_curve_says_so(tmp_path):
    seeds = [make_seed(0, 10.0, beta_curve=None)]
    plot_beta_curves(make_record([make_evaluation([], "fvaegan", seeds=seeds)]), tmp_path / "b.svg")
    assert "not calibrated" in comments(tmp_path / "b.svg")
