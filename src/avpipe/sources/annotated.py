"""Clips whose videos an annotation or an address names: where each lies, and which videos have to be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avpipe.sources.annotations.clips import AnnotatedClip, Annotations
from avpipe.sources.folders import Listing
from avpipe.sources.local import Described, SourceClip
from avpipe.sources.video_files import VideoFile, fetched_stem, find_videos


@dataclass(frozen=True)
class WantedVideo:
    """A video of an annotation, or the segment of a clip where segments are fetched.

    Attributes:
        video_id: its name; of a segment that of the clip.
        url: where it can be fetched; empty where nobody knows.
        seconds: its length as annotated, if it is.
        clip_ids: what is cut from it.
        shard_key: the id by which it is put into a shard.
        segment: start and end in seconds; None: the whole video.
    """

    video_id: str
    url: str
    seconds: float | None
    clip_ids: tuple[str, ...]
    shard_key: str
    segment: tuple[float, float] | None = None


def wanted_videos(annotations: Annotations) -> list[WantedVideo]:
    """Every video, or every segment, once, in the order of their names."""
    clips: dict[str, list[AnnotatedClip]] = {}
    for clip in annotations.clips:
        clips.setdefault(clip.fetched_as, []).append(clip)
    return [_wanted(name, own[0], tuple(clip.clip_id for clip in own)) for name, own in sorted(clips.items())]


def _wanted(name: str, clip: AnnotatedClip, clip_ids: tuple[str, ...]) -> WantedVideo:
    start, end = clip.start_seconds or 0.0, clip.end_seconds
    if name == clip.video_id or end is None:
        return WantedVideo(name, clip.address, clip.video_seconds, clip_ids, clip.video_id)
    return WantedVideo(name, clip.address, end - start, clip_ids, clip.video_id, (start, end))


def list_annotated(annotations: Annotations, folder: Path) -> Listing:
    """Every clip with its file: one named after the clip, which is cut already, or else that of its video.

    A clip without either is listed where its video would be fetched to, with size -1.

    Raises:
        AvpipeError: two files have one name, or the folder cannot be read.
    """
    names = {name for clip in annotations.clips for name in (clip.clip_id, clip.video_id)}
    found, ignored = find_videos(folder, names)
    clips = sorted(_located(clip, found, folder) for clip in annotations.clips)
    return Listing(clips, ignored, {clip.clip_id: clip.video_id for clip in annotations.clips}, folder)


def _located(clip: AnnotatedClip, found: Mapping[str, VideoFile], folder: Path) -> SourceClip:
    segment = (clip.start_seconds, clip.end_seconds)
    file = found.get(clip.video_id)
    if clip.clip_id != clip.video_id and (own := found.get(clip.clip_id)):
        file, segment = own, (None, None)
    if file is None:
        return SourceClip(clip.clip_id, clip.class_name, str(fetched_stem(folder, clip.fetched_as)), *segment)
    return SourceClip(clip.clip_id, clip.class_name, file.path, *segment, file.size_bytes, file.modified_ns)


def describe_annotated(annotations: Annotations) -> list[Described]:
    """Subset and captions of every clip, sorted by clip id."""
    described = [Described(clip.clip_id, clip.subset or None, clip.captions) for clip in annotations.clips]
    return sorted(described, key=lambda each: each.clip_id)


def without_files(videos: Iterable[WantedVideo], listing: Listing) -> list[WantedVideo]:
    """The videos that some clip is still to be cut from and that lie nowhere."""
    there = {clip.clip_id for clip in listing.clips if clip.size_bytes >= 0}
    return [video for video in videos if not there.issuperset(video.clip_ids)]
