"""The examples of docs/extending.md, taken from the page, and a copy of the package into which they are put."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """What stands between a heading of the second level and the next one."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@dataclass(frozen=True)
class Example:
    """One of the page's examples.

    Attributes:
        name: in the registry.
        path: of its module, below src/avpipe.
        module: the module's text.
        table: which table of the registry its entry stands in.
        entry: the entry's text.
        more: other Python blocks, in order.
        configuration: YAML that runs it.
    """

    name: str
    path: str
    module: str
    table: str
    entry: str
    more: tuple[str, ...]
    configuration: str


def read_example(heading: str) -> Example:
    """The example below a heading."""
    text = section(PAGE.read_text(encoding="utf-8"), heading)
    module, entry, *more = blocks(text, "python")
    (path,) = re.findall(r"`src/avpipe/(\S+)`:\n\n```python\n\"\"\"", text)
    (table,) = re.findall(r"^In `([A-Z]+)` of `src/avpipe/registry.py`:\n\n```python\n", text, re.MULTILINE)
    (configuration,) = blocks(text, "yaml")
    return Example(entry.split('"')[1], path, module, table, entry, tuple(more), configuration)


EXTRACTOR = read_example("An extractor")
METHOD = read_example("A zero-shot method")
MODEL = read_example("A retrieval model")
EXAMPLES = (EXTRACTOR, METHOD, MODEL)


def copy_package(folder: Path, *examples: Example) -> Path:
    """A copy of src/avpipe in `folder`, with examples in it as the page says: the folder to put on PYTHONPATH."""
    package = folder / "src" / "avpipe"
    shutil.copytree(ROOT / "src" / "avpipe", package)  # with its bytecode, which takes seconds to compile
    for example in examples:
        assert not (package / example.path).exists()
        (package / example.path).write_text(example.module, encoding="utf-8")
        registry = package / "registry.py"
        text, start = registry.read_text(encoding="utf-8"), f"\n{example.table} = {{\n"
        assert text.count(start) == 1
        registry.write_text(text.replace(start, start + example.entry), encoding="utf-8")
    return package.parent
