from __future__ import annotations

import dataclasses

import ffmpeg
import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.ffmpeg import run_ffmpeg
from avpipe.media.probe import find_failure, has_too_few, probe_media, read_media_info

TEN_SECONDS = "testsrc2=size=64x48:rate=25:duration=10"
TONE = "sine=duration=10:sample_rate=16000"


def cut_off(path, target, share):
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def reason_of(path):
    with pytest.raises(ClipFailure) as caught:
        probe_media(path)
    assert str(path) in caught.value.detail
    return caught.value.reason


def test_real_file_with_sound(real):
    info = probe_media(real("vfr_19.62fps_aac.mp4"))
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 320, 240)
    assert info.video.packets == info.video.announced_frames == 355
    assert info.video.rate_hz == pytest.approx(19.62)
    assert (info.audio.codec, info.audio.rate_hz, info.audio.channels) == ("aac", 44100, 1)
    assert info.audio.duration_seconds == pytest.approx(800768 / 44100)
    assert info.duration_seconds == pytest.approx(18.158, abs=1e-3)


def test_real_file_without_sound(real):
    info = probe_media(real("no_audio_28fps.mp4"))
    assert info.audio is None
    assert (info.video.rate_hz, info.video.packets, info.video.pixel_format) == (28.0, 280, "yuv420p")


def test_an_avi_whose_header_promises_more_frames_than_it_holds_is_whole(make):
    # The encoder holds two frames back: 81 announced, 79 there.
    path = make("xvid.avi", video="testsrc2=size=64x48:rate=25:duration=3.24", vcodec="libxvid", bf=2)
    info = probe_media(path)
    assert info.video.packets < info.video.announced_frames == 81


def test_slack_is_small():
    assert not has_too_few(82, 80)
    assert has_too_few(82, 77)


@pytest.mark.parametrize("name", ["cut.avi", "cut.mp4", "cut.mkv"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated(make, tmp_path, name, share):
    whole = make(name, video=TEN_SECONDS, audio=TONE, **({"movflags": "+faststart"} if name.endswith("mp4") else {}))
    assert probe_media(whole).duration_seconds == pytest.approx(10, abs=0.1)
    assert reason_of(cut_off(whole, tmp_path / name, share)) is Reason.DECODE_ERROR


def test_truncated_between_two_packets(make):
    # Nothing is damaged; only the numbers of the header tell. FFmpeg itself adapts an AVI's duration silently.
    info = probe_media(make("cut.avi", video=TEN_SECONDS, audio=TONE))
    assert info.video.announced_seconds == pytest.approx(10, abs=0.1)
    short = dataclasses.replace(info.video, packets=200, duration_seconds=8.0)
    reason, detail = find_failure(dataclasses.replace(info, video=short))
    assert reason is Reason.DECODE_ERROR
    assert f"{info.video.announced_frames} frames" in detail
    assert "200 frames" in detail


def test_an_edit_list_is_no_truncation(make):
    info = probe_media(make("cut.mp4", video=TEN_SECONDS, audio=TONE, movflags="+faststart"))
    shown = dataclasses.replace(info.video, packets=100, duration_seconds=4.0, announced_seconds=4.0)
    assert find_failure(dataclasses.replace(info, video=shown)) is None


def test_missing_empty_and_garbage(tmp_path):
    assert reason_of(tmp_path / "none.mp4") is Reason.MISSING
    assert reason_of(tmp_path) is Reason.MISSING
    (tmp_path / "empty.mp4").touch()
    assert reason_of(tmp_path / "empty.mp4") is Reason.DECODE_ERROR
    (tmp_path / "garbage.mp4").write_bytes(bytes(range(256)) * 40)
    assert reason_of(tmp_path / "garbage.mp4") is Reason.DECODE_ERROR


def test_only_sound(make):
    path = make("sound.m4a", audio=TONE)
    assert reason_of(path) is Reason.NO_VIDEO
    assert read_media_info(path).audio.rate_hz == 16000


def test_cover_art_is_no_video(make, tmp_path):
    cover = make("cover.png", video="testsrc2=size=64x48:duration=0.04", **{"frames:v": 1})
    song = tmp_path / "song.m4a"
    streams = ffmpeg.input(str(make("sound.m4a", audio=TONE))), ffmpeg.input(str(cover))
    output = ffmpeg.output(*streams, str(song), c="copy", **{"disposition:v": "attached_pic"})
    run_ffmpeg(output, song, timeout_seconds=60)
    assert reason_of(song) is Reason.NO_VIDEO
    assert reason_of(cover) is Reason.NO_VIDEO


def test_the_film_is_found_beside_its_cover(make, tmp_path):
    cover = make("cover.png", video="testsrc2=size=64x48:duration=0.04", **{"frames:v": 1})
    film = make("film.mp4", video="testsrc2=size=80x60:rate=25:duration=1")
    both = tmp_path / "both.mp4"
    streams = ffmpeg.input(str(cover)), ffmpeg.input(str(film))
    output = ffmpeg.output(*streams, str(both), c="copy", **{"disposition:v:0": "attached_pic"})
    run_ffmpeg(output, both, timeout_seconds=60)
    assert probe_media(both).video.width == 80


def test_one_frame_is_a_video(make):
    info = probe_media(make("one.mp4", video=TEN_SECONDS, **{"frames:v": 1}))
    assert info.video.packets == 1


def test_rotation(make, tmp_path):
    film = make("film.mp4", video="testsrc2=size=80x60:rate=25:duration=1")
    turned = tmp_path / "turned.mp4"
    source = ffmpeg.input(str(film), display_rotation=90)  # counter-clockwise
    run_ffmpeg(ffmpeg.output(source, str(turned), c="copy"), turned, timeout_seconds=60)
    info = probe_media(turned)
    assert (info.video.rotation_degrees, info.video.width, info.video.height) == (270, 80, 60)
    assert probe_media(film).video.rotation_degrees == 0


@pytest.mark.parametrize(
    "name", ["a b.mp4", "quote'\"s.mp4", "line\nbreak.mp4", "naïve_日本語.mp4", "12:30.mp4", "-i.mp4", "%03d.mp4"]
)
def test_any_file_name(make, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(make("film.mp4", video="testsrc2=size=80x60:rate=25:duration=1").read_bytes())
    assert probe_media(path).video.packets == 25


def test_late_video_and_sound(make_vfr):
    info = probe_media(make_vfr("late.mp4", range(108000, 198000, 3600), 90000, tone_from_seconds=0.0))
    assert info.video.start_seconds == pytest.approx(1.2, abs=0.07)  # AAC's encoder delay moves the sound
    assert info.audio.start_seconds == 0.0
