"""The catalogues of published files: config/weights.yaml, config/files.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from avpipe.config.explain import explain, locate_in
from avpipe.config.load import fill_pathvars
from avpipe.config.models import Weights
from avpipe.config.yaml_files import read_yaml
from avpipe.errors import AvpipeError
from avpipe.settings import InputPath, Settings
from avpipe.sources.file_sets import FileSet

Entry = TypeVar("Entry", bound=Settings)


class PublishedFile(Settings):
    """One published weight file."""

    path: InputPath = Field(description="Where avpipe looks for it unless the configuration names another file.")
    url: str = Field(description="Where it can be had.")
    size: str = Field("not published", description="Its size, as far as known.")
    sha256: list[str] = Field([], description="Digests of the published file, or their beginnings, where known.")
    trained_on: str = Field(description="The training data.")
    licence_weights: str = Field(description="Licence of the weights.")
    licence_code: str = Field(description="Licence of the published code.")

    def file_set(self) -> FileSet | None:
        """The file as it is fetched; None where its address is that of an archive, which a person has to unpack."""
        folder, _, name = self.url.rpartition("/")
        path = PurePosixPath(self.path)
        if name != path.name:
            return None
        return FileSet(
            title=f"weights ({name})", folder=str(path.parent), urls=[f"{folder}/"], licence=self.licence_weights,
            citation=self.trained_on, files={name: f"sha256:{self.sha256[0]}" if self.sha256 else ""},
        )  # fmt: skip


def read_file_sets(path: Path, pathvars: Mapping[str, str]) -> dict[str, FileSet]:
    """Every set of published files by its name in a dataset's `files`; `pathvars` as in `load_config`.

    Raises:
        AvpipeError: there is no such file, or it is not in order.
    """
    return _read(path, FileSet, pathvars)


def _read(path: Path, kind: type[Entry], pathvars: Mapping[str, str]) -> dict[str, Entry]:
    if not path.exists():
        raise AvpipeError(f"{path} does not exist. It belongs to avpipe: restore it with git.")
    values = fill_pathvars(read_yaml(path), pathvars)
    try:
        return TypeAdapter(dict[str, kind]).validate_python(values)  # type: ignore[valid-type]
    except ValidationError as error:
        faults = explain(error, dict[str, kind], values, locate_in({path: ()}))  # type: ignore[valid-type]
        raise AvpipeError("\n".join([*faults, "Mend the file."])) from None


def read_catalogue(path: Path, pathvars: Mapping[str, str] = MappingProxyType({})) -> dict[str, PublishedFile]:
    """Every published weight file by its key in the configuration's `weights`; `pathvars` as in `load_config`.

    Raises:
        AvpipeError: no such file, or it has no file, a file of no network, or a key that is not known.
    """
    catalogue = _read(path, PublishedFile, pathvars)
    # An extractor of one's own may have no published file.
    if not catalogue or not set(catalogue) <= set(Weights.model_fields):
        raise AvpipeError(f"{path} has {sorted(catalogue)}, expected {sorted(Weights.model_fields)}. Mend the file.")
    return catalogue
