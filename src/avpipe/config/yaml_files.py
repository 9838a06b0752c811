"""YAML files as mappings; what is wrong with one is told with the file and the line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from avpipe.errors import AvpipeError

_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, whose first value PyYAML drops without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if lines.setdefault(key.value, line) != line:
                    fault = f"the key {key.value!r} is there already, in line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(None, None, fault, key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # a date that no calendar has
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping; an empty file is an empty one.

    Raises:
        AvpipeError: it cannot be read, is no YAML in UTF-8, has a key twice, or holds something else.
    """
    values = _load(path)
    if not isinstance(values or {}, dict):
        raise AvpipeError(f"{path} must hold keys and values, such as `n_shards: 8`; found a {type(values).__name__}.")
    return values or {}


def check_config_files(paths: Iterable[str | Path]) -> None:
    """See that files of settings can be read, before Snakemake reads them, which names neither file nor line.

    Raises:
        AvpipeError: as `read_yaml`, or a file has no key, which Snakemake refuses.
    """
    for path in map(Path, paths):
        # Snakemake reads JSON too, in which tabs may indent.
        if path.suffix != ".json" and not read_yaml(path) and _load(path) is None:
            raise AvpipeError(f"{path} has no key. Write settings into it, or `{{}}`, or leave it out.")


def check_given_files(arguments: Sequence[str] = tuple(sys.argv)) -> None:
    """`check_config_files` of a command's --configfile; ends the process with the message (profiles/*/config.yaml)."""
    paths, is_file = [], False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            is_file = option in ("--configfile", "--configfiles")
            paths += [value] if is_file and equals else []
        elif is_file:
            paths.append(argument)
    try:
        check_config_files(paths)
    except AvpipeError as error:
        sys.exit(str(error))


def line_of(path: Path, keys: Sequence[str]) -> tuple[int, int]:
    """How many of some nested keys a file has, and the line of the last of them (from 1; 0 where it has none)."""
    node, line = yaml.compose(_text(path), yaml.SafeLoader), 0
    for depth, key in enumerate(keys):
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
            continue
        found = [pair for pair in node.value if pair[0].value == key] if isinstance(node, yaml.MappingNode) else []
        if not found:
            return depth, line
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return len(keys), line


def _load(path: Path) -> Any:
    text = _text(path)
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fault = ", ".join(filter(None, (error.context, error.problem)))
        if error.context_mark and error.problem_mark and error.context_mark.line != error.problem_mark.line:
            fault += f" (it began in line {error.context_mark.line + 1})"
        raise _fault(path, text, mark.index if mark else len(text), fault) from None
    except yaml.reader.ReaderError as error:
        raise _fault(path, text, error.position, f"the character {error.character!r} cannot be in YAML") from None
    except RecursionError:
        raise AvpipeError(f"{path} is nested too deeply to be read. Mend the file.") from None


def _fault(path: Path, text: str, index: int, fault: str) -> AvpipeError:
    before = text[:index]
    line, start = before.count("\n") + 1, before.rfind("\n") + 1
    shown = text[start:].partition("\n")[0]
    if "\t" in shown[: len(shown) - len(shown.lstrip())]:
        fault = "a tab indents the line; YAML wants spaces"
    return AvpipeError(
        f"{path}, line {line}: not valid YAML: {fault}. The line is {json.dumps(shown[:200], ensure_ascii=False)}. "
        "Mend the file."
    )


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AvpipeError(f"{path} cannot be read: {error.strerror}. Expected a YAML file; check its name.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = _ENCODINGS.get(content[:2], f"the byte 0x{content[error.start]:02x}")
        raise AvpipeError(f"{path}, line {line}: not UTF-8 but {found}. Save the file as UTF-8.") from None
