"""What the Snakefile needs to know before any job runs: clips, shards, paths, and everything that is missing.

Nothing here imports Snakemake, torch or a media library: the file is read at every start of Snakemake.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from avpipe.errors import AvpipeError
from avpipe.features.checks import find_faults
from avpipe.gzsl.settings import FeatureSet
from avpipe.plan import retrieval, zero_shot
from avpipe.plan.missing import missing_path
from avpipe.plan.project import Project
from avpipe.registry import EXTRACTORS
from avpipe.sources.listing import list_source, split_into_shards
from avpipe.sources.local import SourceClip, listing_digest
from avpipe.sources.settings import ClassFolders, ClipTable, PublishedFeatures, Synthetic


class Plan(Project):
    """The configuration, seen as the workflow's rules need it; arguments as of `Project`."""

    def shards(self, dataset: str) -> list[str]:
        """Names of a dataset's shards."""
        return [f"{shard:04d}" for shard in range(self.dataset(dataset).n_shards)]

    @functools.cache  # noqa: B019
    def shard_listings(self, dataset: str) -> list[list[SourceClip]]:
        """The clips of every shard, as the source lists them now."""
        settings = self.dataset(dataset)
        return split_into_shards(list_source(settings.source, self.made_folder(dataset)), settings.n_shards)

    def listing(self, dataset: str, shard: str) -> str | None:
        """A digest of a shard's clips and files; None for data that the pipeline makes itself.

        As a param it makes a shard run again when, and only when, one of its clips comes, goes or changes.
        """
        self.require(dataset)
        shards = self.shards(dataset)
        if shard not in shards:
            raise AvpipeError(f"{dataset} has the shards {shards[0]} to {shards[-1]} (n_shards), not {shard}.")
        if isinstance(self.dataset(dataset).source, Synthetic):
            return None
        return listing_digest(self.shard_listings(dataset)[int(shard)])

    def is_trimmed(self, dataset: str) -> bool:
        """Whether clips are cut out of their files before conversion (file mode; stream mode cuts while decoding)."""
        settings = self.dataset(dataset)
        return settings.frame_rate.mode == "file" and isinstance(settings.source, ClipTable)

    def extractors(self, dataset: str) -> list[str]:
        """The extractors whose features the dataset's benchmarks and packs use, and those asked for besides."""
        settings = self.dataset(dataset)
        if isinstance(settings.source, PublishedFeatures):
            return []
        sets = [settings.gzsl.feature_sets[benchmark.features] for benchmark in settings.gzsl.benchmarks]
        used = {name for each in sets if each.path is None for name in (each.video, each.audio)}
        used |= set(settings.extract_also)
        if retrieval.reads_videos(settings):
            used |= set(retrieval.EXTRACTORS.values())
        return [name for name in EXTRACTORS if name in used]

    def reads_converted(self, dataset: str, extractor: str) -> bool:
        """Whether an extractor reads clips at the converted frame rate (file mode), not the sources."""
        return self.dataset(dataset).frame_rate.mode == "file" and EXTRACTORS[extractor].follows_conversion

    def feature_set(self, dataset: str, name: str) -> FeatureSet:
        """A feature set by name."""
        return self.dataset(dataset).gzsl.feature_sets[name]

    def weights_state(self, dataset: str, extractor: str) -> list[tuple[str, int, int]]:
        """Path, size and time stamp of the weights and PCA files; a file that replaces one may be older than it."""
        files = [self.weights(dataset, extractor), self.pca(dataset, extractor)]
        paths = [Path(file) for file in files if file is not None and not file.startswith("random:")]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]

    def extractor_settings(self, dataset: str, extractor: str) -> dict[str, Any]:
        """Settings of an extractor as plain values, quirks decided."""
        return getattr(self.dataset(dataset).features, extractor).model_dump()

    def weights(self, dataset: str, extractor: str) -> str | None:
        """Weights of an extractor: a path or random:<seed>; None for one without a network."""
        self.require(dataset)
        return self.weights_file(dataset, extractor) if EXTRACTORS[extractor].has_weights else None

    def pca(self, dataset: str, extractor: str) -> str | None:
        """VGGish's PCA file where its settings use one."""
        return self.weights_file(dataset, f"{extractor}_pca") if self._uses_pca(dataset, extractor) else None

    def _uses_pca(self, dataset: str, extractor: str) -> bool:
        return EXTRACTORS[extractor].uses_pca and getattr(self.dataset(dataset).features, extractor).postprocess

    def digests(self, extractor: str) -> dict[str, list[str]]:
        """What is known of the digests of an extractor's published weights and PCA."""
        entry = EXTRACTORS[extractor]
        keys = [extractor] * entry.has_weights + [f"{extractor}_pca"] * entry.uses_pca
        return {key: self.catalogue[key].sha256 if key in self.catalogue else [] for key in keys}

    def uses_videos(self, dataset: str) -> bool:
        """Whether any feature is extracted, so that clips are probed and accounted for."""
        return bool(self.extractors(dataset))

    def published_features(self, dataset: str, features: str) -> str | None:
        """The published features that a feature set uses; None where it is extracted.

        Raises:
            AvpipeError: there are none where they should be.
        """
        return zero_shot.find_features(self.dataset(dataset), dataset, features)

    def published_state(self, dataset: str, features: str) -> str | None:
        """A digest of names, sizes and time stamps of published features, which are too many to be inputs."""
        path = self.published_features(dataset, features)
        return None if path is None else zero_shot.listing_of(Path(path))

    def words(self, dataset: str, split: str) -> str | None:
        """The file of a split's class vectors; None where the published features bring their own."""
        self.require_gzsl(dataset)
        return zero_shot.words_file(self.dataset(dataset), dataset, split)

    def word_names(self, dataset: str, split: str) -> str | None:
        """The CSV that maps class names to names of word vectors; None where a split of one's own makes it."""
        self.require_gzsl(dataset)
        return zero_shot.names_file(self.dataset(dataset), dataset, split)

    def split_files(self, dataset: str, split: str) -> list[str]:
        """Every file that a split consists of, the inputs of what depends on it and of nothing else."""
        self.require_gzsl(dataset)
        return zero_shot.split_files(self.dataset(dataset), split)

    def class_split(self, dataset: str) -> str | None:
        """The class-split folder, or the one that it lies in."""
        return zero_shot.class_split_folder(self.dataset(dataset))

    def experiment(self, dataset: str, features: str, method: str, form: str) -> dict[str, Any]:
        """A method's settings in one form on a feature set, with the seeds, as plain values.

        Raises:
            AvpipeError: the dataset does not run that method.
        """
        gzsl = self.dataset(dataset).gzsl
        if getattr(gzsl.methods, method) is None:
            raise AvpipeError(f"datasets.{dataset}.gzsl.methods.{method} is null, so {method} is not run.")
        chosen = gzsl.choice(method, features, form)
        return {
            "text": chosen.text,
            "hyperparameters": chosen.hyperparameters.model_dump(),
            "training": chosen.training.model_dump(),
            "seeds": gzsl.seeds,
        }

    @functools.cache  # noqa: B019
    def table_datasets(self) -> tuple[list[str], list[str]]:
        """Zero-shot datasets for the table of all: those whose data are at hand, and the others.

        Embedded datasets are among them only where there is nothing else.
        """
        with_benchmarks = [name for name in self.datasets if self.dataset(name).gzsl.benchmarks]
        ready = [
            name
            for name in with_benchmarks
            if not (self._missing_source(name) or self._missing_weights(name) or self._missing_gzsl(name))
        ]
        real = [name for name in ready if not self.is_synthetic(name)]
        not_run = [name for name in with_benchmarks if name not in ready]
        return real or ready, not_run

    @functools.cache  # noqa: B019
    def require(self, dataset: str) -> None:
        """Check all that a run of a dataset needs from outside, and name everything that is missing at once.

        A dataset without benchmarks, whose features alone are asked for (`extract_also`), needs no split.

        Raises:
            AvpipeError: what is missing, where it was looked for, what to set and where it can be had; or the
                source or a split is not in order.
        """
        problems = [*self._missing_source(dataset), *self._missing_weights(dataset)]
        settings = self.dataset(dataset)
        has_retrieval = retrieval.is_used(settings)
        has_gzsl = bool(settings.gzsl.benchmarks) or not (settings.extract_also or has_retrieval)
        problems += self._missing_gzsl(dataset) if has_gzsl else []
        problems += retrieval.missing(self, dataset) if has_retrieval else []
        if not problems:
            problems = self._unfit_weights(dataset)
        self._refuse(dataset, problems)
        if has_gzsl:
            self._check_splits(dataset)
        if has_retrieval:
            retrieval.check_subsets(self, dataset)

    def require_gzsl(self, dataset: str) -> None:
        """Check that a dataset has what a zero-shot benchmark needs, too.

        Raises:
            AvpipeError: as `require`.
        """
        self.require(dataset)
        self._refuse(dataset, self._missing_gzsl(dataset))

    def _refuse(self, dataset: str, problems: list[str]) -> None:
        if problems:
            raise AvpipeError(
                f"{dataset} cannot run yet: {len(problems)} thing(s) are missing or do not fit.\n"
                + "\n".join(f"  - {problem}" for problem in problems)
                + "\nSet them in config/config.yaml, or in a file of yours given with --configfile."
                + self._other_ways(dataset)
            )

    def _other_ways(self, dataset: str) -> str:
        """What to do where features are at hand instead of videos and networks."""
        if not self.dataset(dataset).gzsl.benchmarks or not self.uses_videos(dataset) or self.is_synthetic(dataset):
            return ""
        return (
            "\nWith the published features instead of videos and networks, set "
            f"datasets.{dataset}.source: {{kind: published, path: ...}} (docs/datasets.md)."
        )

    def _missing_source(self, dataset: str) -> list[str]:
        source = self.dataset(dataset).source
        if isinstance(source, PublishedFeatures):
            # Not source.obtain: in the committed datasets that says where the videos are.
            obtain = self.dataset(dataset).gzsl.obtain or source.obtain
            return missing_path("the published features", source.path, f"datasets.{dataset}.source.path", obtain)
        key = f"datasets.{dataset}.source.path"
        if not isinstance(source, ClassFolders | ClipTable) or not self.uses_videos(dataset):
            return []
        return missing_path("the videos", source.path, key, source.obtain)

    def _missing_weights(self, dataset: str) -> list[str]:
        problems = []
        for extractor in self.extractors(dataset):
            if EXTRACTORS[extractor].has_weights:
                spec = self.weights_file(dataset, extractor)
                if not spec.startswith("random:"):
                    hint = self.with_url(extractor, "random:<seed> to try the chain without them")
                    problems += missing_path(f"the weights of {extractor}", spec, f"weights.{extractor}", hint)
            if self._uses_pca(dataset, extractor):
                key, title = f"{extractor}_pca", EXTRACTORS[extractor].title
                hint = self.with_url(key, f"set features.{extractor}.postprocess: false")
                problems += missing_path(f"{title}'s PCA", self.weights_file(dataset, key), f"weights.{key}", hint)
        return problems

    def _unfit_weights(self, dataset: str) -> list[str]:
        """Weight files that are not those of their networks; known before anything is decoded."""
        requests = []
        for extractor in self.extractors(dataset):
            weights = self.weights_file(dataset, extractor) if EXTRACTORS[extractor].has_weights else None
            pca = self.pca(dataset, extractor)
            if pca is not None or (weights is not None and not weights.startswith("random:")):
                # Random weights need no check; beside them the PCA file does.
                file = None if weights is None or weights.startswith("random:") else weights
                digests = self.digests(extractor)
                requests.append({"extractor": extractor, "weights": file, "pca": pca, "digests": digests})
        return [
            f"weights: {fault.removeprefix('Weights: ')}"
            for fault in find_faults(requests, Path(".snakemake") / "avpipe_weights")
        ]

    def _missing_gzsl(self, dataset: str) -> list[str]:
        return zero_shot.missing(self.dataset(dataset), dataset)

    def _check_splits(self, dataset: str) -> None:
        listings = self.shard_listings(dataset) if self._lists_videos(dataset) else None
        if listings and any(not clip.class_name for shard in listings for clip in shard):
            raise AvpipeError(
                f"{self.dataset(dataset).source.path} lacks the column class, which zero-shot learning needs. Add it."  # type: ignore[union-attr]
            )
        clips = None if listings is None else {clip.clip_id: clip for shard in listings for clip in shard}
        zero_shot.check_splits(self.dataset(dataset), dataset, clips)

    def _lists_videos(self, dataset: str) -> bool:
        return self.uses_videos(dataset) and not self.is_synthetic(dataset)
