"""One decode for several readers: what each gets, and what happens when one is slow, leaves or the file is damaged."""

import threading
import time

import pytest

from avpipe.errors import ClipFailure, Reason
from avpipe.media.cut import make_cut
from avpipe.media.decode import decode_video, shown_frames
from avpipe.media.sharing import FRAMES_AHEAD, SharedDecode

TWO_SECONDS = "testsrc2=size=64x48:rate=25:duration=2"


def too_slow():
    return ClipFailure(Reason.TIMEOUT, "too slow")


def read_all(shared, works, limit_seconds=60.0):
    """Run each work on a reader of its own; give their results, or the errors that they met."""
    results = [None] * len(works)

    def attempt(number, reader, work):
        try:
            results[number] = work(reader)
        except BaseException as error:
            results[number] = error
        finally:
            reader.close()

    threads = [
        threading.Thread(target=attempt, args=(number, reader, work))
        for number, (reader, work) in enumerate(zip(shared.readers, works, strict=True))
    ]
    for thread in threads:
        thread.start()
    shared.run(limit_seconds, too_slow)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


@pytest.mark.parametrize("stretch", [(None, None), (0.5, 1.3)])
def test_readers_get_the_frames_that_they_would_decode_themselves(make, stretch):
    path = make("plain.mp4", video=TWO_SECONDS)
    start, end = stretch
    rates = (1, 24, None)

    def frames(rate_hz, reader=None):
        decoded = decode_video(path, rate_hz=rate_hz, start_seconds=start, end_seconds=end, frames=reader)
        return [frame.tobytes() for frame in decoded]

    shared = SharedDecode(lambda: shown_frames(path, make_cut(start, end)), len(rates))
    works = [lambda reader, rate=rate: frames(rate, reader) for rate in rates]
    assert read_all(shared, works) == [frames(rate) for rate in rates]


def test_a_slow_reader_holds_the_others_back_so_that_few_frames_wait(make):
    path = make("plain.mp4", video=TWO_SECONDS)
    lead = []
    positions = [0, 0]

    def slow(reader):
        for _ in reader:
            positions[0] += 1
            time.sleep(0.005)
        return positions[0]

    def fast(reader):
        for _ in reader:
            positions[1] += 1
            lead.append(positions[1] - positions[0])
        return positions[1]

    shared = SharedDecode(lambda: shown_frames(path, make_cut(None, None)), 2)
    assert read_all(shared, [slow, fast]) == [50, 50]
    assert max(lead) <= FRAMES_AHEAD + 2  # in the queue, in the hand of each reader
    assert shared.readers[1].waited_seconds > shared.readers[0].waited_seconds


def test_readers_may_leave(make):
    path = make("plain.mp4", video=TWO_SECONDS)
    decoded = []

    def frames():
        for frame in shown_frames(path, make_cut(None, None)):
            decoded.append(frame)
            yield frame

    shared = SharedDecode(frames, 2)
    first = lambda reader: next(reader).time  # noqa: E731
    whole = lambda reader: sum(1 for _ in reader)  # noqa: E731
    assert read_all(shared, [first, whole]) == [0, 50]
    decoded.clear()
    assert read_all(SharedDecode(frames, 2), [first, first]) == [0, 0]
    assert len(decoded) < 50  # with nobody left, nothing more is decoded


def test_every_reader_meets_the_failure(make, tmp_path):
    whole = make("cut.mkv", video=TWO_SECONDS)
    damaged = tmp_path / "half.mkv"
    damaged.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    shared = SharedDecode(lambda: shown_frames(damaged, make_cut(None, None)), 2)
    outcomes = read_all(shared, [list, list])
    assert [each.reason for each in outcomes] == [Reason.DECODE_ERROR] * 2
    with pytest.raises(ClipFailure):  # asked again, it fails again
        next(shared.readers[0])


def test_decoding_that_takes_too_long_fails_for_all(make):
    path = make("plain.mp4", video=TWO_SECONDS)

    def slowly():
        for frame in shown_frames(path, make_cut(None, None)):
            time.sleep(0.02)
            yield frame

    outcomes = read_all(SharedDecode(slowly, 2), [list, list], limit_seconds=0.1)
    assert all(isinstance(each, ClipFailure) and each.reason is Reason.TIMEOUT for each in outcomes)
