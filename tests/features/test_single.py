"""Features of one file leave the caller's process as it was and say what is wrong with a device."""

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from avpipe.errors import AvpipeError
from avpipe.features import extract


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    wavfile.write(path, 16_000, np.random.default_rng(0).integers(-9000, 9000, 16_000).astype(np.int16))
    return path


def test_the_callers_random_numbers_are_not_disturbed(sound):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = extract(sound, "vggish", "random:3")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert np.array_equal(extract(sound, "vggish", "random:3").values, first.values)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_said(sound, device):
    with pytest.raises(AvpipeError, match=f"Cannot use the device '{device}'"):
        extract(sound, "vggish", "random:3", device=device)
