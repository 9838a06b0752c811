"""What an extraction tells of clips that are used though not all of them is there."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from odd_media import film, outcomes, stand_in

from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.store import StoredClip, read_clips, write_store
from avpipe.media.clip import Clip
from avpipe.media.decode import decode_video, read_audio
from avpipe.media.decoded import Decoded, DecodedShares, now_watched, watching

PICTURE, TONE = "testsrc2=size=64x48:rate=25:duration=2", "sine=sample_rate=16000:duration=2"


def told(name: str, clip: Clip, seconds: float) -> DecodedShares:
    found: dict[str, Decoded] = {}
    extractor = stand_in(name)
    network = prepare_network(extractor.build_network(), "cpu")
    list(extract_clips(extractor, network, [clip], tell=lambda clip, decoded: found.update({clip.clip_id: decoded})))
    return found[clip.clip_id].shares(seconds)


@pytest.mark.parametrize(
    ("sound", "seconds", "share"),
    [(TONE, 2, 1.0), ("sine=sample_rate=16000:duration=1.5", 2, 0.75), ("sine=sample_rate=16000:duration=1.2", 2, 0.6)],
)
def test_sound_that_covers_a_part(tmp_path: Path, sound: str, seconds: float, share: float) -> None:
    path = tmp_path / "a.mkv"
    film(PICTURE, sound, "-c:v mpeg4 -c:a pcm_s16le")(path)
    shares = told("vggish", Clip("a", path), seconds)
    assert shares.sound_share == pytest.approx(share, abs=0.01)
    assert shares.pictures_share is None and shares.silent_sound is False
    assert shares.detail == ("" if share == 1 else f"{100 * share:.1f} % of the clip has sound")


@pytest.mark.parametrize("name", ["vggish", "spectrogram"])
def test_silent_sound(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.mkv"
    film(PICTURE, "anullsrc=sample_rate=16000:duration=2", "-c:v mpeg4 -c:a pcm_s16le")(path)
    shares = told(name, Clip("a", path), 2.0)
    assert shares.silent_sound is True
    assert shares.detail == "the sound is digital silence"


def test_gaps_count_and_a_segment_is_told_for_itself(tmp_path: Path) -> None:
    source, path = tmp_path / "whole.mkv", tmp_path / "a.mkv"
    film(PICTURE, TONE, "-c:v mpeg4 -c:a pcm_s16le")(source)
    with av.open(str(source)) as given, av.open(str(path), "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.size and not (packet.stream.type == "audio" and 0.2 < packet.pts * packet.time_base < 0.7):
                packet.stream = streams[packet.stream.index]
                written.mux(packet)
    with watching() as decoded:
        read_audio(path)
    assert decoded.shares(2.0).sound_share == pytest.approx(0.75, abs=0.05)
    with watching() as decoded:
        read_audio(path, start_seconds=1.0, end_seconds=2.0)
    assert decoded.shares(1.0).sound_share == 1
    assert now_watched() is None


def test_pictures_that_did_not_decode(tmp_path: Path) -> None:
    source, path = tmp_path / "whole.mkv", tmp_path / "a.mkv"
    film("testsrc2=size=64x48:rate=25:duration=6", TONE, "-c:v libx264 -preset ultrafast -g 3")(source)
    with av.open(str(source)) as given, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(given.streams.video[0])
        for packet in [packet for packet in given.demux(video=0) if packet.size][1:]:  # the first key frame is lost
            packet.stream = stream
            written.mux(packet)
    with watching() as decoded:
        frames = sum(1 for _ in decode_video(path, rate_hz=None))
    assert (decoded.pictures, decoded.pictures_due) == (frames, 149) and frames < 149
    assert "% of the pictures decoded" in decoded.shares(None).detail


def test_shares_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    film(PICTURE, TONE, "-c:v mpeg4 -c:a pcm_s16le")(path)
    streams = outcomes("vggish", [Clip("a", path)])["a"]
    shares = [DecodedShares(0.5, None, True), DecodedShares(), DecodedShares(1.0, 0.25, False)]
    clips = [StoredClip(str(i), "key", streams, each) for i, each in enumerate(shares)]
    write_store(tmp_path / "s.h5", clips, streams={"audio": 128}, provenance={}, written_by={})
    assert [clip.decoded for clip in read_clips(tmp_path / "s.h5")] == shares
