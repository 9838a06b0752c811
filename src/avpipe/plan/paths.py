"""Paths of files that the plan chooses among; every other path stands in rules/*.smk."""

from __future__ import annotations

from dataclasses import dataclass

from avpipe.demo.datasets import MADE_FOLDERS


@dataclass(frozen=True)
class Paths:
    """Files below the two roots of a project, Snakemake's pathvars of the same names.

    Attributes:
        results: what the workflow makes.
        resources: what is downloaded, or made before a dataset's videos can be listed.
    """

    results: str = "results"
    resources: str = "resources"

    def made_folder(self, synthetic: str) -> str:
        """The folder or tables of an embedded dataset's clips, by its name in a `Synthetic` source."""
        return f"{self.resources}/{MADE_FOLDERS[synthetic]}"

    def videos(self, dataset: str) -> str:
        """Where the videos of an annotation lie unless its source says so."""
        return f"{self.resources}/videos/{dataset}"

    def hosts(self) -> str:
        """The state of hosts that videos are fetched from."""
        return f"{self.resources}/hosts"

    def availability(self, dataset: str, shard: str) -> str:
        """What became of each video of a shard."""
        return f"{self.results}/{dataset}/sources/{shard}.parquet"

    def weights(self, dataset: str, extractor: str) -> str:
        """What the weights of an extractor are."""
        return f"{self.results}/{dataset}/weights/{extractor}.json"

    def store(self, dataset: str, extractor: str, shard: str) -> str:
        """Features of a shard."""
        return f"{self.results}/{dataset}/features/{extractor}/{shard}.h5"

    def class_vectors(self, dataset: str, split: str) -> str:
        """Class vectors that are made from a word model."""
        return f"{self.results}/{dataset}/gzsl/{split}/word_embeddings_{dataset}_normed.npy"

    def pack(self, dataset: str, subset: str) -> str:
        """The clips of a subset."""
        return f"{self.results}/{dataset}/retrieval/packs/{subset}.h5"

    def caption_words(self, dataset: str, source: str, subset: str) -> str:
        """Word vectors of a subset of `source`, from the word model of the dataset whose runs read them."""
        return f"{self.results}/{dataset}/retrieval/words/{source}/{subset}.h5"

    def window_words(self, dataset: str) -> str:
        """Word vectors of the captions of whole videos."""
        return f"{self.results}/{dataset}/retrieval/window_words.h5"

    def training(self, dataset: str, run: str) -> str:
        """What a retrieval run has trained, controls apart."""
        return f"{self.results}/{dataset}/retrieval/runs/{run}/main/training.json"


DEFAULT_PATHS = Paths()
