"""What a page consists of: sections of blocks, pictures, folds and tables with bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from avpipe.report.document import Block

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Sign = Literal["line", "dashes", "dots", "dot", "ring", "diamond", "field"]


@dataclass(frozen=True)
class Key:
    """What a colour and a sign of pictures stand for; the colour is one of `drawing.COLOURS`."""

    name: str
    colour: str
    sign: Sign = "line"


@dataclass(frozen=True)
class Picture:
    """A chart that is drawn when the page is written; one that cannot be drawn becomes a sentence.

    Attributes:
        title: what stands above it.
        alt: what it shows, for those who do not see it.
        draw: draws it into axes.
        size: width and height in inches.
        margins: room left of and below the axes, in inches.
        is_wide: whether it takes the whole width of the page, and scrolls in its own box where that is too small.
        keys: what its colours mean, where the other pictures of its gallery have others.
    """

    title: str
    alt: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = (3.3, 2.2)
    margins: tuple[float, float] = (0.45, 0.4)
    is_wide: bool = False
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side, as many as there is room for, and what the colours of all of them mean."""

    pictures: Sequence[Picture]
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Bars:
    """A table whose second column is a share in %, drawn as a bar.

    Attributes:
        names: of the columns, the bar's second.
        rows: the other cells, the share or None, and whether the row is marked by the second colour.
    """

    names: Sequence[str]
    rows: Sequence[tuple[Sequence[str], float | None, bool]]


@dataclass(frozen=True)
class Fold:
    """Parts that are shown on demand; of folds with one `group` only one is open at a time."""

    summary: str
    parts: Sequence[Part]
    is_open: bool = False
    group: str = ""


Part = Block | Gallery | Bars | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page that the table of contents names."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: of it.
        subtitle: a line below the title.
        notices: what must be read first.
        sections: the rest, in order.
    """

    title: str
    subtitle: str
    notices: Sequence[str]
    sections: Sequence[Section]
