import pytest
from made_retrieval import collect, make_evaluation, make_pack, make_seed

from avpipe.report.markdown import to_markdown
from avpipe.report.retrieval import to_document


@pytest.fixture
def page(tmp_path):
    return lambda *evaluations, **changes: to_markdown(to_document(collect(tmp_path, evaluations, **changes)))


def test_a_row_for_each_run_and_direction(page):
    text = page(make_evaluation([10.0, 20.0, 30.0]))
    common = "| fine_tuned | avlnet | fine-tuned | published (abababab) "
    forwards = "| audio → video | 20.00 ± 10.00 | 40.00 ± 20.00 | 60.00 ± 30.00 | 4.00 ± 0.00 | 20.50 ± 0.00 "
    assert f"{common}{forwards}| 0.1 / 0.5 / 1.0 | 968 of 1000 | 968 | 3 |" in text
    assert f"{common}| video → audio | 10.00 ± 5.00 |" in text
    assert "One gallery of 968 clips." in text


def test_weights_as_they_are_have_no_seeds(page):
    assert "| 968 of 1000 | 968 | – |" in page(make_evaluation([], seeds=[make_seed(None, 10.0)]))


def test_each_subset_has_its_table_and_diagnostic_ones_say_so(page):
    evaluations = [make_evaluation([10.0]), make_evaluation([20.0], subsets=("sounds",), test={"diagnostic": True})]
    text = page(*evaluations)
    assert text.index("## test\n") < text.index("| 10.00 |") < text.index("## sounds, diagnostic")


def test_published_figures_beside_ours(page):
    text = page(make_evaluation([10.0]), dataset="youcook2")
    row = next(line for line in text.splitlines() if "VLSA" in line)
    assert row.endswith("| 30.7 (10.00) | – (20.00) | – (30.00) | – (4.00) |")
    assert "VLSA" not in page(make_evaluation([10.0]))


def test_the_page_says_what_the_figures_rest_on(page):
    text = page(make_evaluation([10.0]), packs={"test": make_pack(origin="published pickle")})
    assert "> **GIVEN FEATURES" in text and "| test | published pickle | no_audio 30, unlisted 2 | 1000 | 968 |" in text
    assert "| requested | 3 |" in text and "| a\\|b | no_audio | probe_clips | line break |" in text
    assert "requested" not in page(make_evaluation([10.0]), extracted=False)
