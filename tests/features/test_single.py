"""Features of one file leave the caller's process as it was and say what is wrong with a device."""

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.errors import AvpipeError, ClipFailure
from avpipe.features import build_network, extract


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    wavfile.write(path, 16_000, np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16))
    return path


@pytest.fixture(scope="module")
def values(sound):
    """What VGGish gives for it, called while torch's generator is somewhere else than in any test."""
    torch.manual_seed(6)
    return extract(sound, "vggish", "random:3").values


@pytest.mark.slow
def test_the_callers_random_numbers_are_not_disturbed(sound, values):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = extract(sound, "vggish", "random:3")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first.values, values)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_said(sound, device):
    with pytest.raises(AvpipeError, match=f"Cannot use the device '{device}'"):
        extract(sound, "vggish", "random:3", device=device)


@pytest.mark.slow
def test_the_callers_default_type_changes_nothing(sound, values):
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(extract(sound, "vggish", "random:3").values, values)
        assert next(build_network("vggish").parameters()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_calls_in_threads_disturb_nobody(sound, tmp_path):
    """Neither each other, nor other code's modules and random numbers."""
    video = tmp_path / "clip.avi"
    render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
    names = ["vggish", "resnet152", "spectrogram", "vggish", "resnext101", "spectrogram"]
    settings = {"resnext101": {"stride_frames": 64}}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        extract_one = functools.partial(lambda name: extract(video, name, "random:3", settings=settings.get(name)))
        alone = {name: extract_one(name).values for name in dict.fromkeys(names)}
        torch.manual_seed(5)
        before = torch.get_rng_state()
        innocent = torch.nn.Linear(4, 4)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(extract_one, name) for name in names]
            while not all(future.done() for future in running):
                innocent(torch.ones(2, 4))
                time.sleep(0.001)  # or this thread would hold up the others
        for future, name in zip(running, names, strict=True):
            assert np.array_equal(future.result().values, alone[name])
    finally:
        torch.set_num_threads(threads)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    torch.nn.Linear(4, 4)  # the one draw of this thread
    assert torch.equal(torch.get_rng_state(), state) and not torch.equal(before, state)


@pytest.mark.slow
def test_a_network_that_is_built_is_the_same_every_time():
    one, other = build_network("c3d"), build_network("c3d")
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.isfinite(each).all() for each in one.parameters())


def test_wrong_words_are_told(sound):
    with pytest.raises(AvpipeError, match="expected corrected or published"):
        extract(sound, "spectrogram", fidelity="exact")
    with pytest.raises(AvpipeError, match=r"hop: Extra inputs.*It has storage, quantise"):
        extract(sound, "spectrogram", settings={"hop": 3})
    with pytest.raises(AvpipeError, match="vggish needs weights"):
        extract(sound, "vggish")
    with pytest.raises(AvpipeError, match="takes no PCA"):
        extract(sound, "spectrogram", pca="pca.npz")
    with pytest.raises(ClipFailure, match=r"too_short.*noise\.wav.*0 samples"):
        extract(sound, "spectrogram", start=100)
