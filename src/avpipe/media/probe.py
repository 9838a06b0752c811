"""What a media file holds, from its header and all its packets, without decoding it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from avpipe.errors import ClipFailure, Reason
from avpipe.media.source import (
    NO_VIDEO_STREAM,
    LatestEnd,
    announced_file_seconds,
    announced_seconds,
    dropped_at_end,
    find_audio,
    find_video,
    first_picture,
    open_media,
    origin_seconds,
    read_packets,
    require_decoder,
)
from avpipe.media.tally import find_late_key
from avpipe.media.wholeness import HoleWatch, find_missing_sound, has_too_few, is_short


@dataclass(frozen=True)
class VideoStream:
    """The video stream of a file.

    Attributes:
        index: number of the stream in its container.
        codec: FFmpeg's name of the codec.
        width, height: in pixels, as coded, before any rotation.
        rate_hz: average frames a second.
        announced_frames: what the header says, None when it says nothing.
        packets: packets found that hold a frame to be shown.
        packets_before_key: those of them that come before the first key frame, so that they cannot be decoded.
        start_seconds: first frame shown, from the container's first time stamp.
        duration_seconds: from the first frame shown to the end of the last, by the packets found.
        announced_seconds: the stream's duration by the header, None when it says nothing.
        rotation_degrees: clockwise turn that shows the picture upright, 0..359.
        pixel_format: FFmpeg's name.
    """

    index: int
    codec: str
    width: int
    height: int
    rate_hz: float
    announced_frames: int | None
    packets: int
    packets_before_key: int
    start_seconds: float
    duration_seconds: float
    announced_seconds: float | None
    rotation_degrees: int
    pixel_format: str


@dataclass(frozen=True)
class AudioStream:
    """The audio stream of a file; the times are as in `VideoStream`.

    Attributes:
        index: number of the stream in its container.
        codec: FFmpeg's name of the codec.
        rate_hz: samples a second.
        channels: number of channels.
        packets: packets found.
    """

    index: int
    codec: str
    rate_hz: int
    channels: int
    packets: int
    start_seconds: float
    duration_seconds: float
    announced_seconds: float | None


@dataclass(frozen=True)
class MediaInfo:
    """A media file.

    Attributes:
        duration_seconds: end of the last packet of either stream, from the container's first time stamp.
        end_seconds: the same of all streams, subtitles and other tracks included.
        announced_seconds: the same by the header, None when it says nothing.
        missing_sound: what is missing of the sound, in a line (`wholeness`); None: nothing.
        video, audio: the streams that avpipe uses; None when there is none.
    """

    duration_seconds: float
    end_seconds: float
    announced_seconds: float | None
    missing_sound: str | None
    video: VideoStream | None
    audio: AudioStream | None


def probe_media(path: str | os.PathLike[str]) -> MediaInfo:
    """Read the header and all packets of a file that should hold video; the first frame alone is decoded.

    A file without audio has `audio` None; whether that is a failure is for the consumer to say.

    What is missing of pictures or sound fails here as it would fail when they are decoded. Damage that only
    decoding shows, inside a packet, passes.

    Raises:
        ClipFailure: MISSING (no such file), DECODE_ERROR (empty, unreadable, truncated, a part damaged so that
            FFmpeg skips it), NO_VIDEO (no video stream, a picture only, or no frame).
        AvpipeError: the file may not be read by this user.
    """
    path = Path(path)
    info = read_media_info(path)
    failure = find_failure(info)
    if failure is not None:
        raise ClipFailure(failure[0], f"{path}: {failure[1]}")
    return info


def read_media_info(path: str | os.PathLike[str]) -> MediaInfo:
    """Like `probe_media`, for any media file: reports what is there, whether or not it is all that should be.

    Raises:
        ClipFailure: MISSING, or DECODE_ERROR when the file cannot be opened, ends in the middle of a packet, or
            when FFmpeg skips a damaged part of it.
    """
    path = Path(path)
    with open_media(path) as container:
        video, audio = find_video(container), find_audio(container)
        streams: list[Stream] = [stream for stream in (video, audio) if stream is not None]
        for stream in streams:
            require_decoder(stream, path)
        spans, file_end = _read_spans(path, container, streams)
        if video is not None:
            spans[video.index].extend(dropped_at_end(path, container, video), video.average_rate)
        video_info = None if video is None else _describe_video(path, container, video, spans[video.index])
        audio_info = None if audio is None else _describe_audio(container, audio, spans[audio.index])
        end = max((span.end_seconds for span in spans.values()), default=0.0)
        announced = announced_file_seconds(container)
        missing_sound = None
        if audio is not None and spans[audio.index].packets:
            sound_end = Fraction(spans[audio.index].end_seconds)
            missing_sound = find_missing_sound(path, container, audio, sound_end)
    return MediaInfo(end, float(file_end), announced, missing_sound, video_info, audio_info)


def find_failure(info: MediaInfo) -> tuple[Reason, str] | None:
    """Decide whether a probed file is unfit as a video: the reason and its detail, or None."""
    video = info.video
    if video is None:
        return Reason.NO_VIDEO, NO_VIDEO_STREAM
    missing = find_missing_video(video, info.announced_seconds, info.end_seconds) or info.missing_sound
    if missing is not None:
        return Reason.DECODE_ERROR, missing
    if video.packets == 0:
        return Reason.NO_VIDEO, "the video stream holds no frame"
    return None


def find_missing_video(video: VideoStream, announced_file_seconds: float | None, file_seconds: float) -> str | None:
    """Say in one line what is missing of what the header announces, or None when the file is whole.

    Args:
        video: the video stream, with the packets (or frames) found.
        announced_file_seconds: the container's duration by the header.
        file_seconds: the end of the last packet found in any stream.
    """
    frames_found = f"{video.packets} frames in {video.duration_seconds:.2f} s"
    if video.announced_seconds is not None:
        short_seconds = is_short(video.announced_seconds, video.duration_seconds)
        # An edit list may show less of a track than its header counts, so too few frames alone prove nothing.
        short_frames = video.announced_frames is None or has_too_few(video.announced_frames, video.packets)
        announced = f"{video.announced_frames or 'some'} frames in {video.announced_seconds:.2f} s"
        if short_seconds and short_frames:
            return f"truncated: the header announces {announced}, the file holds {frames_found}; fetch it again"
    elif announced_file_seconds is not None and is_short(announced_file_seconds, file_seconds):
        announced, found = f"{announced_file_seconds:.2f} s", f"{file_seconds:.2f} s"
        return f"truncated: the header announces {announced}, the file ends at {found}; fetch it again"
    return find_late_key(video.packets_before_key, video.packets)


@dataclass
class _Span:
    """What the packets of one stream cover, in ticks of its time base; the container's first time stamp in seconds."""

    time_base: Fraction
    origin: Fraction
    packets: int = 0
    packets_before_key: int = 0
    has_key: bool = False
    first: int | None = None
    last: int | None = None
    end: int | None = None

    def add(self, packet: Packet) -> None:
        time = packet.dts if packet.pts is None else packet.pts
        if packet.is_discard:  # decoded but never shown: cut away by an edit list
            self.has_key |= packet.is_keyframe
            return
        if packet.size:  # an empty one leaves the picture before on the screen
            self.has_key |= packet.is_keyframe
            self.packets += 1
            self.packets_before_key += not self.has_key
        if time is None:
            return
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)
        self.end = max(time + (packet.duration or 0), time if self.end is None else self.end)

    def extend(self, pictures: int, rate: Fraction | None) -> None:
        """Show the last picture for the time of some more."""
        if pictures and rate and self.end is not None:
            self.end += round(pictures / (rate * self.time_base))

    @property
    def start_seconds(self) -> float:
        return 0.0 if self.first is None else float(self.first * self.time_base - self.origin)

    @property
    def end_seconds(self) -> float:
        return 0.0 if self.end is None else float(self.end * self.time_base - self.origin)

    @property
    def duration_seconds(self) -> float:
        return self.end_seconds - self.start_seconds if self.packets else 0.0


def _read_spans(path: Path, container: InputContainer, streams: list[Stream]) -> tuple[dict[int, _Span], Fraction]:
    """Read all packets: what those of the streams cover, and the end of the last one of any, in seconds."""
    origin = origin_seconds(container)
    spans = {stream.index: _Span(_time_base(stream), origin) for stream in streams}
    holes = {stream.index: HoleWatch(path, container, stream) for stream in streams}
    end = LatestEnd(container)
    for packet in read_packets(container) if streams else ():
        index = packet.stream_index
        end.add(packet)
        if index not in spans:
            continue
        holes[index].check_packet(packet)
        holes[index].add(packet.dts if packet.stream.type == "video" else packet.pts, packet.duration)
        spans[index].add(packet)
    return spans, end.seconds


def _time_base(stream: Stream) -> Fraction:
    assert stream.time_base is not None, "a demuxed stream has a time base"
    return stream.time_base


def _describe_video(path: Path, container: InputContainer, stream: av.VideoStream, span: _Span) -> VideoStream:
    rate = stream.average_rate or stream.guessed_rate
    context = stream.codec_context
    picture = first_picture(path) if span.packets else None
    return VideoStream(
        index=stream.index,
        codec=context.name,
        width=context.width,
        height=context.height,
        rate_hz=float(rate) if rate else (span.packets / span.duration_seconds if span.duration_seconds else 0.0),
        announced_frames=stream.frames or None,
        packets=span.packets,
        packets_before_key=span.packets_before_key,
        start_seconds=span.start_seconds,
        duration_seconds=span.duration_seconds,
        announced_seconds=announced_seconds(container, stream),
        rotation_degrees=0 if picture is None else -picture.rotation % 360,
        pixel_format=context.pix_fmt or "unknown",
    )


def _describe_audio(container: InputContainer, stream: av.AudioStream, span: _Span) -> AudioStream:
    return AudioStream(
        index=stream.index,
        codec=stream.codec_context.name,
        rate_hz=stream.codec_context.sample_rate,
        channels=stream.codec_context.channels,
        packets=span.packets,
        start_seconds=span.start_seconds,
        duration_seconds=span.duration_seconds,
        announced_seconds=announced_seconds(container, stream),
    )
