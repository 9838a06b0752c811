"""From YAML to a validated `Config`, with messages that name the key and the nearest valid one."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from avpipe.config.models import Config
from avpipe.errors import AvpipeError


def load_config(
    values: Mapping[str, Any], datasets_folder: Path, pathvars: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Validate a configuration whose datasets lie over the files in `datasets_folder`.

    Args:
        values: the merged mapping of config.yaml, --configfile and --config.
        datasets_folder: holds <name>.yaml, the committed definition of each dataset.
        pathvars: what <name> stands for in the configuration's paths.

    Raises:
        AvpipeError: a file is not YAML, or a key is unknown or has the wrong type; lists every problem.
    """
    merged = dict(values)
    overrides = merged.get("datasets") or {}
    if not isinstance(overrides, Mapping):
        raise AvpipeError(f"config: datasets must map names to settings, found {overrides!r}")
    for name, values_of_dataset in overrides.items():
        if not isinstance(values_of_dataset or {}, Mapping):
            raise AvpipeError(f"config: datasets.{name} must map keys to values, found {values_of_dataset!r}")
    definitions = {path.stem: read_yaml(path) for path in sorted(datasets_folder.glob("*.yaml"))}
    names = [*definitions, *(name for name in overrides if name not in definitions)]
    merged["datasets"] = {
        name: merge(_yielding(definitions.get(name, {}), overrides.get(name) or {}), overrides.get(name) or {})
        for name in names
    }
    try:
        return Config.model_validate(fill_pathvars(merged, pathvars))
    except ValidationError as error:
        raise AvpipeError(_explain(error)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AvpipeError(f"{path} is not valid YAML: {error}. Mend the file.") from None
    if not isinstance(values or {}, dict):
        raise AvpipeError(f"{path} must hold keys and values, found {type(values).__name__}.")
    return values or {}


def _yielding(definition: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A committed definition without the hyper-parameters of its feature sets that a person sets for all features."""
    own = _mapping(_mapping(over.get("gzsl")).get("methods"))
    gzsl = _mapping(definition.get("gzsl"))
    sets = {name: dict(_mapping(values)) for name, values in _mapping(gzsl.get("feature_sets")).items()}
    for values in sets.values():
        values["methods"] = {
            method: {key: value for key, value in _mapping(settings).items() if key not in _mapping(own.get(method))}
            for method, settings in _mapping(values.get("methods")).items()
        }
    return {**definition, "gzsl": {**gzsl, "feature_sets": sets}} if sets and own else definition


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, mapping by mapping; any other value replaces the one below."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def fill_pathvars(values: Any, pathvars: Mapping[str, str]) -> Any:
    """Plain values in which <name> is replaced, as Snakemake does it in the paths of rules."""
    if isinstance(values, Mapping):
        return {key: fill_pathvars(value, pathvars) for key, value in values.items()}
    if isinstance(values, list):
        return [fill_pathvars(value, pathvars) for value in values]
    if isinstance(values, str):
        for name, folder in pathvars.items():
            values = values.replace(f"<{name}>", folder)
    return values


_BRANCHES = ("class_folders", "table", "published", "packs", "howto100m", "synthetic")


def _explain(error: ValidationError) -> str:
    lines = [f"The configuration has {error.error_count()} problem(s):"]
    for problem in error.errors():
        # Pydantic names the chosen branch of a union in the location; a person wrote no such key.
        place = [str(part) for part in problem["loc"] if part not in _BRANCHES]
        key = ".".join(place) or "config"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: unknown key{_nearest(place)}")
        else:
            found = "" if isinstance(problem["input"], Mapping) else f" (found {_short(problem['input'])})"
            lines.append(f"  {key}: {problem['msg']}{found}")
    lines.append("docs/config.md lists every key.")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def _nearest(place: list[str]) -> str:
    known = _known_keys(Config, place[:-1])
    close = difflib.get_close_matches(place[-1], known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _known_keys(model: type[BaseModel], place: list[str]) -> list[str]:
    """Keys allowed at a place of the configuration; all branches of a union count."""
    models: list[Any] = [model]
    for part in place:
        models = [inner for outer in models for inner in _models_in(outer, part)]
    return sorted({key for each in models for key in each.model_fields})


def _models_in(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    if key in model.model_fields:
        return list(_flatten(model.model_fields[key].annotation))
    # The key of a mapping, such as a dataset's name, or the position in a list: the values' models were meant.
    return [model]


def _flatten(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (dict, list, typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(annotation):
            yield from _flatten(part)
