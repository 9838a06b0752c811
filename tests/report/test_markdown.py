import pytest

from avpipe.report.markdown import escape, figure, table


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a|b", "a\\|b"), ("<b>", "&lt;b>"), ("2\n3", "2 3"), ("C:\\x", "C:\\\\x"), ("*a*", "\\*a\\*"), ("a_b", "a_b")],
)
def test_what_markdown_would_read_is_escaped(text, escaped):
    assert escape(text) == escaped


def test_a_table():
    assert table(("name", "n"), [("a|b", "1")]) == ["| name | n |", "| --- | ---: |", "| a\\|b | 1 |"]


def test_figures():
    assert [figure(1.0, 2.0), figure(1.0, None), figure(None, None), figure(1.0, 2.0, separator="±")] == [
        "1.00 ± 2.00",
        "1.00",
        "–",
        "1.00±2.00",
    ]
