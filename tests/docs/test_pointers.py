"""What comments and docstrings point to is in the documentation: the page, and the heading on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from extended_package import ROOT

FOLDERS = ("src", "tests", "rules", "workflow", "benchmarks", "config", "profiles", "docs")
SUFFIXES = (".py", ".smk", ".yaml", ".json", ".md")
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in SUFFIXES and path != Path(__file__)
)
POINTER = re.compile(r"\b(docs/\w+\.md)(?:, (?=[A-Z0-9f]))?")
HEADINGS = {
    f"docs/{page.name}": sorted(
        re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE), key=len, reverse=True
    )
    for page in (ROOT / "docs").glob("*.md")
}


def text_of(path: Path) -> str:
    """A file's text with line breaks, indentation and the signs of comments as single spaces."""
    return re.sub(r"\s*\n[ \t]*(?:#:? )?", " ", path.read_text(encoding="utf-8"))


def wrong_pointers(text: str) -> list[str]:
    """Pointers of a text that name no page, or no heading of it; `docs/<page>.md, <heading>; <heading>` is two."""
    wrong = []
    for pointer in POINTER.finditer(text):
        page, rest = pointer[1], text[pointer.end() :]
        if page not in HEADINGS:
            wrong.append(page)
        elif pointer[0] != page:
            heading = _heading(page, rest)
            if heading is None:
                wrong.append(f"{page}, {rest[:40]}")
            while heading is not None:
                rest = rest[len(heading) :]
                heading = _heading(page, rest[2:]) if rest.startswith("; ") else None
                rest = rest[2:]
    return wrong


def _heading(page: str, text: str) -> str | None:
    """The longest heading of a page that a text begins with."""
    return next((each for each in HEADINGS[page] if re.match(re.escape(each) + r"(?!\w)", text)), None)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("as docs/networks.md, C3D, says", []),
        ("(docs/methods.md, CJME; AVGZSLNet; and more)", []),
        ("docs/methods.md, ALE, DEVISE and SJE", []),
        ("docs/networks.md has it", []),
        ("docs/nothing.md", ["docs/nothing.md"]),
        ("docs/networks.md, C4D.", ["docs/networks.md, C4D."]),
    ],
)
def test_a_pointer_names_a_page_and_its_headings(text: str, wrong: list[str]) -> None:
    assert wrong_pointers(text) == wrong


def test_pointers_lead_to_headings() -> None:
    wrong = {str(path.relative_to(ROOT)): found for path in FILES if (found := wrong_pointers(text_of(path)))}
    assert wrong == {}


def test_nothing_points_out_of_the_repository() -> None:
    outside = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\bspecs/|\bspecs §|§ ?\d", line)
    ]
    assert outside == []
