"""Extractors that share a decode: on every odd file each gives what it gives alone, bit for bit."""

from pathlib import Path

import numpy as np
import odd_media
import torch

from avpipe.errors import ClipFailure
from avpipe.features.engine import Lane, extract_together, prepare_network
from avpipe.features.registry import names

SMALL = {"selavi": {"window_frames": 4}, "c3d": {"batch_size": 3}}


def test_together_they_give_what_each_gives_alone(tmp_path: Path) -> None:
    clips = odd_media.build_all(tmp_path)
    extractors = [odd_media.stand_in(name, **SMALL.get(name, {})) for name in names()]
    network = prepare_network(torch.nn.Identity(), "cpu")
    lanes = [Lane(extractor, network) for extractor in extractors]

    def run(numbers: list[int], workers: int) -> dict:
        wanted = [(clip, range(len(numbers))) for clip in clips]
        chosen = [lanes[number] for number in numbers]
        found = list(extract_together(chosen, wanted, decode_workers=workers))
        assert len(found) == len(clips) * len(numbers)
        return {(clip.clip_id, numbers[lane]): outcome for clip, lane, outcome in found}

    alone = {key: outcome for number in range(len(lanes)) for key, outcome in run([number], 2).items()}
    together = run(list(range(len(lanes))), 2)
    for key, expected in alone.items():
        outcome = together[key]
        if isinstance(expected, ClipFailure):
            assert isinstance(outcome, ClipFailure), key
            assert (outcome.reason, outcome.detail) == (expected.reason, expected.detail), key
            continue
        assert not isinstance(outcome, ClipFailure), (key, outcome)
        for stream, features in expected.items():
            assert np.array_equal(outcome[stream].values, features.values), key
            assert np.array_equal(outcome[stream].times, features.times), key


def test_a_clip_that_only_some_want(tmp_path: Path) -> None:
    cases = [case for case in odd_media.CASES if case.name in ("stretch.mp4", "alpha.mov")]
    clips = odd_media.build_all(tmp_path, cases)
    network = prepare_network(torch.nn.Identity(), "cpu")
    lanes = [Lane(odd_media.stand_in(name), network) for name in ("c3d", "resnext101", "vggish")]
    wanted = [(clips[0], [0, 1, 2]), (clips[1], [1])]
    found = sorted((clip.clip_id, lane) for clip, lane, _ in extract_together(lanes, wanted))
    assert found == sorted([(clips[0].clip_id, lane) for lane in (0, 1, 2)] + [(clips[1].clip_id, 1)])
