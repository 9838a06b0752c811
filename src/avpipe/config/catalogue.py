"""The catalogue of published weight files, config/weights.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from avpipe.config.load import read_yaml
from avpipe.config.models import Weights, check_input
from avpipe.config.quirks import Settings
from avpipe.errors import AvpipeError


class PublishedFile(Settings):
    """One published weight file."""

    path: str = Field(description="Where avpipe looks for it unless the configuration names another file.")
    url: str = Field(description="Where it can be had.")
    size: str = Field("not published", description="Its size, as far as known.")
    sha256: list[str] = Field([], description="Digests of the published file, or their beginnings, where known.")
    trained_on: str = Field(description="The training data.")
    licence_weights: str = Field(description="Licence of the weights.")
    licence_code: str = Field(description="Licence of the published code.")

    _check_input = field_validator("path")(check_input)


def read_catalogue(path: Path) -> dict[str, PublishedFile]:
    """Every published weight file by its key in the configuration's `weights`.

    Raises:
        AvpipeError: no such file, or it lacks a file, has another one, or a key that is not known.
    """
    if not path.exists():
        raise AvpipeError(f"{path} does not exist. It belongs to avpipe: restore it with git.")
    try:
        catalogue = TypeAdapter(dict[str, PublishedFile]).validate_python(read_yaml(path))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise AvpipeError(f"{path}: {'; '.join(problems)}. Mend the file.") from None
    if set(catalogue) != set(Weights.model_fields):
        raise AvpipeError(f"{path} has {sorted(catalogue)}, expected {sorted(Weights.model_fields)}. Mend the file.")
    return catalogue


def judge_digest(sha256: str, published: list[str]) -> str | None:
    """What to say of a file by its digest; None: it is the published one, or nobody published its digest."""
    if not published or any(sha256.startswith(digest) for digest in published):
        return None
    return f"not the published file: its sha256 is {sha256}, that of the published one begins with {published[0]}"
