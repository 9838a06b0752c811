"""docs/result_fields.md, generated from the models; `python -m avpipe.config.reference --fix` writes it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from avpipe.schema.gzsl import GzslEvaluation, GzslRecord, ReleasedReport
from avpipe.schema.retrieval import RetrievalEvaluation, RetrievalRecord

_FILES: dict[str, type[BaseModel]] = {
    "eval.json of zero-shot learning": GzslRecord,
    "evaluation.json of zero-shot learning": GzslEvaluation,
    "The file of evaluate-released": ReleasedReport,
    "eval.json of retrieval": RetrievalRecord,
    "evaluation.json of retrieval": RetrievalEvaluation,
}
_HEAD = """\
# Fields of result files

Generated from `src/avpipe/schema/` by `python -m avpipe.config.reference --fix`; do not edit. What the figures mean
and how to read them: [results.md](results.md). Every rate is in %, but for a field named `share`; `null` means that
there is no such figure.

| file | begins with |
| --- | --- |
"""


def to_markdown() -> str:
    """A table for every model, those of whole files first, each under its name."""
    head = "".join(f"| {name} | {_link(model)} |\n" for name, model in _FILES.items())
    return (
        _HEAD + head + "".join(map(_section, dict.fromkeys(each for root in _FILES.values() for each in _walk(root))))
    )


def _section(model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {field.description} |\n"
        for name, field in model.model_fields.items()
    ]
    more = "\nFurther fields are kept as they are.\n" if model.model_config.get("extra") == "allow" else ""
    head = "| field | type | meaning |\n| --- | --- | --- |\n"
    return f"\n## {model.__name__}\n\n{(model.__doc__ or '').splitlines()[0]}\n\n{head}{''.join(rows)}{more}"


def _walk(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from _walk(inner)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field's type is made of, from the left."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def _type(annotation: Any) -> str:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is types.NoneType else _type(part) for part in parts)
    if origin is list:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"{_type(parts[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _link(annotation)
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any value"}
    return words[annotation.__name__]


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


def _link(model: type[BaseModel]) -> str:
    return f"[{model.__name__}](#{model.__name__.lower()})"
