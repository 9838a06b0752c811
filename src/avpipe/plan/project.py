"""The configuration of a project, seen from its folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avpipe.config.catalogue import read_catalogue
from avpipe.config.load import load_config
from avpipe.config.models import Dataset
from avpipe.demo.datasets import MADE_FOLDERS
from avpipe.errors import AvpipeError
from avpipe.sources.settings import Synthetic


class Project:
    """The configuration with every file that it is spread over.

    Args:
        values: Snakemake's merged config.
        root: the folder of the Snakefile, which holds config/datasets.
    """

    def __init__(self, values: Mapping[str, Any], root: Path) -> None:
        if "{" in str(root) or "}" in str(root):
            raise AvpipeError(
                f"{root}: Snakemake cannot work in a folder with {{ or }} in its path; rename the folder."
            )
        self.root = root
        self.config = load_config(values, root / "config" / "datasets")
        self.catalogue = read_catalogue(root / "config" / "weights.yaml")
        self.datasets = list(self.config.datasets)

    @functools.cache  # noqa: B019 - there is one plan in a process
    def dataset(self, name: str) -> Dataset:
        """A dataset's settings with every quirk decided.

        Raises:
            AvpipeError: there is no such dataset.
        """
        if name not in self.config.datasets:
            raise AvpipeError(f"there is no dataset {name!r}; the configuration has {', '.join(self.datasets)}.")
        return self.config.dataset(name)

    def is_synthetic(self, dataset: str) -> bool:
        """Whether the pipeline makes the dataset's videos."""
        return isinstance(self.dataset(dataset).source, Synthetic)

    def made_folder(self, dataset: str) -> str:
        """Where an embedded dataset's clips are listed; without a meaning for others."""
        source = self.dataset(dataset).source
        return MADE_FOLDERS[source.dataset if isinstance(source, Synthetic) else "gzsl"]

    def weights_file(self, dataset: str, key: str) -> str:
        """A weights file by its key: what the configuration names, or where the catalogue expects the published one.

        "" where neither knows it.
        """
        published = self.catalogue.get(key)
        return getattr(self.dataset(dataset).weights, key) or (published.path if published else "")

    def require(self, dataset: str) -> None:
        """Check all that a run of a dataset needs from outside; `Plan` knows what that is."""
        raise NotImplementedError

    def with_url(self, key: str, otherwise: str) -> str:
        """Where a weights file can be had, as far as the catalogue knows, or what else can be done."""
        return f"{self.catalogue[key].url}; or {otherwise}" if key in self.catalogue else otherwise
