"""Opening a media file: which stream is the video, when the file starts, and what can go wrong."""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avpipe.errors import AvpipeError, ClipFailure, Reason
from avpipe.media.ffmpeg_log import explain, listening
from avpipe.media.joined import CommonClock, check_one_file, may_be_joined

NO_VIDEO_STREAM = "no video stream (pictures and cover art do not count)"

# Seconds by which to seek before the moment wanted: FFmpeg's indexes are in decoding order, and a key frame that is
# decoded before that moment may be shown after it.
SEEK_MARGIN = Fraction(1, 2)

# No whole file leaves its screen or its sound without a new frame for so long; a damaged time stamp does, and days of
# repeated frames or of silence would be made of it.
LONGEST_GAP_SECONDS = 3600

# Formats that are a list of other files or addresses. A clip is its own file: a text must not make FFmpeg open others.
_PLAYLISTS = {"concat", "concatf", "dash", "hls", "imf", "rtsp", "sap", "sdp", "webm_dash_manifest"}
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(sorted(av.formats_available - _PLAYLISTS))}

# What such a list begins with, or has near its beginning.
_PLAYLIST_SIGNS = {
    "concat": b"ffconcat version",
    "hls": b"#EXTM3U",
    "dash": b"<MPD",
    "imf": b"<CompositionPlaylist",
    "sdp": b"v=0",
}
_SIGN_WITHIN_BYTES = 1024

# A WAV says these where it was written without knowing its size: 0, all ones, and SoX's 2 GiB less a little.
_LARGEST_WAV = 0x7FFFF000

_S = TypeVar("_S", VideoStream, AudioStream)
_DEFAULT_IS_WORTH = 5_000_000
_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails


def media_url(path: Path) -> str:
    """Name a file so that FFmpeg never takes it for a protocol ("12:30.mp4") or an option ("-i.mp4")."""
    return f"file:{path}"


@contextmanager
def open_media(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a media file for reading and close it in any case.

    Raises:
        ClipFailure: MISSING when there is no such file; DECODE_ERROR when it is empty, is no media file, or
            when FFmpeg fails on it inside the `with` block, or when a second file follows it.
        AvpipeError: the file may not be read by this user.
    """
    path = Path(path)
    _check_readable(path)
    said: list[str] = []
    try:
        with listening() as said:
            # Tags in odd encodings must not cost the clip: nobody reads them.
            container = av.open(media_url(path), metadata_errors="replace", options=_OPTIONS)
        with container:
            check_one_file(path, container)
            yield container
    except FFmpegError as error:
        playlist = _playlist_format(path)
        found = f"FFmpeg finds no media that it can read ({explain(error, said)})"
        if playlist is not None:
            found = f"a playlist of other files (FFmpeg's format {playlist}), which avpipe does not follow"
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {found}") from error


def _playlist_format(path: Path) -> str | None:
    """FFmpeg's name of the kind of list that a file is, or None."""
    with path.open("rb") as file:
        head = file.read(_SIGN_WITHIN_BYTES)
    for name, sign in _PLAYLIST_SIGNS.items():
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(sign) or (sign[:1] == b"<" and sign in head):
            return name
    return None


def read_packets(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Demux the packets of these streams, or of all, with the times of joined streams on one clock.

    Raises:
        ClipFailure: DECODE_ERROR when they cannot be brought on one clock.
    """
    if not may_be_joined(container):
        yield from _demuxed(container, *streams)
        return
    clock, wanted = CommonClock(container), {stream.index for stream in streams}
    for packet in _demuxed(container):
        if _is_theora_header(packet):  # joined streams repeat them; they are no pictures
            continue
        clock.place(packet)
        if not wanted or packet.stream.index in wanted:
            yield packet


def _demuxed(container: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """Demux, passing over streams that appear in the middle of the file.

    Damaged files have such; PyAV ends its demuxing with an IndexError there, and goes on when asked again, or has
    already said that the streams wanted have ended.
    """
    has_ended = False
    while not has_ended:
        try:
            for packet in container.demux(*streams):
                has_ended = is_end_mark(packet)
                yield packet
        except IndexError:
            continue
        return


def _is_theora_header(packet: Packet) -> bool:
    context = packet.stream.codec_context  # None: a stream of a kind that FFmpeg does not know
    return bool(packet.size and context is not None and context.name == "theora" and memoryview(packet)[0] & 0x80)


def is_end_mark(packet: Packet) -> bool:
    """Whether a packet is PyAV's sign that a stream has ended; empty packets of a file have a time."""
    return packet.size == 0 and packet.dts is None and packet.pts is None


def _check_readable(path: Path) -> None:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ClipFailure(Reason.MISSING, f"{path}: expected a media file, found {found}")
    if not os.access(path, os.R_OK):
        raise AvpipeError(f"{path}: this user may not read it; mend the file's permissions and run again")
    if path.stat().st_size == 0:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: 0 bytes; fetch it again")


def origin_seconds(container: InputContainer) -> Fraction:
    """Give the container's first time stamp in seconds: the zero that all times of avpipe count from."""
    return Fraction(container.start_time or 0, av.time_base)


def origin_ticks(container: InputContainer, stream: Stream) -> int:
    """Give the container's first time stamp in ticks of `stream`, rounded as ffmpeg rounds it."""
    assert stream.time_base is not None
    return int((origin_seconds(container) / stream.time_base + Fraction(1, 2)) // 1)


class LatestEnd:
    """The end of the last packet of any stream that was given, in seconds from the container's first time stamp."""

    def __init__(self, container: InputContainer) -> None:
        self._origin = origin_seconds(container)
        self._ticks: dict[int, int] = {}  # by stream; fractions for every packet would take longer than reading it
        self._time_bases = {stream.index: stream.time_base for stream in container.streams}

    def add(self, packet: Packet) -> None:
        """Take a packet."""
        index, pts = packet.stream_index, packet.pts
        if pts is not None:
            self._ticks[index] = max(self._ticks.get(index, pts), pts + (packet.duration or 0))

    @property
    def seconds(self) -> Fraction:
        """The latest end; 0 before any packet."""
        ends = (ticks * (self._time_bases.get(index) or 0) - self._origin for index, ticks in self._ticks.items())
        return max(ends, default=Fraction(0))


def find_video(container: InputContainer) -> VideoStream | None:
    """Give the video stream that the ffmpeg program takes, pictures (cover art, a photograph) left out, or None."""
    if container.format.name.endswith(("_pipe", "image2")):  # FFmpeg's names for files that hold one picture
        return None
    streams = [stream for stream in container.streams.video if not stream.disposition & _PICTURE]
    return _choose(container, streams, lambda context: context.width * context.height)


def find_audio(container: InputContainer) -> AudioStream | None:
    """Give the audio stream that the ffmpeg program takes, of those with a sample rate and channels, or None."""
    contexts = ((stream, stream.codec_context) for stream in container.streams.audio)
    streams = [stream for stream, context in contexts if context is None or (context.sample_rate and context.channels)]
    return _choose(container, streams, lambda context: context.channels)


def _choose(container: InputContainer, streams: list[_S], size: Callable[[Any], int]) -> _S | None:
    """Choose as ffmpeg's `map_auto_video` and `map_auto_audio` do: one with packets, marked as default, the largest.

    The mark counts as much as five million pixels or channels; of equals the first is taken.
    """

    def rank(stream: _S) -> int:
        marked = _DEFAULT_IS_WORTH * bool(stream.disposition & Disposition.default)
        return marked + (0 if stream.codec_context is None else size(stream.codec_context))

    ranked = sorted(streams, key=rank, reverse=True)
    if len(ranked) < 2:
        return next(iter(ranked), None)
    path = Path(container.name.removeprefix("file:"))
    index = _first_with_packets(path, path.stat().st_mtime_ns, tuple(stream.index for stream in ranked))
    return next(stream for stream in ranked if stream.index == index)


@functools.lru_cache(maxsize=256)
def _first_with_packets(path: Path, modified_ns: int, ranked: tuple[int, ...]) -> int:
    """The first of some streams that is not empty; the first one where all are."""
    seen: set[int] = set()
    with (
        listening(),
        suppress(FFmpegError),  # what cannot be read is found when it is decoded
        av.open(media_url(path), metadata_errors="replace", options=_OPTIONS) as container,
    ):
        for packet in _demuxed(container):
            if packet.size:
                seen.add(packet.stream_index)
            if ranked[0] in seen:
                break
    return next((index for index in ranked if index in seen), ranked[0])


def read_only(container: InputContainer, stream: Stream, path: Path) -> None:
    """Let FFmpeg pass over the other streams of a container, unless they are needed for a common clock.

    Raises:
        ClipFailure: DECODE_ERROR when this FFmpeg knows no decoder for the stream.
    """
    require_decoder(stream, path)
    for other in container.streams:
        if other.index != stream.index and not may_be_joined(container):
            other.discard = Discard.all


def first_picture(path: Path) -> VideoFrame | None:
    """Decode the first frame of a file's video, since PyAV shows rotation tags on decoded frames only; None: none."""
    with open_media(path) as container:
        video = find_video(container)
        if video is None:
            return None
        for packet in read_packets(container, video):
            with suppress(FFmpegError):  # before the first key frame; whether that is damage is judged elsewhere
                for frame in video.decode(packet):
                    return frame
    return None


def announced_seconds(container: InputContainer, stream: Stream) -> float | None:
    """Give a stream's duration by the header, or None when the header does not say.

    FFmpeg shortens an AVI's durations to what the file's size allows, so there the announced frames tell.
    """
    rate = getattr(stream, "average_rate", None)
    if container.format.name == "avi" and stream.frames and rate:
        return float(stream.frames / rate)
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def announced_file_seconds(container: InputContainer) -> float | None:
    """Give the file's duration by the header, from the container's first time stamp, or None.

    Matroska counts it from time stamp 0.
    """
    if container.duration is None:
        return None
    before = max(origin_seconds(container), Fraction(0)) if "matroska" in container.format.name else 0
    return float(Fraction(container.duration, av.time_base) - before)


def dropped_at_end(path: Path, container: InputContainer, stream: Stream) -> int:
    """Count the empty pictures at the end of an AVI, which show the one before; FFmpeg passes over them."""
    if container.format.name != "avi":
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.rfind(b"idx1")
        size = int.from_bytes(data[at + 4 : at + 8], "little") if at >= 0 else 0
        entries = np.frombuffer(data[at + 8 : at + 8 + size // 16 * 16], "<u4").reshape(-1, 4)
    number = int.from_bytes(f"{stream.index:02d}".encode(), "little")
    lengths = entries[entries[:, 0] & 0xFFFF == number, 3]
    return int(np.argmax(lengths[::-1] > 0)) if lengths.any() else 0


def wav_bytes(path: Path) -> int | None:
    """Give the size that a WAV says it has; None where it does not know, since it was written as a stream."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    return size + 8 if head[:4] == b"RIFF" and 0 < size < _LARGEST_WAV else None


def check_packet(packet: Packet, path: Path) -> None:
    """Raise ClipFailure DECODE_ERROR when the file ends, or has a hole, in the middle of a packet.

    FFmpeg reads samples of a WAV by the thousand and calls the rest of one of unknown size cut off, which it is not.
    """
    if packet.is_corrupt:
        if packet.stream.container.format.name == "wav" and wav_bytes(path) is None:
            return
        time = packet.pts if packet.pts is not None else packet.dts
        place = "at an unknown time" if time is None else f"at {float(time * packet.time_base):.3f} s"
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {packet.stream.type} packet cut off {place}; fetch it again")


def check_gap(path: Path, kind: str, before: Fraction, after: Fraction) -> None:
    """Raise ClipFailure DECODE_ERROR when time stamps in seconds are so far apart that one must be damaged."""
    if after - before > LONGEST_GAP_SECONDS:
        found = f"{kind} jumps from {float(before):.3f} s to {float(after):.3f} s, by more than {LONGEST_GAP_SECONDS} s"
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: {found}: damaged time stamps; fetch it again")


def has_exact_index(container: InputContainer) -> bool:
    """Tell whether packets say when their frame is shown, and a seek finds the key frame before it.

    MP4, QuickTime, Matroska and WebM do; in AVI both are guesses, in MPEG streams and FLV a seek may land
    anywhere.
    """
    return any(name in container.format.name for name in ("mov", "matroska"))


def require_decoder(stream: Stream, path: Path) -> None:
    """Raise ClipFailure DECODE_ERROR when this FFmpeg knows no decoder for the stream."""
    if stream.codec_context is None:
        raise ClipFailure(Reason.DECODE_ERROR, f"{path}: no decoder for {stream.type} stream {stream.index}")
