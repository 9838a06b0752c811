"""The catalogue of published weight files, config/weights.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, TypeAdapter, ValidationError

from avpipe.config.explain import explain, locate_in
from avpipe.config.load import fill_pathvars
from avpipe.config.models import Weights
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.settings import InputPath, Settings


class PublishedFile(Settings):
    """One published weight file."""

    path: InputPath = Field(description="Where avpipe looks for it unless the configuration names another file.")
    url: str = Field(description="Where it can be had.")
    size: str = Field("not published", description="Its size, as far as known.")
    sha256: list[str] = Field([], description="Digests of the published file, or their beginnings, where known.")
    trained_on: str = Field(description="The training data.")
    licence_weights: str = Field(description="Licence of the weights.")
    licence_code: str = Field(description="Licence of the published code.")


def read_catalogue(path: Path, pathvars: Mapping[str, str] = MappingProxyType({})) -> dict[str, PublishedFile]:
    """Every published weight file by its key in the configuration's `weights`; `pathvars` as in `load_config`.

    Raises:
        AvpipeError: no such file, or it has no file, a file of no network, or a key that is not known.
    """
    if not path.exists():
        raise AvpipeError(f"{path} does not exist. It belongs to avpipe: restore it with git.")
    values = fill_pathvars(read_yaml(path), pathvars)
    try:
        catalogue = TypeAdapter(dict[str, PublishedFile]).validate_python(values)
    except ValidationError as error:
        faults = explain(error, dict[str, PublishedFile], values, locate_in({path: ()}))
        raise AvpipeError("\n".join([*faults, "Mend the file."])) from None
    # An extractor of one's own may have no published file.
    if not catalogue or not set(catalogue) <= set(Weights.model_fields):
        raise AvpipeError(f"{path} has {sorted(catalogue)}, expected {sorted(Weights.model_fields)}. Mend the file.")
    return catalogue
