"""The embedded datasets: their names, where they lie, and how many clips the zero-shot ones have.

Nothing here imports numpy or a media library: it is read at every start of Snakemake.
"""

from __future__ import annotations

from dataclasses import dataclass

N_GROUPS = 4
"""Scenes of each class of a zero-shot dataset; clips of a group share one, as in UCF-101."""


@dataclass(frozen=True)
class ZeroShotDataset:
    """An embedded dataset for zero-shot learning: the same 24 classes and scenes, more or fewer clips of each scene.

    Attributes:
        name: of the dataset, of its folder among the resources and of its folder in config/splits/.
        clips_per_group: clips of each of the `N_GROUPS` scenes of a class, from 1.
    """

    name: str
    clips_per_group: int


FULL = ZeroShotDataset("demo_gzsl", clips_per_group=2)
SMALL = ZeroShotDataset("demo", clips_per_group=1)
ZERO_SHOT = {dataset.name: dataset for dataset in (SMALL, FULL)}

MADE_FOLDERS = {
    "gzsl": f"{FULL.name}/videos",
    "zero_shot_small": f"{SMALL.name}/videos",
    "retrieval_clips": "demo_retrieval",
    "retrieval_films": "demo_retrieval",
}
"""What a synthetic source names (`avpipe.sources.settings.Synthetic.dataset`) -> the folder among the resources
with its videos in one folder per class, or with its tables."""
