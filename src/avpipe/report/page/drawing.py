"""Charts of the page, drawn by matplotlib as SVG that takes its colours from the page.

matplotlib draws the other figures already, works without a network and gives the same bytes each time; what it cannot
do, a second colour scheme, is had by putting the page's colour variables in place of the colours that it wrote.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from avpipe.report.page.parts import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "ink": "#101214",
    "muted": "#707478",
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "red": "#d55e00",
    "purple": "#cc79a7",
    "sky": "#56b4e9",
}
"""Name of a colour -> how it is drawn; the page has a variable --<name> for each, of the palette of Okabe and Ito."""
LINES = ("blue", "orange", "green", "red", "purple", "sky", "muted")
_POINTS = 72.0
_TOP, _RIGHT = 0.12, 0.12
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "avpipe",
    "svg.fonttype": "none",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), COLOURS["ink"]),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), COLOURS["muted"]),
}
_LONG_NUMBER = re.compile(r"(\.\d\d)\d+")
_FONT = re.compile(r"font: (?:[a-z]+ )*([\d.]+px)[^;\"]*")
_ID = re.compile(r'(\bid="|href="#|url\(#)')


def draw_svg(picture: Picture, prefix: str) -> str:
    """The inside of a picture's <svg> element, whose box is its size in points; the same picture gives the same text.

    Args:
        picture: the picture.
        prefix: of all ids in it, which must be the only ones of their names on the page.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    (width, height), (left, bottom) = picture.size, picture.margins
    with rc_context(_SETTINGS):
        figure = Figure(figsize=picture.size)
        axes = figure.add_axes(
            (left / width, bottom / height, (width - left - _RIGHT) / width, (height - bottom - _TOP) / height)
        )
        picture.draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(buffer.getvalue(), prefix)


def box(picture: Picture) -> tuple[float, float]:
    """Width and height of a picture in points."""
    return picture.size[0] * _POINTS, picture.size[1] * _POINTS


def colour(name: str) -> str:
    """How a colour is drawn."""
    return COLOURS[name]


def style_axes(axes: Axes, x_label: str = "", y_label: str = "") -> None:
    """Labels and a faint grid."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, linewidth=0.4, alpha=0.35)
    axes.set_axisbelow(True)
    axes.tick_params(length=2.5, width=0.6)


def _for_page(svg: str, prefix: str) -> str:
    """What matplotlib wrote, without its frame, fonts and metadata, with the page's colours and ids of its own."""
    inside = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<style[^>]*>.*?</style>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"<!--.*?-->\s*", "", inside, flags=re.DOTALL)
    for name, value in COLOURS.items():
        inside = inside.replace(value, f"var(--{name})")
    inside = _FONT.sub(r"font-size: \1", _LONG_NUMBER.sub(r"\1", inside))
    return re.sub(r"\n\s*", "\n", _ID.sub(rf"\g<1>{prefix}", inside)).strip()
