import pytest

from avpipe.report.document import Column, Table, figure, plain_columns
from avpipe.report.markdown import escape, table_lines


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a|b", "a\\|b"), ("<b>", "&lt;b>"), ("2\n3", "2 3"), ("C:\\x", "C:\\\\x"), ("*a*", "\\*a\\*"), ("a_b", "a_b")],
)
def test_what_markdown_would_read_is_escaped(text, escaped):
    assert escape(text) == escaped


def test_a_table():
    columns = [*plain_columns("name", "n"), Column("brief", lambda row: row[2], on="terminal")]
    assert table_lines(Table(columns, [("a|b", "1", "x")])) == ["| name | n |", "| --- | ---: |", "| a\\|b | 1 |"]


def test_figures():
    assert [figure(1.0, 2.0), figure(1.0, None), figure(None, None), figure(1.0, 2.0, mark="†")] == [
        "1.00 ± 2.00",
        "1.00",
        "–",
        "1.00 ± 2.00†",
    ]
