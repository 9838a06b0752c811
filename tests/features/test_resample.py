"""The resampler against resampy's numbers, and as a stream against the whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from parity import FOLDER, needs_parity

from avpipe.features.resample import FILTERS, FilterName, Resampler, resample

BOTH: list[FilterName] = ["resampy-0.2.2", "resampy-0.4"]


def closed_form(x: npt.NDArray[np.float64], source: int, target: int, name: FilterName) -> npt.NDArray[np.float64]:
    """docs/networks.md, Sound of VGGish, written down sample by sample, apart from the code under test."""
    n_crossings, per_crossing = FILTERS[name].zero_crossings, FILTERS[name].table_per_crossing
    beta, roll_off = FILTERS[name].beta, FILTERS[name].roll_off
    ratio = float(target) / source
    u = np.arange(n_crossings * per_crossing + 1) / per_crossing
    kaiser = np.i0(beta * np.sqrt(1 - (u / n_crossings) ** 2)) / np.i0(beta)
    window = roll_off * np.sinc(roll_off * u) * kaiser * min(1.0, ratio)
    delta = np.append(np.diff(window), 0.0)
    scale = min(1.0, ratio)
    step = int(per_crossing * scale)
    output, time = np.zeros(int(len(x) * ratio)), 0.0
    for j in range(len(output)):
        if name == "resampy-0.4":
            time = j * (1 / ratio)
        centre = int(time)
        left = scale * (time - centre)
        for fraction, samples in ((left, x[centre::-1]), (scale - left, x[centre + 1 :])):
            offset = int(fraction * per_crossing)
            eta = fraction * per_crossing - offset
            k = offset + step * np.arange(min(len(samples), (window.size - offset) // step))
            output[j] += ((window[k] + eta * delta[k]) * samples[: k.size]).sum()
        time += 1 / ratio
    return output


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("source", [11_025, 22_050, 44_100, 48_000])
def test_equals_the_closed_form(source: int, name: FilterName) -> None:
    x = np.random.default_rng(source).uniform(-1, 1, 3000)
    # Float64 sums of some 400 products in two orders; measured 4e-15.
    np.testing.assert_allclose(
        resample(x, source, 16_000, name), closed_form(x, source, 16_000, name), rtol=0, atol=1e-13
    )


@needs_parity
@pytest.mark.parametrize("case", ["stereo44k", "mono48k", "mono22k"])
def test_equals_resampy_0_4_3(case: str) -> None:
    reference = np.load(FOLDER / "vggish.npz", allow_pickle=False)
    wave = reference[f"{case}_wave"] / 32768.0
    ours = resample(wave.mean(axis=1) if wave.ndim == 2 else wave, int(reference[f"{case}_sr"]), 16_000, "resampy-0.4")
    # The same order of sums; the filter's table differs by 4e-16. Measured 2e-16.
    np.testing.assert_allclose(ours, reference[f"{case}_resampled16k"], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("source", [8_000, 16_000, 22_050, 44_056, 48_000, 96_000])
def test_blocks_do_not_matter(source: int, name: FilterName) -> None:
    rng = np.random.default_rng(source)
    x = rng.uniform(-1, 1, 20_011)
    whole = resample(x, source, 16_000, name)
    for largest in (3, 700, 15_000):
        resampler, pieces, at = Resampler(source, 16_000, name), [], 0
        while at < x.size:
            size = int(rng.integers(0, largest + 1))
            pieces.append(resampler.push(x[at : at + size]))
            at += size
        pieces.append(resampler.flush())
        assert np.array_equal(np.concatenate(pieces), whole)


def test_memory_does_not_grow() -> None:
    resampler = Resampler(48_000, 16_000)
    held = []
    for _ in range(50):
        resampler.push(np.ones(4800))
        held.append(resampler._pending.size)
    assert max(held) < 1000


@pytest.mark.parametrize("n", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("source", [8_000, 44_100])
def test_short_signals(n: int, source: int) -> None:
    x = np.linspace(0.5, 1, n)
    ours = resample(x, source, 16_000)
    assert ours.shape == (int(n * (16_000 / source)),)
    np.testing.assert_allclose(ours, closed_form(x, source, 16_000, "resampy-0.2.2"), rtol=0, atol=1e-13)


@pytest.mark.parametrize("rates", [(0, 16_000), (16_000, 0), (16_000 * 600, 16_000)])
def test_impossible_rates(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="Hz"):
        Resampler(*rates)
