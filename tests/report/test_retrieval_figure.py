import re

import pytest
from made_retrieval import MODALITIES, collect, make_evaluation

from avpipe.report.charts import plot_bars
from avpipe.report.retrieval import to_chart


@pytest.fixture
def plot(tmp_path):
    def draw(*evaluations, **changes):
        plot_bars(to_chart(collect(tmp_path, evaluations, **changes)), tmp_path / "eval.svg")
        return (tmp_path / "eval.svg").read_text()

    return draw


def texts(picture):
    """The texts of a figure: matplotlib draws letters as paths and says in a comment what they spell, line by line."""
    return re.findall(r"<!-- (.*?) -->", picture, re.DOTALL)


@pytest.mark.slow
def test_every_run_subset_and_direction_is_in_the_figure_and_equal_results_give_equal_bytes(plot):
    evaluations = [make_evaluation([10.0, 20.0], run=f"run_{m}", model=m, subsets=("a", "b")) for m in MODALITIES]
    picture = plot(*evaluations, synthetic=True)
    found = texts(picture)
    for model, (query, candidates) in MODALITIES.items():
        assert found.count(f"run_{model}") == 4  # two subsets in two directions
        assert found.count(f"{query} → {candidates}") == found.count(f"{candidates} → {query}") == 2
    assert "a, language to video" in found and "b, video to language" in found
    assert any("SYNTHETIC DATA" in text for text in found)
    assert picture == plot(*evaluations, synthetic=True)


def test_controls_are_hatched(plot):
    main, control = make_evaluation([10.0]), make_evaluation([10.0], variant="permuted")
    one, both = (plot(*each).count("fill: url(#") for each in ([main], [main, control]))
    assert both == one + 6  # three recalls in two directions; the legend has one of its own


def test_published_figures_are_marked_in_the_direction_they_are_known_for(plot):
    with_figure, without = (
        plot(make_evaluation([10.0]), dataset=dataset).count("fill-opacity: 0; stroke: #000000")
        for dataset in ("youcook2", "mine")
    )
    assert with_figure == without + 1  # R@1 alone is known; the legend has a hollow mark of its own


def test_no_result_is_an_empty_figure(plot):
    assert "<svg" in plot()
