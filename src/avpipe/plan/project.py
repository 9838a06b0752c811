"""The configuration of a project, its table of published files and its paths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avpipe.config.catalogue import read_catalogue
from avpipe.config.load import load_config
from avpipe.config.models import Config, Dataset
from avpipe.errors import AvpipeError
from avpipe.plan.paths import DEFAULT_PATHS, Paths
from avpipe.plan.places import config_folder
from avpipe.sources.file_sets import FileSet
from avpipe.sources.listing import has_video_folder
from avpipe.sources.settings import Synthetic


@dataclass(frozen=True, eq=False)  # hashed by identity: what is found out about a project is kept (functools.cache)
class Project:
    """What every function of `avpipe.plan` is given.

    Attributes:
        config: the whole configuration.
        catalogue: sets of published files by their names in config/files.yaml.
        paths: where files of the workflow lie.
        tell: takes a line that whoever plans should see; None in jobs, which plan again.
        root: the folder of the Snakefile.
    """

    config: Config
    catalogue: Mapping[str, FileSet]
    paths: Paths = DEFAULT_PATHS
    tell: Callable[[str], None] | None = None
    root: Path = Path()

    @classmethod
    def read(
        cls,
        values: Mapping[str, Any],
        root: Path,
        paths: Paths = DEFAULT_PATHS,
        files: Sequence[Path] = (),
        tell: Callable[[str], None] | None = None,
    ) -> Project:
        """The project of a checkout.

        Args:
            values: Snakemake's merged config.
            root: the folder of the Snakefile, which holds config/datasets.
            paths: where files of the workflow lie; in the configuration <results> and <resources> stand for its roots,
                and <config> for the folder of the committed settings.
            files: see `load_config`.
            tell: takes a line for whoever plans.

        Raises:
            AvpipeError: the configuration or the catalogue is not in order, or a folder has braces in its path.
        """
        pathvars = {**asdict(paths), "config": config_folder(root)}
        for folder in (str(root), *pathvars.values()):
            if "{" in folder or "}" in folder:
                raise AvpipeError(
                    f"{folder}: Snakemake cannot work in a folder with {{ or }} in its path; rename the folder."
                )
        config = load_config(values, root / "config" / "datasets", pathvars, files)
        return cls(config, read_catalogue(root / "config" / "files.yaml", pathvars), paths, tell, root)

    @functools.cache  # noqa: B019 - there is one project in a process
    def dataset(self, dataset: str) -> Dataset:
        """A dataset's settings with every quirk decided.

        Raises:
            AvpipeError: there is no such dataset.
        """
        if dataset not in self.config.datasets:
            known = ", ".join(self.config.datasets)
            raise AvpipeError(f"there is no dataset {dataset!r}; the configuration has {known}.")
        return self.config.dataset(dataset)

    def setting(self, dataset: str, *keys: str) -> Any:
        """One of a dataset's settings by its keys, such as "gzsl", "seeds"; without keys all of them.

        Raises:
            AvpipeError: there is no such dataset, or nothing of that name in it.
        """
        value: Any = self.dataset(dataset)
        for number, key in enumerate(keys):
            if isinstance(value, Mapping) and key not in value:
                place, known = ".".join(keys[:number]), ", ".join(value) or "none"
                raise AvpipeError(f"{dataset} has no {key!r} in {place}; it has {known}.")
            value = value[key] if isinstance(value, Mapping) else getattr(value, key)
        return value

    def is_synthetic(self, dataset: str) -> bool:
        """Whether the pipeline makes the dataset's videos."""
        return isinstance(self.dataset(dataset).source, Synthetic)

    def made_folder(self, dataset: str) -> str:
        """Where an embedded dataset's clips are listed, or an annotation's videos lie; without a meaning for others."""
        source = self.dataset(dataset).source
        if has_video_folder(source):
            return self.paths.videos(dataset)
        return self.paths.made_folder(source.dataset if isinstance(source, Synthetic) else "gzsl")

    def weights_file(self, dataset: str, key: str) -> str:
        """A weights file by its key: what the configuration names, or where the catalogue expects the published one.

        "" where neither knows it.
        """
        published = self.published(key)
        file = str(published.path(published.weights[key])) if published else ""
        return getattr(self.dataset(dataset).weights, key) or file

    def published(self, key: str) -> FileSet | None:
        """The set with the published weights of a key; None where the table has none."""
        return next((files for files in self.catalogue.values() if key in files.weights), None)
