"""report.html as a browser's parser meets it: whether its elements are closed, and what is in them."""

import re
from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        faults: elements that are closed wrongly, ids that occur twice, addresses outside the page.
        headings: level and text of each, in order.
        texts: all text outside the style sheet.
        pictured: all text within pictures.
        pictures: the text of each that is told to those who do not see it.
        links: addresses of links.
        source: what was parsed.
    """

    def __init__(self, text):
        super().__init__()
        self.faults, self.headings, self.texts, self.pictured, self.pictures, self.links = [], [], [], [], [], []
        self._open, self._ids = [], set()
        self.source = text
        self.feed(text)
        self.close()
        self.faults += [f"{tag} is not closed" for tag in self._open]
        targets = [link.removeprefix("#") for link in self.links if link.startswith("#")]
        self.faults += [f"#{target} leads nowhere" for target in targets if target not in self._ids]
        self.faults += re.findall(r"url\((?!#)[^)]*\)|@import[^;]*", text)
        colours = set(re.findall(r"var\((--[a-z-]+)\)", text)) - set(re.findall(r"(--[a-z-]+):", text))
        self.faults += [f"{colour} is no colour of the page" for colour in colours]

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag not in _VOID:
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "svg" and "aria-hidden" not in given:
            self.pictures.append(given.get("aria-label", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for name in ("src", "href", "xlink:href", "action", "data"):
            address = given.get(name) or ""
            is_inside = address.startswith(("#", "data:image/png;base64,")) or "/" not in address
            if not is_inside and tag != "a":
                self.faults.append(f"{tag} has the address {address[:60]}")
        if tag == "script":
            self.faults.append("there is a script")
        if "id" in given:
            self.faults += [f"the id {given['id']} occurs twice"] if given["id"] in self._ids else []
            self._ids.add(given["id"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"{tag} is closed in {self._open[-3:]}")
        else:
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            return
        self.texts.append(data)
        if "svg" in self._open:
            self.pictured.append(data)
        heads = [tag for tag in self._open if re.fullmatch("h[1-6]", tag)]
        if heads:
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data

    @property
    def text(self):
        return "".join(self.texts)

    @property
    def sections(self):
        return [text for level, text in self.headings if level == 2]


def read_page(path):
    """The page of a file that has no fault; all but the matrices takes its colours from the style sheet."""
    page = Page(path.read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.pictures and all(page.pictures)
    assert re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", page.source) == []
    return page
