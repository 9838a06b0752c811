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
        name: of the dataset and of its folders in resources/ and config/splits/.
        clips_per_group: clips of each of the `N_GROUPS` scenes of a class, from 1.
    """

    name: str
    clips_per_group: int

    @property
    def video_folder(self) -> str:
        """Where its videos lie, in one folder per class."""
        return f"resources/{self.name}/videos"


FULL = ZeroShotDataset("demo_gzsl", clips_per_group=2)
SMALL = ZeroShotDataset("demo", clips_per_group=1)
ZERO_SHOT = {dataset.name: dataset for dataset in (SMALL, FULL)}
RETRIEVAL_FOLDER = "resources/demo_retrieval"

MADE_FOLDERS = {
    "gzsl": FULL.video_folder,
    "zero_shot_small": SMALL.video_folder,
    "retrieval_clips": RETRIEVAL_FOLDER,
    "retrieval_films": RETRIEVAL_FOLDER,
}
"""What a synthetic source names (`avpipe.sources.settings.Synthetic.dataset`) -> the folder that lists its clips."""
