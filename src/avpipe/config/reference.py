"""What is generated from models: docs/config.md, config/schema.json and docs/result_fields.md.

`python -m avpipe.config.reference --fix` writes them; without --fix it says whether they are in step.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from avpipe.config.models import Config
from avpipe.io.atomic import write_text
from avpipe.schema import reference as result_fields
from avpipe.schema.reference import models_in

FILES = {
    "docs/config.md": lambda: to_markdown(),
    "config/schema.json": lambda: to_schema(),
    "docs/result_fields.md": result_fields.to_markdown,
}


def to_schema() -> str:
    """The JSON schema of the configuration; editors complete and check YAML with it."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def to_markdown() -> str:
    """A table of every key: type, default, meaning."""
    lines = [
        "# Configuration",
        "",
        "Generated from `src/avpipe/config/` by `python -m avpipe.config.reference --fix`; do not edit.",
        "",
        "`config/config.yaml` says what to run. Each dataset is defined in `config/datasets/<name>.yaml`; keys under",
        "`datasets.<name>` in config.yaml, in a file given with `--configfile`, or a whole new name there, lie on top.",
        "An unknown key or a value of the wrong type stops Snakemake before anything runs.",
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [_line(*entry) for entry in _entries(Config, "")]
    return "\n".join(lines) + "\n"


def _entries(model: type[BaseModel], place: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        key = place + name
        inner = list(models_in(field.annotation))
        if not inner:
            yield key, field
            continue
        if typing.get_origin(field.annotation) in (dict, list):
            key += ".<name>" if typing.get_origin(field.annotation) is dict else "[]"
        for each in inner:
            kind = each.model_fields["kind"].default if len(inner) > 1 else None
            yield from _entries(each, f"{key}{f' ({kind})' if kind else ''}.")


def _line(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
    cells = (f"`{key}`", f"`{_type(field.annotation)}`", default, field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(str(value) for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join("unset" if part is type(None) else _type(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return f"list of {_type(typing.get_args(annotation)[0])}"
    if typing.get_origin(annotation) is dict:
        return "keys and values"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}[annotation.__name__]


def main(arguments: list[str] | None = None) -> int:
    """Check or write the generated files; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check or write the files generated from models.")
    parser.add_argument("--fix", action="store_true", help="write the files that are out of step")
    fix = parser.parse_args(arguments).fix
    stale = 0
    for name, make in FILES.items():
        path = Path(name)
        if path.exists() and path.read_text(encoding="utf-8") == make():
            continue
        if fix:
            write_text(path, make())
        else:
            stale += 1
            sys.stderr.write(f"{name} is out of step with its models; run this command with --fix.\n")
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main())
