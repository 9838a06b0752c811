"""SeLaVi, 512 numbers of video and 512 of audio per second (docs/networks.md, SeLaVi)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from av.container import InputContainer
from av.video.stream import VideoStream
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.video import r2plus1d_18

from avpipe.errors import ClipFailure, Reason
from avpipe.features.selavi_frontend import Picture, crop_picture, log_spectrograms
from avpipe.features.selavi_windows import WINDOW_SECONDS, AvcaWindows, FullWindows, Windows
from avpipe.features.settings import SeLaViSettings
from avpipe.features.types import Extractor, Window
from avpipe.features.vggish_frontend import to_mono
from avpipe.formats.weights import renamed_prefix
from avpipe.media.clip import Clip
from avpipe.media.cut import Cut, exact_clock, make_cut
from avpipe.media.decode import audio_blocks, check_frame, shown_frames
from avpipe.media.frames import RgbConverter, TimedFrame
from avpipe.media.probe import find_failure, read_media_info
from avpipe.media.source import NO_VIDEO_STREAM, find_video, open_media, origin_ticks, read_packets, require_decoder
from avpipe.media.timeline import Timeline, plan_video, read_timeline
from avpipe.media.wholeness import has_too_few

DIMENSION = 512
VIDEO, AUDIO = "video", "audio"
_INT16_SCALE = 32768.0
_BLOCK_SECONDS = 10.0
_SPECTROGRAMS_AT_ONCE = 8  # bounds memory; the values do not depend on it


class VideoNetwork(nn.Module):
    """R(2+1)D-18 without its classifier, 222 entries."""

    def __init__(self) -> None:
        super().__init__()
        self.base = r2plus1d_18(weights=None)
        self.base.fc = nn.Identity()

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Features [N, 512] of windows [N, 3, frames, 112, 112], N = 1 too; published are 30 frames."""
        return self.base(video)


class AudioNetwork(nn.Module):
    """A ResNet of four basic blocks on one channel, without its classifier, 72 entries."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ResNet(BasicBlock, [1, 1, 1, 1])
        self.base.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.base.fc = nn.Identity()

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Features [N, 512] of spectrograms [N, 1, 257, columns], N = 1 too; 99 columns are 1 s at 44.1 kHz."""
        return self.base(audio)


class SeLaVi(nn.Module):
    """Both networks of Asano et al. 2020 with the published key names, 294 entries.

    The published file holds ten classification heads for each as well (`mlp_v*`, `mlp_a*`), which features do
    not pass through: they are ignored.
    """

    published_entry: ClassVar[str] = "model"
    """Of the training checkpoint that was published."""
    folds_batch_norms: ClassVar = True

    def __init__(self) -> None:
        super().__init__()
        self.video_network = VideoNetwork()
        self.audio_network = AudioNetwork()

    def published_entries(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Entries without the prefix of parallel training and without the heads."""
        plain = renamed_prefix(state_dict, "module.")
        return {key: value for key, value in plain.items() if not key.startswith(("mlp_v", "mlp_a"))}

    def forward(self, video: torch.Tensor, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [N, 512] of video and of audio.

        Args:
            video: float32 [N, 3, 30, 112, 112], as `crop_picture` makes its pictures.
            audio: float32 [N, 1, 257, 99], as `waveform_to_log_spectrogram` gives it.
        """
        return self.video_network(video), self.audio_network(audio)


def waveform_to_log_spectrogram(waveform: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.float32]:
    """Log filterbank energies of a whole waveform, normalised as the network expects them.

    Source: docs/networks.md, Sound of SeLaVi.

    Args:
        waveform: int16, or float in [-1, 1]; [n] or [n, channels], of which the mean is taken.
        sample_rate: in Hz; there is no resampling. AVCA used 44100.

    Returns:
        float32 [1, 257, columns], from 0 Hz to half the sample rate, 0.01 s a column; [1, 257, 99] for 1 s.

    Raises:
        ValueError: another type or number of axes, no sample, or a sample rate below 100 Hz.
    """
    given = np.asarray(waveform)
    if given.size == 0:
        raise ValueError(f"Waveform of shape {given.shape}; expected at least one sample.")
    if sample_rate < 100:
        raise ValueError(f"Sample rate {sample_rate} Hz; expected at least 100.")
    return log_spectrograms(to_mono(given)[None] * _INT16_SCALE, sample_rate)[0]


class SeLaViExtractor(Extractor):
    """SeLaVi features of a clip's pictures and sound: one row of each per window of 1 s, averaged over the clip.

    Both streams have the same windows (`selavi_windows`). Where the sound ends before a window does, that
    window hears the last second there is.

    Args:
        settings: quirks left open are decided as `corrected`: windows over the whole clip, pictures upright.
    """

    name = "selavi"
    settings: SeLaViSettings

    def build_network(self) -> SeLaVi:
        """The untrained network; forward takes [N, 3, 30, 112, 112] and [N, 1, 257, 99], gives two [N, 512]."""
        return SeLaVi().eval()

    def forward(self, network: nn.Module, stream: str, batch: torch.Tensor) -> torch.Tensor:
        """Rows [N, 512] of the stream's own network."""
        return network.get_submodule(f"{stream}_network")(batch)

    def windows(self, clip: Clip) -> Iterator[Window]:
        """Decode the clip's sound and then its pictures, each as a stream, and cut them into windows of 1 s.

        Yields:
            Of audio float32 [1, 257, columns], of video float32 [3, window_frames, 112, 112].

        Raises:
            ClipFailure: too_short for less than one window (2 s with windows as in AVCA, else 1 s) or less than
                1 s of sound; no_audio, no_video and decode_error from decoding.
        """
        cut = make_cut(clip.start_seconds, clip.end_seconds)
        try:
            windows = self._choose_windows(clip.path, cut)
        except ClipFailure as failure:
            if failure.reason in (Reason.TOO_SHORT, Reason.NO_VIDEO):
                _check_whole(clip.path, cut)
            raise
        # The sound first: it costs little, and a clip without any fails before its pictures are decoded.
        yield from self._audio_windows(clip, windows)
        yield from self._video_windows(clip, cut, windows)

    def _choose_windows(self, path: Path, cut: Cut) -> Windows:
        windows = _avca_windows(path, cut) if self.settings.windows == "avca" else _full_windows(path, cut)
        if windows.count == 0:
            raise ClipFailure(Reason.TOO_SHORT, f"{path}: {windows.shortage}")
        return windows

    def _audio_windows(self, clip: Clip, windows: Windows) -> Iterator[Window]:
        rate_hz = self.settings.audio_rate_hz
        blocks = audio_blocks(
            clip.path,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            block_seconds=_BLOCK_SECONDS,
            rate_hz=rate_hz,
            mono=True,
        )
        seconds = _cut_seconds((block[:, 0] for block in blocks), windows.starts(), rate_hz, clip.path)
        while group := list(islice(seconds, _SPECTROGRAMS_AT_ONCE)):
            spectrograms = log_spectrograms(np.stack([samples for _, samples in group]), rate_hz)
            for (start, _), spectrogram in zip(group, spectrograms, strict=True):
                yield Window(AUDIO, torch.from_numpy(spectrogram), start, start + WINDOW_SECONDS)

    def _video_windows(self, clip: Clip, cut: Cut, windows: Windows) -> Iterator[Window]:
        window_frames = self.settings.window_frames
        chooser = windows.chooser(window_frames)
        to_rgb = RgbConverter(orientation=self.settings.rotation or "upright")
        filling: dict[int, dict[int, Picture]] = {}  # pictures by place, of the few windows that overlap here
        starts = enumerate(windows.starts())
        number, start = next(starts)
        for shown, time, following in _frames_on_clock(clip, cut):
            choices = chooser.choose(time, following)
            if not choices:
                continue
            check_frame(shown, clip.path)
            picture = crop_picture(to_rgb.convert(shown.frame))
            for chosen, places in choices:
                filling.setdefault(chosen, {}).update(dict.fromkeys(places, picture))
            while len(filling.get(number, ())) == window_frames:
                yield Window(VIDEO, _window_tensor(filling.pop(number)), start, start + WINDOW_SECONDS)
                number, start = next(starts, (-1, 0.0))


def _window_tensor(pictures: dict[int, Picture]) -> torch.Tensor:
    """Pictures [112, 112, 3] by place, as [3, frames, 112, 112]; the memory keeps the order they come in."""
    stacked = np.stack([pictures[place] for place in range(len(pictures))])
    return torch.from_numpy(stacked).permute(3, 0, 1, 2)


def _avca_windows(path: Path, cut: Cut) -> AvcaWindows:
    """AVCA's windows of a file, by what its header announces, or of a segment, as if it were a file of its own.

    Headers that announce nothing (Matroska, MPEG) made the publication replace the video by another; here the
    packets are counted.
    """
    with open_media(path) as container:
        video = find_video(container)
        if video is None:
            raise ClipFailure(Reason.NO_VIDEO, f"{path}: {NO_VIDEO_STREAM}")
        require_decoder(video, path)
        assert video.time_base is not None
        average, ticks_per_second = video.average_rate, 1 / video.time_base
        if cut.is_whole and video.frames and video.duration and average:
            _check_announced(path, container, video)
            first_tick = origin_ticks(container, video)
            return AvcaWindows(video.frames, float(average), video.duration, ticks_per_second, first_tick)
    timeline = read_timeline(path, decode=not cut.is_whole)
    if cut.is_whole:
        frames, seconds = len(timeline.times), timeline.end - timeline.times[0]
        average = average or frames / seconds
    else:
        plan = plan_video(timeline, cut, path, begins_at_zero=True)
        # The clock and the average rate of the file that `media.trim` would cut.
        frames, seconds = len(plan.times), plan.end
        average, ticks_per_second = frames / seconds, Fraction(exact_clock(timeline.time_base))
    return AvcaWindows(frames, float(average), round(seconds * ticks_per_second), ticks_per_second)


def _check_whole(path: Path, cut: Cut) -> None:
    """Raise ClipFailure DECODE_ERROR where a segment lacks pictures because its file was cut off before its end."""
    with open_media(path) as container:
        if find_video(container) is None:
            return
    info = read_media_info(path)
    video = info.video
    if video is not None and cut.end is not None and cut.end <= video.start_seconds + video.duration_seconds:
        return
    failure = find_failure(info)
    if failure is not None and failure[0] is Reason.DECODE_ERROR:
        raise ClipFailure(failure[0], f"{path}: {failure[1]}")


def _check_announced(path: Path, container: InputContainer, video: VideoStream) -> None:
    """Raise ClipFailure DECODE_ERROR where a header announces more frames than there are packets, or time, for.

    Reads the container to its end. Frames that an AVI leaves out take time, and an MP4's edit list hides frames that
    are announced, but hardly most of them.
    """
    assert video.time_base is not None and video.average_rate
    packets, first, last = 0, None, 0
    for packet in read_packets(container, video):
        packets += packet.size > 0
        if packet.dts is not None:
            first, last = packet.dts if first is None else first, packet.dts + (packet.duration or 0)
    seconds = (last - (first or 0)) * video.time_base
    expected = video.frames // 2 if "mov" in container.format.name else video.frames
    if has_too_few(expected, max(packets, round(seconds * video.average_rate))):
        found = f"{packets} frames in {float(seconds):.2f} s"
        detail = f"{path}: the header announces {video.frames} frames, the file holds {found}; fetch it again"
        raise ClipFailure(Reason.DECODE_ERROR, detail)


def _full_windows(path: Path, cut: Cut) -> FullWindows:
    timeline = read_timeline(path, decode=not cut.is_whole)
    return FullWindows(_shown_seconds(timeline, cut, path))


def _shown_seconds(timeline: Timeline, cut: Cut, path: Path) -> Fraction:
    """From the start of the segment to the end of its last frame."""
    return timeline.end if cut.is_whole else plan_video(timeline, cut, path, begins_at_zero=True).end


def _frames_on_clock(clip: Clip, cut: Cut) -> Iterator[tuple[TimedFrame, Fraction, Fraction | None]]:
    """The frames of a segment, from the one on the screen at its start, with their times and the next one's.

    Times are in seconds from the start of the segment; the last frame has no next one.
    """
    held: tuple[TimedFrame, Fraction] | None = None
    with closing(shown_frames(clip.path, cut)) as frames:
        for shown in frames:
            time = cut.shift(shown.time)
            if not cut.is_whole and (held is None or shown.time <= cut.start):
                time = Fraction(0)  # a segment begins with a picture, see `media.cut`
            elif held is not None:
                yield *held, time
            held = shown, time
    if held is not None:
        yield *held, None


def _cut_seconds(
    blocks: Iterable[npt.NDArray[np.int16]], starts: Iterator[float], rate_hz: int, path: Path
) -> Iterator[tuple[float, npt.NDArray[np.int16]]]:
    """Cut windows of one second, int16 [rate_hz], out of mono sound; holds a block and a second of it.

    A window that would pass the end is moved back to the last second.

    Raises:
        ClipFailure: TOO_SHORT for less than a second.
    """
    held = np.empty(0, np.int16)
    total = 0  # samples up to the end of `held`
    start = next(starts, None)
    for block in blocks:
        held = np.concatenate([held, block])
        total += block.size
        while start is not None and round(start * rate_hz) + rate_hz <= total:
            begin = round(start * rate_hz) - (total - held.size)
            yield start, held[begin : begin + rate_hz]
            start = next(starts, None)
        needed = total if start is None else round(start * rate_hz)
        held = held[max(0, min(needed, total - rate_hz) - (total - held.size)) :]
    if total < rate_hz:
        found = f"{total:,} samples of sound at {rate_hz:,} Hz ({total / rate_hz:.3f} s)"
        raise ClipFailure(Reason.TOO_SHORT, f"{path}: {found}; one SeLaVi window needs 1 s")
    while start is not None:
        yield start, held[-rate_hz:]
        start = next(starts, None)
