"""The whole chain on videos as cameras make them."""

import json

import numpy as np
import real_media
from project import Project
from real_media import SEGMENTS, cut, write_project

from avpipe.features.store import read_clips
from avpipe.media.probe import probe_media


def test_a_clone_alone_makes_its_own_videos(tmp_path, monkeypatch):
    monkeypatch.setattr(real_media, "SHARED", tmp_path / "nowhere")
    for segment in SEGMENTS:
        paths = [tmp_path / "videos" / segment.name / f"{clip}.avi" for clip in cut(segment, tmp_path / "videos")]
        infos = [probe_media(path) for path in paths]
        assert len(infos) == segment.clips and all(info.video is not None for info in infos)
        assert {info.audio is not None for info in infos} == {not segment.name.startswith("Silent")}


def test_real_videos_through_the_whole_chain(tmp_path):
    project: Project = write_project(tmp_path / "project")
    project.run()
    record = json.loads((project.folder / "results/small/eval.json").read_text())
    silent = sum(segment.clips for segment in SEGMENTS if segment.name.startswith("Silent"))
    assert record["clips"]["reasons"] == {"no_audio": silent}
    assert record["clips"]["requested"] == record["clips"]["ok"] + silent == sum(each.clips for each in SEGMENTS)
    result = record["results"][0]
    assert result["n_seeds"] == 2 and 0 <= result["mean"]["zsl"] <= 100
    subsets = record["benchmarks"]["main_split/cls_features"]["subsets"].values()
    assert all(subset["expected"] == subset["used"] > 0 for subset in subsets)
    stores = sorted((project.folder / "results/small/features/c3d").glob("*.h5"))
    clips = [clip for store in stores for clip in read_clips(store)]
    # 1.1 s at 25 fps are 27 or 28 frames: a window, and a second one that is padded.
    assert {len(clip.streams["video"].values) for clip in clips} == {2}
    pooled = np.stack([clip.streams["video"].pooled for clip in clips])
    assert len(np.unique(pooled, axis=0)) == len(clips)
