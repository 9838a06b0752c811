"""The table of published files: config/files.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter, ValidationError

from avpipe.config.explain import explain, locate_in
from avpipe.config.load import fill_pathvars
from avpipe.config.models import Weights
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.sources.file_sets import FileSet


def read_catalogue(path: Path, pathvars: Mapping[str, str] = MappingProxyType({})) -> dict[str, FileSet]:
    """Every set of published files by its name; `pathvars` as in `load_config`.

    Raises:
        AvpipeError: there is no such file, it is not in order, or weights of no network or twice the same are in it.
    """
    if not path.exists():
        raise AvpipeError(f"{path} does not exist. It belongs to avpipe: restore it with git.")
    values = fill_pathvars(read_yaml(path), pathvars)
    try:
        catalogue = TypeAdapter(dict[str, FileSet]).validate_python(values)
    except ValidationError as error:
        faults = explain(error, dict[str, FileSet], values, locate_in({path: ()}))
        raise AvpipeError("\n".join([*faults, "Mend the file."])) from None
    keys = [key for files in catalogue.values() for key in files.weights]
    # An extractor of one's own may have no published file.
    if not set(keys) <= set(Weights.model_fields) or len(keys) != len(set(keys)):
        known = sorted(Weights.model_fields)
        raise AvpipeError(f"{path} has the weights {sorted(keys)}, expected some of {known}, each once. Mend the file.")
    return catalogue
