"""From YAML to a validated `Config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from avpipe.config.explain import explain, locate_in
from avpipe.config.models import Config
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.gzsl.settings import PRESETS, pick_methods
from avpipe.registry import METHODS


def load_config(
    values: Mapping[str, Any],
    datasets_folder: Path,
    pathvars: Mapping[str, str] = MappingProxyType({}),
    files: Sequence[Path] = (),
) -> Config:
    """Validate a configuration whose datasets lie over the files in `datasets_folder`.

    Args:
        values: the merged mapping of config.yaml, --configfile and --config.
        datasets_folder: holds <name>.yaml, the committed definition of each dataset.
        pathvars: what <name> stands for in the configuration's paths.
        files: the YAML files that `values` was merged from, the last one winning; messages name the one to change.

    Raises:
        AvpipeError: a file is not YAML, or a key is unknown or has the wrong type; lists every problem.
    """
    overrides = values.get("datasets") or {}
    sections = {name: over or {} for name, over in overrides.items()} if isinstance(overrides, Mapping) else {}
    committed = {path.stem: path for path in sorted(datasets_folder.glob("*.yaml"))}
    datasets: dict[Any, Any] = {name: read_yaml(path) for name, path in committed.items()}
    layers = [_mapping(read_yaml(path).get("datasets")) for path in files]
    for name, over in sections.items():
        if isinstance(over, Mapping):
            below = _expanded(datasets.get(name, {}), [])
            over = _expanded(over, [_mapping(layer.get(name)) for layer in layers])
            over = merge(_yielding(below, over), over)
        datasets[name] = over
    merged = fill_pathvars({**values, "datasets": datasets if sections or not overrides else overrides}, pathvars)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        roots = {path: ("datasets", name) for name, path in committed.items()} | dict.fromkeys(files, ())
        faults = explain(error, Config, merged, locate_in(roots if files else {}))
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise AvpipeError(
            f"The configuration has {len(faults)} problem(s):\n{listed}\ndocs/config.md lists every key."
        ) from None


def _expanded(dataset: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A dataset's settings with its preset and its list of methods written out, so that they lie over what is below.

    Args:
        dataset: the settings.
        layers: what they were merged from, where a list has replaced hyper-parameters, or these a list.
    """
    gzsl = _mapping(dataset.get("gzsl"))
    methods: Any = {}
    for each in (*(_mapping(layer.get("gzsl")) for layer in layers), gzsl):
        own = each.get("methods")
        if isinstance(own, list) and not set(map(str, own)) <= set(METHODS):
            return dict(dataset)  # which the model refuses
        methods = pick_methods(own, methods) if isinstance(own, list) else merge(methods, _mapping(own))
    lengths = PRESETS.get(str(gzsl.get("preset")), {})
    expanded = {"methods": methods} if isinstance(gzsl.get("methods"), Mapping | list) else {}
    if lengths and isinstance(gzsl.get("training", {}), Mapping):
        expanded["training"] = {**lengths, **gzsl.get("training", {})}
    return {**dataset, "gzsl": {**gzsl, **expanded}} if expanded else dict(dataset)


def _yielding(definition: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A committed definition without what contradicts the settings of a person.

    These are the hyper-parameters of its feature sets that are set for all features, the files of another kind of
    source (published features bring their split and class vectors), and class vectors beside a word model.
    """
    source, gzsl = dict(_mapping(definition.get("source"))), dict(_mapping(definition.get("gzsl")))
    kind = _mapping(over.get("source")).get("kind", source.get("kind"))
    if kind != source.get("kind"):
        source = {key: value for key, value in source.items() if key in ("kind", "obtain")}
    if kind == "published":
        gzsl = {key: value for key, value in gzsl.items() if key not in ("class_split", "word_vectors")}
    sets = merge(_mapping(gzsl.get("feature_sets")), _mapping(_mapping(over.get("gzsl")).get("feature_sets")))
    given = bool(sets) and all(_mapping(each).get("path") for each in sets.values())
    if given or _mapping(over.get("gzsl")).get("word_model"):
        gzsl.pop("word_vectors", None)
    kept = {**definition, **({"source": source} if source else {}), **({"gzsl": gzsl} if gzsl else {})}
    return _without_overridden(kept, over)


def _without_overridden(definition: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A definition without the hyper-parameters of its feature sets that a person sets for all features."""
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
