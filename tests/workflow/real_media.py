"""Videos as cameras make them, cut into a folder of UCF-101's shape.

They are real ones where those lie beside the checkout, else made ones of the same formats, lengths and frame rates.
As a program: python tests/workflow/real_media.py FOLDER makes the folder with everything `write_project` writes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
from project import Project, new_project, small_settings, write_split, write_words

from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.probe import probe_media

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media"
CLIP_SECONDS = 1.1


@dataclass(frozen=True)
class Segment:
    """A class of the real dataset: a segment of one real video, cut into clips."""

    name: str
    file: str
    start_seconds: float
    clips: int


BOAT = {"Race": 0.0, "Turn": 6.0, "Finish": 12.0}
UCF = {"Start": 0.0, "End": 2.7}
SEGMENTS = (
    *(Segment(f"Boat{name}", "vfr_19.62fps_aac.mp4", start, 3) for name, start in BOAT.items()),
    *(Segment(f"Ucf{name}", "ucf_like_with_audio.avi", start, 3) for name, start in UCF.items()),
    Segment("SilentA", "no_audio_28fps.mp4", 0.0, 2),
    Segment("SilentB", "no_audio_30fps.mp4", 0.0, 2),
)


# File -> frames a second, size, seconds, whether it has sound: what stands in for a real video that is not there.
MADE = {
    "vfr_19.62fps_aac.mp4": (19.62, "320x240", 16, True),
    "ucf_like_with_audio.avi": (25, "320x240", 7, True),
    "no_audio_28fps.mp4": (28, "160x120", 3, False),
    "no_audio_30fps.mp4": (30, "160x120", 3, False),
}


def source_video(name: str, folder: Path) -> Path:
    """A real video, or one made in `folder`: a picture that changes all the time and a tone that swells."""
    if (SHARED / name).is_file():
        return SHARED / name
    target = folder / name
    if not target.is_file():
        rate, size, seconds, sound = MADE[name]
        folder.mkdir(parents=True, exist_ok=True)
        streams = [ffmpeg.input(f"testsrc2=size={size}:rate={rate}:duration={seconds}", f="lavfi")]
        if sound:
            tone = f"aevalsrc=exprs=sin(2*PI*(300+40*t)*t)*t/{seconds}:duration={seconds}:sample_rate=44100"
            streams.append(ffmpeg.input(tone, f="lavfi"))
        run_ffmpeg(ffmpeg.output(*streams, str(target), **{"c:v": "mpeg4", "q:v": 3}), target, timeout_seconds=120)
    return target


def cut(segment: Segment, folder: Path) -> list[str]:
    """Cut a segment into clips as UCF-101 has them: MPEG-4 and MP3 in AVI, v_Class_gNN_cMM; gives their ids."""
    source = source_video(segment.file, folder.parent / "whole")
    sound = probe_media(source).audio is not None
    ids = []
    for number in range(segment.clips):
        clip_id = f"v_{segment.name}_g01_c{number + 1:02}"
        target = folder / segment.name / f"{clip_id}.avi"
        target.parent.mkdir(parents=True, exist_ok=True)
        opened = ffmpeg.input(str(source))
        streams = [opened.video, opened.audio] if sound else [opened.video]
        # Cut after decoding: a seek to a frame that is no key frame makes the decoder complain.
        options = {"ss": segment.start_seconds + number * CLIP_SECONDS, "t": CLIP_SECONDS}
        options |= {"c:v": "mpeg4", "q:v": 3, "vtag": "XVID"} | ({"c:a": "libmp3lame"} if sound else {})
        run_ffmpeg(ffmpeg.output(*streams, str(target), **options), source, timeout_seconds=60)
        ids.append(clip_id)
    return ids


def write_project(folder: Path) -> Project:
    """A project whose dataset small consists of real clips; nothing run yet."""
    settings = small_settings(benchmarks=[{"split": "main_split"}], seeds=[0, 1])
    settings["features"]["c3d"] = {}
    settings["n_shards"] = 1
    settings["title"] = "Real videos in UCF-101's shape"
    settings["notes"] = ["MADE-UP TASK: classes are segments of two videos and their vectors are random."]
    project = new_project(folder, settings)
    clips = {segment.name: cut(segment, folder / "videos") for segment in SEGMENTS}
    audible = sorted(name for name in clips if not name.startswith("Silent"))
    roles = dict.fromkeys(audible, "train") | {audible[-3]: "val_unseen"}
    roles |= dict.fromkeys(audible[-2:], "test_unseen")  # one unseen class alone is always found
    write_split(folder / "split", "main_split", clips, roles)
    write_words(folder, sorted(clips))
    return project


if __name__ == "__main__":
    write_project(Path(sys.argv[1]))
