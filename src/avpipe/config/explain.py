"""What pydantic finds wrong with settings, one line for each fault: where, which key, what was found and expected."""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from avpipe.config.yaml_files import line_of
from avpipe.settings import NAME_MEANING

Locate = Callable[[list[str], bool], str]
"""Where a key stands in the files, "" if that is not known; the flag: whether the key is one that is lacking."""

_ENTRY = "<name>"
_SHOWN = 200
_EXPECTED = {
    "missing": "it is required and not set",
    "model_type": "expected keys and values",
    "model_attributes_type": "expected keys and values",
    "dict_type": "expected keys and values",
    "list_type": "expected a list, such as [a, b]",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text; put quotes around a number",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected {expected}",
    "too_short": "expected {min_length} or more of them, not {actual_length}",
    "string_pattern_mismatch": f"expected {NAME_MEANING}",
    "invalid_key": "expected a name; put quotes around it",
    "union_tag_not_found": "it lacks the key {discriminator}, which says what it is",
    "union_tag_invalid": "{discriminator} is {tag!r}, expected {expected_tags}",
}


def explain(error: ValidationError, model: Any, values: Mapping[str, Any], locate: Locate) -> list[str]:
    """A line for each key that has a fault.

    Args:
        error: what pydantic raised.
        model: the type that was validated.
        values: what was validated.
        locate: tells where a key stands.
    """
    lines: dict[str, list[str]] = {}
    for problem in error.errors():
        place = _place(problem["loc"], values, is_lacking=problem["type"] == "missing")
        what = _unknown(place, model, problem["input"]) if problem["type"] == "extra_forbidden" else _fault(problem)
        start = locate(place, problem["type"] == "missing")
        faults = lines.setdefault(f"{f'{start}: ' if start else ''}{'.'.join(place) or 'the settings'}: ", [])
        faults += [what] if what not in faults else []
    return [start + ", or ".join(faults) for start, faults in lines.items()]


def locate_in(files: Mapping[Path, Sequence[str]]) -> Locate:
    """A function that tells file and line of a key.

    Args:
        files: YAML files, the last one winning, and the place in the settings at which each one's keys lie.
    """

    def locate(place: list[str], is_lacking: bool) -> str:
        place = place[: len(place) - is_lacking]
        found = [(0, "" if is_lacking or not files else "--config")]
        for path, root in files.items():
            if place[: len(root)] == list(root):
                depth, line = line_of(path, place[len(root) :])
                if is_lacking or len(root) + depth == len(place):
                    found.append((len(root) + depth, os.path.relpath(path) + (f", line {line}" if line else "")))
        return max(reversed(found), key=lambda each: each[0])[1]

    return locate


def _place(location: Sequence[str | int], values: Any, *, is_lacking: bool) -> list[str]:
    """The keys that a person wrote: pydantic also names the branch of a union, and marks keys."""
    place = []
    for number, part in enumerate(location):
        is_entry = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if is_entry or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif not (is_lacking and number == len(location) - 1):
            continue
        place.append(str(part))
    return place


def _fault(problem: Any) -> str:
    expected = _EXPECTED.get(problem["type"])
    if expected is None:
        expected = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    else:
        expected = expected.format(**problem.get("ctx", {}))
    if problem["type"] in ("missing", "too_short") or isinstance(problem["input"], Mapping):
        return expected
    return f"{expected} (found {_short(problem['input'])})"


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def _unknown(place: list[str], model: Any, value: Any) -> str:
    """Why a key is not known: misspelt, or at the wrong level."""
    *above, key = place
    known = sorted({name for each in inside([model], above) for name in each.model_fields})
    everywhere = [each for each in places(model) if each[:-1] != tuple(above)]
    # Where any key may stand, what stands elsewhere under a section of the same name is meant.
    known = known or sorted({each[-1] for each in everywhere if above and each[-2:-1] == (above[-1],)})
    if key in known:
        return "what stands beside it, such as its kind, rules this key out; remove it"
    near = difflib.get_close_matches(key, known, n=1)
    if near and difflib.SequenceMatcher(None, key, near[0]).ratio() >= 0.8:
        return f"unknown key; did you mean {near[0]}?"
    homes = [each for each in everywhere if each[-1] == key] or _entries_like(model, key, value)
    homes = [each for each in homes if isinstance(value, Mapping) == bool(inside([model], each))] or homes
    if not homes and not near:
        alike = difflib.get_close_matches(key, {each[-1] for each in everywhere}, n=1, cutoff=0.8)
        homes = [each for each in everywhere if each[-1] in alike]
    if homes:
        return f"unknown key here; it belongs in {_nearest(homes, place)}"
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known here: {', '.join(known)}"


def _nearest(homes: list[tuple[str, ...]], place: list[str]) -> str:
    """Up to three places, those with most in common with where the key stands, written with that place's names."""

    def common(home: tuple[str, ...]) -> int:
        pairs = zip(home, place, strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a not in (b, _ENTRY)), min(len(home), len(place)))

    homes.sort(key=lambda home: (-common(home), len(home)))
    shown = [".".join([*place[: common(home)], *home[common(home) :]]) for home in homes[:3]]
    return " or ".join(dict.fromkeys(shown)) + (" …" if len(homes) > 3 else "")


def _entries_like(model: Any, key: str, value: Any) -> list[tuple[str, ...]]:
    """Where a section of a name of one's own, such as a dataset, could be meant to stand."""
    if not isinstance(value, Mapping) or not value:
        return []
    homes = [place for place in places(model) if place[-1] == _ENTRY]
    fits = [place for place in homes if set(value) <= {n for each in inside([model], place) for n in each.model_fields}]
    return [(*place[:-1], key) for place in fits]


def places(annotation: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The dotted places of all keys; `_ENTRY` stands for a name that a person chooses."""
    for each in _models(annotation):
        for name, field in each.model_fields.items():
            yield (*above, name)
            inner = field.annotation
            if _entry_type(inner) is not None:
                if any(_models(_entry_type(inner))):
                    yield (*above, name, _ENTRY)
                yield from places(_entry_type(inner), (*above, name, _ENTRY))
            else:
                yield from places(inner, (*above, name))


def inside(annotations: list[Any], place: Sequence[str]) -> list[type[BaseModel]]:
    """The models at a place; all branches of a union count."""
    for part in place:
        entries = [_entry_type(each) for each in annotations]
        inner = [entry for entry in entries if entry is not None]
        for each in annotations:
            inner += [model.model_fields[part].annotation for model in _models(each) if part in model.model_fields]
        annotations = inner
    return [model for each in annotations for model in _models(each)]


def _entry_type(annotation: Any) -> Any:
    """The type of a mapping's or list's entries; None for any other type."""
    origin = typing.get_origin(annotation)
    return typing.get_args(annotation)[-1] if origin in (dict, list) else None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from _models(part)
