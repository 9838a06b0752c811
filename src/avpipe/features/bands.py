"""Products with matrices of bands, as mel filters are: nearly all of their weights are 0."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class BandMatrix:
    """A matrix of which each column has weights in a few neighbouring rows only.

    Args:
        weights: float64 [bins, bands].
    """

    def __init__(self, weights: Numbers) -> None:
        is_used = weights != 0
        self._columns = np.ascontiguousarray(weights.T)
        self._first = is_used.argmax(axis=0)
        self._end = np.where(is_used.any(axis=0), len(weights) - is_used[::-1].argmax(axis=0), 0)

    def sums(self, frames: Numbers) -> Numbers:
        """Give [frames, bands], each number the sum of a frame's bins by weight, of [frames, bins].

        Terms are added from the first bin to the last: the same bits as the whole product's, whose other terms are 0,
        by numpy's einsum, in a tenth of the time. Not `@`: its BLAS wakes threads that spin on after such small work.
        """
        return _sums(frames, self._columns, self._first, self._end)


@numba.njit(cache=True, nogil=True)
def _sums(
    frames: Numbers, columns: Numbers, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> Numbers:  # pragma: no cover - compiled
    sums = np.zeros((len(frames), len(columns)))
    for frame in range(len(frames)):
        for band in range(len(columns)):
            total = 0.0
            for k in range(first[band], end[band]):
                total += frames[frame, k] * columns[band, k]
            sums[frame, band] = total
    return sums
