"""Each odd file gives features, or one reason from the closed list; memory does not grow with a file's length."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import odd_media
import pytest
from odd_media import CASES, H264, NAMES, RICH, Case, build_all, build_long, film, outcomes, share, stand_in, word

from avpipe.errors import ClipFailure, Reason
from avpipe.features import names
from avpipe.features.streaming import Outcome
from avpipe.features.types import Features
from avpipe.media.clip import Clip
from avpipe.media.probe import read_media_info
from avpipe.registry import EXTRACTORS

Expected = dict[str, int | str]
PICTURES = [name for name in names() if "video" in EXTRACTORS[name].streams]
SOUNDS = [name for name in names() if "audio" in EXTRACTORS[name].streams]


def pictures(outcome: str) -> Expected:
    return dict.fromkeys(PICTURES, outcome)


def sounds(outcome: str) -> Expected:
    return dict.fromkeys(SOUNDS, outcome)


def everything(outcome: str) -> Expected:
    return dict.fromkeys(names(), outcome)


# 2 s of both. C3D and ResNeXt-101 fill their last window up with black; VGGish leaves out what is short of an example.
ORDINARY: Expected = {"resnet152": 2, "resnext101": 3, "c3d": 4, "vggish": 2, "selavi": 2, "spectrogram": 201}
ONE_SECOND: Expected = {"resnet152": 1, "resnext101": 2, "c3d": 2, "vggish": 1, "selavi": 1, "spectrogram": 101}
# The frame is on the screen for 0.04 s: less than half of ResNet-152's second, one of the others' frames.
ONE_FRAME: Expected = {"resnet152": "too_short", "resnext101": 1, "c3d": 1, "selavi": "too_short"}
NO_PICTURE = ORDINARY | pictures("no_video")

# What is not here is as ORDINARY.
EXPECTED: dict[str, Expected] = {
    "no_sound.mp4": ORDINARY | sounds("no_audio"),
    "no_picture.wav": NO_PICTURE,
    "no_picture.m4a": NO_PICTURE,
    "cover.m4a": NO_PICTURE,
    "photo.jpg": sounds("no_audio") | pictures("no_video"),
    "animation.gif": ORDINARY | sounds("no_audio"),
    "short_sound.mkv": ORDINARY | sounds("too_short") | {"spectrogram": 51},
    "blip.mkv": ORDINARY | sounds("too_short"),
    # NTSC's 60 frames last 2.002 s, which takes SeLaVi a third window; the others drop 2 ms.
    "ntsc.mp4": ORDINARY | {"selavi": 3},
    "one_frame.mp4": sounds("no_audio") | ONE_FRAME,
    "one_frame_sound.mp4": ORDINARY | ONE_FRAME,
    # Beyond what a graphics card should have to hold, once the shorter side has 224 pixels.
    "ribbon.mkv": ORDINARY | {"resnet152": "decode_error"},
    "tower.mkv": ORDINARY | {"resnet152": "decode_error"},
    # MPEG sound comes in frames of 1,152 samples and a delay, B-frames in AVI make the picture begin 0.08 s late, and
    # what a broadcast begins with, sound, begins 0.03 s before the picture.
    "interlaced.mpg": ORDINARY | {"selavi": 3, "spectrogram": 202},
    "xvid.avi": ORDINARY | {"resnext101": 4, "selavi": 3, "spectrogram": 209},
    "broadcast.ts": ORDINARY | {"resnext101": 4, "selavi": 3, "spectrogram": 202},
    # 1.3 s of pictures and 1.22 s of sound.
    "edit_list.mp4": {"resnet152": 1, "resnext101": 2, "c3d": 2, "vggish": 1, "selavi": 2, "spectrogram": 123},
    "truncated_head.mp4": everything("decode_error"),
    "truncated_tail.mp4": everything("decode_error"),
    # The header of a Matroska tells the length of the file, that of an AVI the samples of its sound.
    "truncated.mkv": everything("decode_error"),
    "truncated.avi": everything("decode_error"),
    "truncated.wav": sounds("decode_error") | pictures("no_video"),
    "damaged.mp4": everything("decode_error"),
    # FFmpeg skips the damaged cluster, half a second: the time stamps jump where something else stands in the file.
    "damaged.mkv": everything("decode_error"),
    # Two packets of sound, 0.14 s, are lost where the packets around them are not whole.
    "damaged.ts": everything("decode_error"),
    "joined.flv": everything("decode_error"),
    "joined.mp4": everything("decode_error"),
    "joined.mpg": ORDINARY | {"resnext101": 4, "selavi": 3, "spectrogram": 202},
    "joined.ts": ORDINARY | {"resnext101": 4, "selavi": 3, "spectrogram": 202},
    "joined.webm": ORDINARY | {"selavi": 3},
    # The packets of the pictures that do not decode begin 0.1 s before the sound does.
    "no_key_frame.mkv": ORDINARY | pictures("decode_error") | {"spectrogram": 212},
    "no_reference.mp4": ORDINARY | pictures("decode_error"),
    "text_behind.mp3": NO_PICTURE,
    "text_called.mp4": everything("decode_error"),
    "playlist_called.mp4": everything("decode_error"),
    "empty.mp4": everything("decode_error"),
    "noise.mp4": everything("decode_error"),
    "folder.mp4": everything("missing"),
    "missing.mp4": everything("missing"),
    "segment.mp4": ONE_SECOND,
    "segment_beyond.mp4": ONE_SECOND,
    "segment_after.mp4": everything("too_short"),
    "segment_1ms.mp4": everything("too_short"),  # the file has pictures, but none is due within it
}


@pytest.fixture(scope="module")
def measured(built_once: Callable[..., Path]) -> Callable[[str], dict[str, Outcome]]:
    """All files through an extractor, in one run; once for all workers."""

    def measure(name: str) -> dict[str, Outcome]:
        folder = built_once("odd media", build_all)
        clips = [case.clip(folder) for case in CASES]
        found = built_once(
            f"odd media, {name}", lambda to: (to / "outcomes").write_bytes(pickle.dumps(outcomes(name, clips)))
        )
        return pickle.loads((found / "outcomes").read_bytes())

    return functools.cache(measure)


def test_the_table_is_about_these_files() -> None:
    assert set(EXPECTED) <= {case.name for case in CASES}
    assert len({case.name for case in CASES}) == len(CASES)
    reasons = {reason.value for reason in Reason}
    assert {word for row in EXPECTED.values() for word in row.values() if isinstance(word, str)} <= reasons


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_file_gives_features_or_one_reason(name: str, measured: Callable[[str], dict[str, Outcome]]) -> None:
    found = measured(name)
    assert set(found) == {case.name for case in CASES}
    wrong = {}
    for case in CASES:
        expected, got = EXPECTED.get(case.name, ORDINARY)[name], word(found[case.name])
        if got != expected:
            wrong[case.name] = (expected, found[case.name])
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_features_are_whole(name: str, measured: Callable[[str], dict[str, Outcome]]) -> None:
    for case in CASES:
        outcome = measured(name)[case.name]
        if isinstance(outcome, ClipFailure):
            assert outcome.detail and "\n" not in outcome.detail, case.name
            continue
        assert set(outcome) == set(EXTRACTORS[name].streams)
        first = next(iter(outcome.values()))
        for stream, features in outcome.items():
            dimension = EXTRACTORS[name].streams[stream]
            assert features.values.shape == (len(features.times), dimension), case.name
            assert features.pooled.shape == (dimension,)
            assert np.isfinite(features.values).all() and np.isfinite(features.pooled).all()
            assert np.array_equal(features.times, first.times), "both streams have the same windows"
        check_times(name, case, first)


def check_times(name: str, case: Case, features: Features) -> None:
    end = features.times[-1, 1]
    expected = expected_times(name, len(features.times), end)
    np.testing.assert_allclose(features.times, expected, rtol=0, atol=1e-9, err_msg=case.name)
    if case.name.startswith(("truncated", "damaged")) or name in ("resnet152", "vggish"):
        return  # something is missing; or windows do not reach to the clip's end
    seconds = case.sound_seconds if name == "spectrogram" else case.picture_seconds
    # A packet of compressed sound is up to 0.072 s long, two frames of B-frame delay are 0.08 s.
    assert seconds == pytest.approx(end, abs=0.09), case.name


def expected_times(name: str, rows: int, end: float) -> npt.NDArray[np.float64]:
    """Start and end of each row, of a clip whose last row ends there."""
    i = np.arange(rows)
    if name == "spectrogram":
        return np.clip(np.stack([0.01 * i - 0.0125, 0.01 * i + 0.0125], axis=1), 0, end)
    if name == "selavi":
        starts = np.linspace(0, end - 1, rows)
        return np.stack([starts, starts + 1], axis=1)
    step, length = {"resnet152": (1, 1), "resnext101": (16 / 24,) * 2, "c3d": (16 / 25,) * 2, "vggish": (0.96, 0.975)}[
        name
    ]
    return np.stack([step * i, np.minimum(step * i + length, end)], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_file_s_name_changes_nothing(name: str, measured: Callable[[str], dict[str, Outcome]]) -> None:
    found = measured(name)
    for stream, ordinary in found["ordinary.mp4"].items():
        for other in NAMES:
            assert np.array_equal(found[other][stream].values, ordinary.values), other


def shortened(folder: Path, seconds: float, options: str, change: Callable[[bytes], bytes], name: str) -> Clip:
    whole, path = folder / f"whole_{name}", folder / name
    film(f"testsrc2=size=64x48:rate=25:duration={seconds}", f"sine=sample_rate=16000:duration={seconds}", options)(
        whole
    )
    path.write_bytes(change(whole.read_bytes()))
    return Clip(name, path)


@pytest.mark.parametrize("windows", ["full", "avca"])
def test_selavi_of_a_file_that_was_cut_off_before_its_first_picture(tmp_path: Path, windows: str) -> None:
    clip = shortened(tmp_path, 4, H264, share(0.15), "cut.mkv")
    with pytest.raises(ClipFailure, match=r"decode_error.*truncated"):
        list(stand_in("selavi", windows=windows).windows(clip))


@pytest.mark.parametrize("windows", ["full", "avca"])
def test_selavi_of_less_than_a_window_of_a_truncated_file(tmp_path: Path, windows: str) -> None:
    clip = shortened(tmp_path, 4, H264, share(0.3), "cut.mkv")
    assert 0.2 < read_media_info(clip.path).duration_seconds < 1
    extractor = stand_in("selavi", windows=windows)
    for start, end, reason in [(None, None, "decode_error"), (0.0, 3.0, "decode_error"), (3.0, 4.0, "decode_error"),
                               (0.0, 0.2, "too_short")]:  # fmt: skip
        with pytest.raises(ClipFailure) as caught:
            list(extractor.windows(Clip("cut", clip.path, start, end)))
        assert caught.value.reason.value == reason, (start, end)


@pytest.mark.parametrize("name", ["damaged.avi", "damaged.mp4"])
def test_selavi_does_not_believe_in_a_million_frames(tmp_path: Path, name: str) -> None:
    def announce(data: bytes) -> bytes:
        content = bytearray(data)
        if name.endswith("avi"):
            at = content.index(b"vids") + 32
            content[at : at + 4] = (10**6).to_bytes(4, "little")
        else:
            at = content.index(b"stts") + 12  # the picture's come first
            content[at : at + 4] = (10**6).to_bytes(4, "big")
        return bytes(content)

    options = "-c:v mpeg4 -c:a pcm_s16le" if name.endswith("avi") else H264
    clip = shortened(tmp_path, 4, options, announce, name)
    whole = list(stand_in("selavi", windows="avca").windows(Clip("whole", tmp_path / f"whole_{name}")))
    assert len(whole) == 6
    given = []
    with pytest.raises(ClipFailure, match=r"announces 1000000 frames, the file holds 100 frames"):
        given.extend(stand_in("selavi", windows="avca").windows(clip))
    assert not given


@pytest.fixture(scope="module")
def long_files(built_once: Callable[..., Path]) -> list[Path]:
    """Two minutes and a quarter of an hour, with pictures and sound of four times as many bytes a second as needed."""
    seconds = {"minutes.mkv": 120, "quarter.mkv": 900}
    folder = built_once(
        "long media", lambda to: [build_long(to / name, length, *RICH) for name, length in seconds.items()]
    )
    return [folder / name for name in seconds]


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_memory_does_not_grow_with_the_length(name: str, long_files: list[Path]) -> None:
    command = [sys.executable, odd_media.__file__, "--extractors", name, "--memory", *map(str, long_files)]
    # glibc may put a small array that is kept where a large one was freed, and then needs new room for the next large
    # one: chance, of 10 to 500 MB an hour. With this it returns large arrays at once, and what is left is what is held.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert answer.returncode == 0, answer.stderr
    minutes, quarter = map(float, answer.stdout.split())
    # Up to 8 windows wait in the queue, 2 in the batch, and some are being made, each of up to 2.4 MB: by chance two
    # minutes may not need all of it. A quarter of an hour has 115 MB of sound as 16 bits and 29 MB as one channel,
    # 75 MB of pictures, 22 MB of VGGish's examples, far more of the others' windows.
    assert quarter - minutes < 20


@pytest.mark.slow
def test_the_table_in_the_documentation_is_what_was_measured(measured: Callable[[str], dict[str, Outcome]]) -> None:
    """Renew it with: python tests/features/odd_media.py --table."""
    page = Path(__file__).parents[2] / "docs" / "odd_media.md"
    table = odd_media.markdown_table({name: measured(name) for name in names()})
    assert table in page.read_text(encoding="utf-8")
