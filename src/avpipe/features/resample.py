"""Sample-rate conversion that reproduces resampy's `kaiser_best`, as a stream (docs/networks.md, Sound of VGGish).

The published VGGish features depend on the resampler: the log-mel values move by up to 0.48 between two
releases of resampy under one filter name, so another resampler would not reproduce them. The method is
Smith's band-limited interpolation (https://ccrma.stanford.edu/~jos/resample/) with resampy's shortcuts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

FilterName = Literal["resampy-0.2.2", "resampy-0.4"]
Samples = npt.NDArray[np.float64]

_ENDLESS = np.iinfo(np.int64).max

# Wings are filled up with zeros to a multiple of what vector instructions take at a time: the compiler's loop over the
# rest, one by one, took as long as everything else.
_WING_MULTIPLE = 32
# So many periods' samples and a few rows of the tables fit into a processor's fastest memory, 32 KB.
_PERIODS_AT_ONCE = 8


@dataclass(frozen=True)
class KaiserFilter:
    """A Kaiser-windowed sinc, tabulated on its right half.

    Attributes:
        zero_crossings: of the sinc on one side.
        table_per_crossing: table entries between two zero crossings.
        beta: of the Kaiser window.
        roll_off: cut-off as a fraction of the lower Nyquist frequency.
        accumulates_time: output times are sums of the step (resampy 0.2.2), or else its multiples (0.4).
            The two part by rounding errors, which grow with the length.
    """

    zero_crossings: int
    table_per_crossing: int
    beta: float
    roll_off: float
    accumulates_time: bool

    def table(self) -> Samples:
        """The right half of the impulse response, [zero_crossings * table_per_crossing + 1]."""
        n = self.zero_crossings * self.table_per_crossing
        sinc = self.roll_off * np.sinc(self.roll_off * np.linspace(0, self.zero_crossings, n + 1))
        return sinc * np.kaiser(2 * n + 1, self.beta)[n:]


# The tables equal the files inside resampy 0.2.2 and 0.4.3 to 4e-16.
FILTERS: dict[FilterName, KaiserFilter] = {
    "resampy-0.2.2": KaiserFilter(64, 512, 14.769656459379492, 0.9475937167399596, accumulates_time=True),
    "resampy-0.4": KaiserFilter(50, 8192, 12.984585247040012, 0.9173473712608761, accumulates_time=False),
}


class Resampler:
    """Converts one signal from one rate to another, block by block.

    The result does not depend on how the signal is cut into blocks, bit for bit. Memory holds one block and
    the filter's reach, about 400 samples at 48 kHz.

    Args:
        source_rate, target_rate: in Hz, whole numbers from 1.
        filter: which release of resampy to reproduce.

    Raises:
        ValueError: a rate below 1, or a source more than 512 times faster than the target (the entries of
            the filter's table per crossing).
    """

    def __init__(self, source_rate: int, target_rate: int, filter: FilterName = "resampy-0.2.2") -> None:
        if source_rate < 1 or target_rate < 1:
            raise ValueError(f"Sample rates {source_rate} and {target_rate} Hz; expected at least 1 Hz.")
        kaiser = FILTERS[filter]
        self._rates = (source_rate, target_rate)
        self._ratio = float(target_rate) / source_rate
        self._kaiser = kaiser
        self._scale = min(1.0, self._ratio)
        if self._passes_through:
            return
        # resampy truncates this step, which lengthens the filter a little: part of the published numbers.
        self._table_step = int(self._scale * kaiser.table_per_crossing)
        if self._table_step < 1:
            raise ValueError(f"Cannot resample {source_rate} Hz to {target_rate} Hz: the rates are too far apart.")
        self._window, self._delta = _wing_tables(filter, self._ratio, self._table_step)
        self._reach = self._window.shape[2]
        self._pending: Samples = np.zeros(self._reach)  # silence before the signal
        self._pending_start = -self._reach
        self._received = 0
        self._emitted = 0
        self._time = 0.0

    @property
    def _passes_through(self) -> bool:
        return self._rates[0] == self._rates[1]

    def push(self, block: Samples) -> Samples:
        """Take the next samples, float64 [n]; give the output samples, float64 [m], that they complete."""
        if self._passes_through:
            return block
        self._pending = np.concatenate([self._pending, block])
        self._received += len(block)
        # An output is complete when its right wing has arrived: source index + reach < received.
        last_source_index = self._received - self._reach - 1
        expected = max(0, math.ceil((last_source_index + 1) * self._ratio) - self._emitted) + 2
        output = self._interpolate(expected, last_source_index)
        self._drop_consumed()
        return output

    def flush(self) -> Samples:
        """The rest of the output, float64 [m], once the signal has ended; the wings stop at its end."""
        if self._passes_through:
            return np.empty(0)
        self._pending = np.concatenate([self._pending, np.zeros(self._reach)])  # and after it
        return self._interpolate(self._output_length(self._received) - self._emitted, _ENDLESS)

    def _output_length(self, n: int) -> int:
        # Each release has its own rounding of n * ratio.
        if self._kaiser.accumulates_time:
            return int(n * self._ratio)
        return int(n * float(self._rates[1]) / float(self._rates[0]))

    def _interpolate(self, count: int, last_source_index: int) -> Samples:
        output = np.zeros(max(0, count))
        written, self._time = _interpolate(
            self._pending,
            self._pending_start,
            last_source_index,
            output,
            self._emitted,
            self._time,
            1.0 / self._ratio,
            self._kaiser.accumulates_time,
            self._window,
            self._delta,
            self._kaiser.table_per_crossing,
            self._scale,
            self._rates[1] // math.gcd(*self._rates),
        )
        self._emitted += written
        return output[:written]

    def _drop_consumed(self) -> None:
        """Forget the samples left of the next output's left wing."""
        time = self._time if self._kaiser.accumulates_time else self._emitted * (1.0 / self._ratio)
        consumed = min(max(0, int(time) - self._reach - self._pending_start), self._pending.size)
        self._pending = self._pending[consumed:]
        self._pending_start += consumed


def resample(signal: Samples, source_rate: int, target_rate: int, filter: FilterName = "resampy-0.2.2") -> Samples:
    """Convert a whole signal, float64 [n] to [int(n * target_rate / source_rate)]; see `Resampler`."""
    resampler = Resampler(source_rate, target_rate, filter)
    return np.concatenate([resampler.push(signal), resampler.flush()])


@lru_cache(maxsize=8)
def _wing_tables(filter: FilterName, ratio: float, table_step: int) -> tuple[Samples, Samples]:
    """The filter's table and its forward differences (the last is 0), each [2, first entry of a wing, taps].

    Row o of [1] has the entries o, o + table_step, o + 2 table_step …, for the right wing; row o of [0] has them
    backwards, for the left one. So a wing is one contiguous row beside one contiguous run of signal, which the
    compiler turns into vector instructions. What lies beyond the taps that resampy takes is 0.
    """
    window = FILTERS[filter].table() * min(1.0, ratio)
    delta = np.diff(window, append=window[-1])
    taps = window.size // table_step
    first = np.arange(table_step + 1)[:, None]
    place = np.arange(math.ceil(taps / _WING_MULTIPLE) * _WING_MULTIPLE)
    inside = place < (window.size - first) // table_step
    index = np.where(inside, first + place * table_step, 0)
    right = [np.where(inside, table[index], 0.0) for table in (window, delta)]
    return np.stack([right[0][:, ::-1], right[0]]), np.stack([right[1][:, ::-1], right[1]])


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _wing(signal: Samples, window: Samples, delta: Samples, eta: float) -> float:  # pragma: no cover - compiled
    """The sum of signal times interpolated table over one wing.

    Sums may be reassociated: that is what lets them use vector instructions, and moves results by some 1e-16.
    """
    total = 0.0
    for i in range(signal.size):
        total += (window[i] + eta * delta[i]) * signal[i]
    return total


@numba.njit(cache=True, nogil=True)
def _interpolate(
    signal: Samples,
    signal_start: int,
    last_source_index: int,
    output: Samples,
    first_output: int,
    time: float,
    time_step: float,
    accumulates_time: bool,
    window: Samples,
    delta: Samples,
    table_per_crossing: int,
    scale: float,
    period: int,
) -> tuple[int, float]:  # pragma: no cover - compiled
    """Interpolate at successive times until the output is full or a time's index passes `last_source_index`.

    `signal` holds the source samples from signal_start on, as far as the wings reach; the tables are those of
    `_wing_tables`. Every `period` outputs the same rows of them come again: such outputs are made one after the other,
    so that the rows need not come from slow memory. Gives the number of samples written and the time, in source
    samples, of the next one.
    """
    times = np.empty(output.size)
    written = output.size
    for j in range(output.size):
        if not accumulates_time:
            time = (first_output + j) * time_step
        if int(time) > last_source_index:
            written = j
            break
        times[j] = time
        if accumulates_time:
            time += time_step
    reach = window.shape[2]
    for tile in range(0, written, period * _PERIODS_AT_ONCE):
        for first in range(tile, min(tile + period, written)):
            for j in range(first, min(tile + period * _PERIODS_AT_ONCE, written), period):
                n = int(times[j])
                middle = n + 1 - signal_start
                fraction = scale * (times[j] - n)
                position = fraction * table_per_crossing
                offset = int(position)
                samples = signal[middle - reach : middle]
                left = _wing(samples, window[0, offset], delta[0, offset], position - offset)
                position = (scale - fraction) * table_per_crossing
                offset = int(position)
                samples = signal[middle : middle + reach]
                output[j] = left + _wing(samples, window[1, offset], delta[1, offset], position - offset)
    return written, time
