"""A page as HTML, in one file: style sheet and pictures are inside it, every text is escaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from html import escape

from avpipe.report.document import Heading, Items, Paragraph, Table
from avpipe.report.page.drawing import box, draw_svg
from avpipe.report.page.parts import Bars, Fold, Gallery, Key, Page, Part, Picture, Section
from avpipe.report.page.style import STYLE

log = logging.getLogger(__name__)

_LARGEST = 1.6  # pixels of the page for a point of a picture
_SIGNS = {
    "line": '<path d="M0 5H24" stroke="var(--{0})" stroke-width="3"/>',
    "dashes": '<path d="M0 5H24" stroke="var(--{0})" stroke-width="2.5" stroke-dasharray="5 3"/>',
    "dots": '<path d="M0 5H24" stroke="var(--{0})" stroke-width="2.5" stroke-dasharray="2 3"/>',
    "dot": '<circle cx="12" cy="5" r="3.5" fill="var(--{0})"/>',
    "ring": '<circle cx="12" cy="5" r="3.5" fill="none" stroke="var(--{0})" stroke-width="1.8"/>',
    "diamond": '<path d="M12 0L17 5L12 10L7 5Z" fill="none" stroke="var(--{0})" stroke-width="1.8"/>',
    "field": '<path d="M3 0H21V10H3Z" fill="var(--{0})"/>',
}


def to_html(page: Page) -> str:
    """The page as a whole HTML document."""
    writer = _Writer()
    sections = [(writer.anchor(section.title), section) for section in page.sections]
    contents = "".join(f'<li><a href="#{name}">{escape(section.title)}</a></li>' for name, section in sections)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{STYLE}</style>\n</head>\n<body>",
            f'<header>\n<h1>{escape(page.title)}</h1>\n<p class="sub">{escape(page.subtitle)}</p>',
            _notices(page.notices),
            f'</header>\n<nav aria-label="Contents"><ol>{contents}</ol></nav>\n<main>',
            *(writer.section(name, section) for name, section in sections),
            '</main>\n<footer><p>All figures, unrounded: <a href="eval.json">eval.json</a>; the tables as text: '
            '<a href="eval.md">eval.md</a>. Both lie beside this file.</p></footer>\n</body>\n</html>\n',
        ]
    )


def _notices(notices: Sequence[str]) -> str:
    if not notices:
        return ""
    lines = []
    for notice in notices:
        subject, colon, rest = notice.partition(":")
        text = f"<b>{escape(subject)}:</b>{escape(rest)}" if colon and subject.isupper() else escape(notice)
        lines.append(f"<li>{text}</li>")
    return f'<aside class="notices" aria-label="Read first"><ul>{"".join(lines)}</ul></aside>'


class _Writer:
    """Writes parts; it counts anchors and pictures, whose names must be the only ones of their kind on the page."""

    def __init__(self) -> None:
        self.anchors: set[str] = set()
        self.pictures = 0

    def anchor(self, title: str) -> str:
        """A name for a heading, made of its letters."""
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
        name, number = slug, 1
        while name in self.anchors:
            number += 1
            name = f"{slug}-{number}"
        self.anchors.add(name)
        return name

    def section(self, name: str, section: Section) -> str:
        """A section with its heading."""
        head = f'<section>\n<h2 id="{name}"><a href="#{name}">{escape(section.title)}</a></h2>'
        return "\n".join([head, *self.parts(section.parts), "</section>"])

    def parts(self, parts: Iterable[Part]) -> list[str]:
        """All parts that are for a page."""
        return [self.part(part) for part in parts if getattr(part, "on", "both") != "terminal"]

    def part(self, part: Part) -> str:
        """One part."""
        if isinstance(part, Heading):
            name = self.anchor(part.text)
            return f'<h3 id="{name}"><a href="#{name}">{escape(part.text)}</a></h3>'
        if isinstance(part, Paragraph):
            return f"<p>{escape(part.text)}</p>"
        if isinstance(part, Items):
            return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in part.lines)}</ul>"
        if isinstance(part, Table):
            return _fold(part.summary, [_table(part)]) if part.summary else _table(part)
        if isinstance(part, Bars):
            return _bars(part)
        if isinstance(part, Fold):
            return _fold(part.summary, self.parts(part.parts), is_open=part.is_open, group=part.group)
        return self.gallery(part)

    def gallery(self, gallery: Gallery) -> str:
        """Pictures and what their colours mean."""
        return f'{_keys(gallery.keys)}<div class="gallery">{"".join(map(self.picture, gallery.pictures))}</div>'

    def picture(self, picture: Picture) -> str:
        """A picture, or a sentence that says why there is none."""
        self.pictures += 1
        title = f"<figcaption>{escape(picture.title)}</figcaption>"
        kind = ' class="wide" tabindex="0"' if picture.is_wide else ""
        try:
            inside = draw_svg(picture, f"p{self.pictures}-")
        except Exception as error:  # figures stand in the tables too: no run of hours fails for a drawing
            log.warning("A picture of the page was not drawn: %s", picture.title, exc_info=True)
            text = f"This picture was not drawn: {type(error).__name__}: {error}"
            return f"<figure{kind}>{title}<p>{escape(text)}</p></figure>"
        width, height = box(picture)
        frame = f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(picture.alt)}"'
        least = width if picture.is_wide else 0
        size = f'style="min-width:{least:.0f}px;max-width:{_LARGEST * width:.0f}px"'
        return f"<figure{kind}>{title}<svg {frame} {size}>{inside}</svg>{_keys(picture.keys)}</figure>"


def _keys(keys: Sequence[Key]) -> str:
    return f'<ul class="keys">{"".join(map(_key, keys))}</ul>\n' if keys else ""


def _key(key: Key) -> str:
    sign = _SIGNS[key.sign].format(key.colour)
    return f'<li><svg viewBox="0 0 24 10" aria-hidden="true">{sign}</svg>{escape(key.name)}</li>'


def _fold(summary: str, parts: Sequence[str], *, is_open: bool = False, group: str = "") -> str:
    name = f' name="{escape(group)}"' if group else ""
    inside = "\n".join(parts)
    return f"<details{name}{' open' if is_open else ''}><summary>{escape(summary)}</summary>\n{inside}\n</details>"


def _table(table: Table) -> str:
    columns = [column for column in table.columns if column.on != "terminal"]
    kinds = ["" if column.is_text else ' class="number"' for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.name)}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    rows = []
    for row in table.rows:
        first, *others = (escape(column.cell(row)) for column in columns)
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(others, kinds[1:], strict=True))
        rows.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return _scrolling(f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>")


def _bars(bars: Bars) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in bars.names)
    rows = []
    for cells, share, is_marked in bars.rows:
        first, *others = map(escape, cells)
        bar = "–" if share is None else f'<div><i style="width:{0.7 * share:.1f}%"></i>{share:.1f}</div>'
        cells_after = "".join(f"<td>{cell}</td>" for cell in others)
        inside = f'<th scope="row">{first}</th><td class="bar">{bar}</td>{cells_after}'
        marked = ' class="marked"' if is_marked else ""
        rows.append(f"<tr{marked}>{inside}</tr>")
    return _scrolling(f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>")


def _scrolling(inside: str) -> str:
    return f'<div class="scroll" tabindex="0"><table>{inside}</table></div>'
