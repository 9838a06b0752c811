"""Sizes, crops and frames of the two networks of video_feature_extractor, against the ffmpeg program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_video import UNCOMPRESSED, make_video, program_frames, run, turn

from avpipe.errors import ClipFailure, Reason
from avpipe.features.frame_size import (
    MOST_PIXELS,
    centre_crop,
    pool_maximum,
    resized_frames,
    size_by_short_side,
    size_rule,
    unit_length,
)
from avpipe.features.frame_windows import cut_windows
from avpipe.features.settings import ResNet152Settings, ResNeXt101Settings
from avpipe.media.clip import Clip
from avpipe.media.frames import RgbFrame

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("coded", "for_2d", "for_3d"),
    [
        ((320, 240), (298, 224), (149, 112)),
        ((640, 360), (398, 224), (199, 112)),
        ((240, 320), (224, 298), (112, 149)),
        ((1080, 1920), (224, 398), (112, 199)),
        ((100, 100), (224, 224), (112, 112)),
        ((1, 1), (224, 224), (112, 112)),
        ((2, 3), (224, 336), (112, 168)),
        ((853, 480), (398, 224), (199, 112)),
    ],
)
def test_sizes(coded: tuple[int, int], for_2d: tuple[int, int], for_3d: tuple[int, int]) -> None:
    assert size_by_short_side(*coded, 224) == for_2d
    assert size_by_short_side(*coded, 112) == for_3d


@pytest.mark.parametrize("short_side", [112, 224])
def test_sizes_are_the_published_formula(short_side: int) -> None:
    for width in (*range(1, 700, 7), 1920, 4096, 7680):
        for height in (*range(1, 500, 11), 1080, 2160):
            # As coded in video_loader.py: floating point, then truncation; it gives height and width.
            if height >= width:
                published = int(height * short_side / width), short_side
            else:
                published = short_side, int(width * short_side / height)
            assert size_by_short_side(width, height, short_side) == published[::-1]


@pytest.mark.parametrize(
    ("shape", "top", "left"), [((112, 149), 0, 18), ((112, 199), 0, 43), ((149, 112), 18, 0), ((112, 112), 0, 0)]
)
def test_centre_crop(shape: tuple[int, int], top: int, left: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    cropped = centre_crop(frame, 112)
    assert cropped.shape == (112, 112, 3)
    assert np.array_equal(cropped, frame[top : top + 112, left : left + 112])
    assert (top, left) == (int((shape[0] - 112) / 2.0), int((shape[1] - 112) / 2.0))


@pytest.mark.parametrize("size", [(2, 2000), (2000, 2), (16, 16000), (1, 21)])
def test_a_strip_is_refused_before_it_fills_the_memory(size: tuple[int, int]) -> None:
    with pytest.raises(ClipFailure, match=rf"strip\.mkv.*{size[0]}x{size[1]}.*expected at most 1,048,576") as caught:
        size_rule(Path("strip.mkv"), 224)(*size)
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.mark.parametrize("size", [(1, 20), (20, 1), (7680, 480)])
def test_elongated_pictures_are_taken(size: tuple[int, int]) -> None:
    width, height = size_rule(Path("a.mkv"), 224)(*size)
    assert min(width, height) == 224 and width * height <= MOST_PIXELS


@pytest.mark.parametrize("size", ["1x1", "2x2", "3x1", "16x1", "64x4"])
@pytest.mark.parametrize("short_side", [112, 224])
def test_tiny_pictures(tmp_path: Path, size: str, short_side: int) -> None:
    path = make_video(tmp_path / "tiny.nut", size, "5", 1.0, UNCOMPRESSED)
    (frame,) = resized_frames(Clip("tiny", path), ResNet152Settings().resolved("corrected"), short_side)
    width, height = (int(length) for length in size.split("x"))
    assert frame.shape == (*size_by_short_side(width, height, short_side)[::-1], 3)


def test_a_strip_fails_as_a_clip(tmp_path: Path) -> None:
    path = make_video(tmp_path / "strip.nut", "2000x2", "5", 1.0, UNCOMPRESSED)
    with pytest.raises(ClipFailure, match="2000x2, 224000x224 = 50,176,000 pixels") as caught:
        list(resized_frames(Clip("strip", path), ResNet152Settings(), 224))
    assert caught.value.reason is Reason.DECODE_ERROR


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("fidelity", ["corrected", "published"])
def test_frames_are_the_programs(tmp_path: Path, degrees: int, fidelity: str) -> None:
    path = turn(make_video(tmp_path / "a.mp4"), tmp_path / "turned.mp4", degrees)
    sideways = degrees in (90, 270) and fidelity == "corrected"
    for settings, rate, size in (
        (ResNet152Settings(), 1, (224, 298) if sideways else (298, 224)),
        (ResNeXt101Settings(), 24, (112, 149) if sideways else (149, 112)),
    ):
        frames = list(resized_frames(Clip("a", path), settings.resolved(fidelity), min(size)))
        expected = program_frames(path, f"fps={rate},scale={size[0]}:{size[1]}", *size)
        assert np.array_equal(frames, expected) and len(frames) == 2 * rate


def test_less_than_half_a_frames_time_is_too_short(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "64x48")
    for settings, seconds in ((ResNet152Settings(), 0.48), (ResNeXt101Settings(), 0.02)):
        with pytest.raises(ClipFailure, match=f"0 frames at {settings.rate_hz:g} Hz; one needs") as caught:
            list(resized_frames(Clip("a", path, 0.0, seconds), settings, 112))
        assert caught.value.reason is Reason.TOO_SHORT
        assert len(list(resized_frames(Clip("a", path, 0.0, seconds + 0.02), settings, 112))) == 1


def test_without_pictures_there_is_no_video(tmp_path: Path) -> None:
    run("-f", "lavfi", "-i", "sine=duration=2", str(tmp_path / "a.wav"))
    with pytest.raises(ClipFailure) as caught:
        list(resized_frames(Clip("a", tmp_path / "a.wav"), ResNet152Settings(), 224))
    assert caught.value.reason is Reason.NO_VIDEO


def test_unit_length_and_maximum() -> None:
    rows = np.random.default_rng(0).uniform(0, 3, (4, 2048)).astype(np.float32)
    rows[2] = 0
    unit = unit_length(rows)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), [1, 1, 0, 1], rtol=1e-6)
    assert not unit[2].any()
    np.testing.assert_allclose(unit[0] * np.linalg.norm(rows[0]), rows[0], rtol=1e-6)
    tiny = unit_length(np.full((1, 4), 1e-14, np.float32))
    np.testing.assert_allclose(tiny, 0.01, rtol=1e-6)  # as torch's normalize: divided by 1e-12, not by the norm
    pooled = pool_maximum(unit.astype(np.float16))
    assert pooled.dtype == np.float32 and np.array_equal(pooled, unit.astype(np.float16).max(axis=0))


@pytest.mark.parametrize("stride", [1, 3, 4, 7])
@pytest.mark.parametrize("n", [0, 1, 4, 9])
def test_windows_of_any_length(n: int, stride: int) -> None:
    frames = list(np.arange(n, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3))
    cropped: list[int] = []

    def crop(frame: RgbFrame) -> RgbFrame:
        cropped.append(int(frame[0, 0, 0]))
        return frame + np.uint8(1)

    def to_tensor(held: list[RgbFrame]) -> torch.Tensor:
        return torch.tensor([int(frame[0, 0, 0]) for frame in held])

    windows = list(cut_windows(iter(frames), length=4, stride=stride, crop=crop, to_tensor=to_tensor))
    spans = [(start, min(start + 4, n)) for start in range(0, n, stride)]
    assert [(start, end, tensor.tolist()) for start, end, tensor in windows] == [
        (start, end, list(range(start + 1, end + 1))) for start, end in spans
    ]
    assert cropped == sorted({index for span in spans for index in range(*span)})
