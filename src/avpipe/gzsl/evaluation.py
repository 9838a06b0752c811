"""The benchmark's metric: per-class accuracies under calibrated stacking (docs/methods.md, Metric).

`calibrated_stacking` is for constants that are given, `exact_calibration` for all there are. Both compute with numpy,
so that saved distances are scored without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avpipe.errors import AvpipeError

_HM_EPS = 2.22e-16  # of the published formula; keeps 0/0 at 0
_OTHER_CONSTANTS = 12  # that are tried beside the best one, for the rare case that rounding spoils it
_SUM_ERROR = 1e-10  # far above the rounding of sums over clips: harmonic means that differ by less are equal

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def beta_grid(beta_max: float = 3.0, n_betas: int = 16) -> npt.NDArray[np.float32]:
    """The calibration constants that are tried, float32 [n_betas] from 0 to `beta_max` (the published 0.2 steps)."""
    return np.linspace(0, beta_max, n_betas, dtype=np.float32)


@dataclass(frozen=True)
class CalibratedStacking:
    """Accuracies (0 to 1) for K calibration constants; every field can also be read as `result["name"]`.

    Attributes:
        betas: [K], the constants as they were added (in the distances' precision).
        seen: [K], mean per-class accuracy over the seen classes that have clips, among all classes.
        unseen: [K], the same over the unseen classes.
        hm: [K], harmonic mean of the two.
        zsl: [K], mean per-class accuracy over the unseen classes when only they are candidates; it does not
            depend on beta and is repeated for convenience.
        best: index of the first maximum of `hm`.
        per_class_gzsl: [C], accuracy of each class at the best beta; NaN without clips.
        per_class_zsl: [C], accuracy of each unseen class among the unseen; NaN for seen classes and without clips.
        counts: int64 [C], clips of each class.
        classes_without_clips: columns left out of the means.
    """

    betas: Floats
    seen: Floats
    unseen: Floats
    hm: Floats
    zsl: Floats
    best: int
    per_class_gzsl: Floats
    per_class_zsl: Floats
    counts: npt.NDArray[np.int64]
    classes_without_clips: tuple[int, ...]

    @property
    def best_beta(self) -> float:
        """The beta with the best harmonic mean."""
        return float(self.betas[self.best])

    @property
    def best_seen(self) -> float:
        """Seen accuracy at the best beta."""
        return float(self.seen[self.best])

    @property
    def best_unseen(self) -> float:
        """Unseen accuracy at the best beta."""
        return float(self.unseen[self.best])

    @property
    def best_hm(self) -> float:
        """The best harmonic mean."""
        return float(self.hm[self.best])

    @property
    def best_zsl(self) -> float:
        """Zero-shot accuracy (the same for every beta)."""
        return float(self.zsl[self.best])

    def figures(self) -> dict[str, float]:
        """seen, unseen, hm, zsl (0 to 1) and beta at the best beta, as plain values."""
        return {
            "seen": self.best_seen, "unseen": self.best_unseen, "hm": self.best_hm, "zsl": self.best_zsl,
            "beta": self.best_beta,
        }  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self, name):
            raise KeyError(name)
        return getattr(self, name)


def calibrated_stacking(distances: Any, labels: Any, seen: Any, betas: Any) -> CalibratedStacking:
    """Predict argmin_c (d_nc + beta [c is seen]), ties to the lower column, for all betas at once.

    Adding beta keeps the order among the seen classes, so the nearest seen and the nearest unseen class decide
    every beta. Rounding may make two seen distances equal once beta is added; those few rows are searched in full,
    so the prediction is the one that a float32 sum over all classes would give.

    Args:
        distances: [N, C], numpy or torch, any precision and device; not NaN. Whole numbers count as float64,
            bfloat16 as float32.
        labels: int [N], the column of each sample's class.
        seen: bool [C].
        betas: float [K], rounded to the distances' precision; finite.

    Raises:
        AvpipeError: shapes, labels or values that do not fit, or no sample of any seen or of any unseen class.
    """
    d, y, is_seen, b = _checked(distances, labels, seen, betas)
    seen_columns = np.flatnonzero(is_seen)
    nearest_unseen, zsl_prediction = _nearest(d, ~is_seen)
    shifted, seen_prediction = _nearest_seen(d.take(seen_columns, 1), b)
    seen_prediction = seen_columns[seen_prediction]
    is_tie_for_seen = (shifted == nearest_unseen) & (seen_prediction < zsl_prediction)
    prediction = np.where((shifted < nearest_unseen) | is_tie_for_seen, seen_prediction, zsl_prediction)

    counts = np.bincount(y, minlength=d.shape[1])
    accuracy = _per_class(prediction == y, y, counts)
    zsl_accuracy = _per_class((zsl_prediction == y)[None], y, counts)[0]
    return _summary(b.astype(np.float64), is_seen, counts, accuracy, zsl_accuracy)


@dataclass(frozen=True)
class ExactCalibration(CalibratedStacking):
    """Accuracies (0 to 1) at the best of all constants, negative ones too, and the steps between all constants.

    The fields of `CalibratedStacking` are those of the one constant that was chosen (K = 1).

    Attributes:
        starts: [M], ascending: step m holds for starts[m] <= beta < starts[m + 1]; the first is -inf.
        step_seen: [M], seen accuracy of each step, falling.
        step_unseen: [M], unseen accuracy of each step, rising.
        step_hm: [M], their harmonic mean.
        ausuc: area under the curve of seen over unseen accuracy (Chao et al., ECCV 2016), by trapezoids, 0 to 1.
    """

    starts: Floats
    step_seen: Floats
    step_unseen: Floats
    step_hm: Floats
    ausuc: float


def exact_calibration(distances: Any, labels: Any, seen: Any) -> ExactCalibration:
    """The best constant for `calibrated_stacking` of all that the distances' precision has, and the whole curve.

    A clip turns from its nearest seen to its nearest unseen class at one constant, so accuracies are step functions
    of beta, which one sort of these constants gives. Chosen is the middle of the widest interval with the best
    harmonic mean: neighbouring steps that have it count as one interval; of equally wide ones the lowest is taken;
    an interval without end (only infinite distances make one that is best) ends at twice the largest finite start.
    Where every harmonic mean is 0, the constant is 0.

    Steps are exact in the distances' precision, ties between a seen and an unseen class included. What they leave
    out: adding beta can round two seen distances of a clip to one number. Should that spoil the middle, the middle of
    another of the best steps is taken; figures are always what `calibrated_stacking` gives.

    Args:
        distances: [N, C], numpy or torch, any precision and device; not NaN.
        labels: int [N], the column of each sample's class.
        seen: bool [C].

    Raises:
        AvpipeError: as `calibrated_stacking`.
    """
    d, y, is_seen, _ = _checked(distances, labels, seen, [0.0])
    nearest_seen, seen_prediction = _nearest(d, is_seen)
    nearest_unseen, unseen_prediction = _nearest(d, ~is_seen)
    right = np.stack((seen_prediction == y, unseen_prediction == y))  # among their own kind
    rows = right.any(0)
    share = _share_of_a_clip(np.bincount(y, minlength=len(is_seen)), is_seen)
    of_rows = (each[rows] for each in (nearest_seen, nearest_unseen, seen_prediction < unseen_prediction))
    turns = _turning_constants(*of_rows).astype(np.float64)
    shares = right[:, rows] * share[y[rows]]
    starts, s, u, hm = _steps(turns, shares)
    constants = _best_constants(starts, hm, d.dtype)
    chosen = calibrated_stacking(d, y, is_seen, constants[:1])
    if chosen.best_hm < hm.max() - _SUM_ERROR:
        chosen = calibrated_stacking(d, y, is_seen, [calibrated_stacking(d, y, is_seen, constants).best_beta])
    ausuc = float(np.trapezoid(s, u))
    return ExactCalibration(**vars(chosen), starts=starts, step_seen=s, step_unseen=u, step_hm=hm, ausuc=ausuc)


def combined_beta(results: dict[str, CalibratedStacking], modes: tuple[str, ...]) -> float:
    """The one constant for stage 2: the mean of the modes' best betas, as published (docs/methods.md, Two stages)."""
    betas: list[Any] = [np.float32(results[mode].best_beta) for mode in modes]
    return float(np.mean(betas, dtype=np.float64))


def _checked(distances: Any, labels: Any, seen: Any, betas: Any) -> tuple[Array, Array, Array, Array]:
    d = _array(distances)
    if np.iscomplexobj(d):
        raise AvpipeError(f"Distances are {d.dtype}; expected real numbers.")
    if d.dtype.kind != "f":  # whole numbers would cut off the betas
        d = d.astype(np.float64)
    given_labels, given_seen = _array(labels), _array(seen)
    with np.errstate(invalid="ignore"):  # NaN among labels, which is refused below
        y, is_seen = given_labels.astype(np.int64), given_seen.astype(bool)
    if not np.array_equal(y, given_labels):
        raise AvpipeError("Labels must be whole numbers, the column of each sample's class.")
    if not np.array_equal(is_seen, given_seen):
        raise AvpipeError("seen must say for each class whether it is seen: bool [C], not the seen classes' columns.")
    b = _array(betas).astype(d.dtype).reshape(-1)
    if d.ndim != 2 or y.shape != d.shape[:1] or is_seen.shape != d.shape[1:] or not len(b):
        raise AvpipeError(
            f"Calibrated stacking needs distances [N, C], labels [N], seen [C] and at least one beta; found "
            f"{d.shape}, {y.shape}, {is_seen.shape} and {len(b)} betas."
        )
    if is_seen.all() or not is_seen.any():
        raise AvpipeError(
            f"Calibrated stacking needs seen and unseen classes; {int(is_seen.sum())} of {len(is_seen)} are seen."
        )
    if len(y) and (y.min() < 0 or y.max() >= d.shape[1]):
        raise AvpipeError(f"Labels must be columns 0 to {d.shape[1] - 1}; found {y.min()} to {y.max()}.")
    if np.isnan(d).any():
        raise AvpipeError("Distances contain NaN: the model has diverged, or features or class vectors are not finite.")
    if not np.isfinite(b).all():
        raise AvpipeError(f"Calibration constants must be finite, found {b.tolist()}.")
    for name, columns in (("seen", is_seen), ("unseen", ~is_seen)):
        if not columns[y].any():
            raise AvpipeError(
                f"None of the {len(y)} samples belongs to one of the {int(columns.sum())} {name} classes, so the "
                "harmonic mean is undefined. Check which clips of the split have features."
            )
    return d, y, is_seen, b


def _array(values: Any) -> Array:
    """An array of this machine's byte order of anything; of a tensor, without importing torch, on the CPU."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # numpy has no such type
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _first_minimum(values: Array) -> tuple[Array, Array]:
    at = values.argmin(-1)  # numpy documents the first of equal minima
    return np.take_along_axis(values, at[..., None], -1)[..., 0], at


def _nearest(d: Array, is_candidate: Array) -> tuple[Array, Array]:
    """Smallest distance [N] to a candidate, and its column of d [N, C]."""
    columns = np.flatnonzero(is_candidate)
    smallest, at = _first_minimum(d.take(columns, 1))
    return smallest, columns[at]


@np.errstate(over="ignore", invalid="ignore")
def _turning_constants(seen: Array, unseen: Array, seen_first: Array) -> Array:
    """The smallest constant [N] with which `seen` + constant loses to `unseen`; -inf and inf: every one and none.

    Found by bisection over all numbers of the precision, in order: the difference of the distances, rounded, may lie
    beside the constant at which the rounded sum turns.

    Args:
        seen: [N], distances to the nearest seen class.
        unseen: [N], to the nearest unseen class.
        seen_first: bool [N], whether a tie is the seen class's.
    """
    integers = np.dtype(f"i{seen.itemsize}")
    infinity = np.array(np.inf, seen.dtype).view(integers)[()]

    def number(bits: Array) -> Array:  # the bits of negative floats ascend as the numbers descend
        return np.where(bits < 0, bits ^ np.iinfo(integers).max, bits).view(seen.dtype)

    high = np.full(seen.shape, infinity)
    low = -high  # the place of the lowest finite number
    for _ in range(8 * seen.itemsize):
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, rounded down, without overflow
        shifted = seen + number(middle)
        turned = (shifted > unseen) | ((shifted == unseen) & ~seen_first)
        low, high = np.where(turned, low, middle + 1), np.where(turned, middle, high)
    return np.where(high == -infinity, -np.inf, number(high)).astype(seen.dtype)


def _share_of_a_clip(counts: npt.NDArray[np.int64], is_seen: npt.NDArray[np.bool_]) -> Floats:
    """[C], what a clip of a class that is right adds to the mean accuracy of the seen or of the unseen classes."""
    has_clips = counts > 0
    classes = np.where(is_seen, (has_clips & is_seen).sum(), (has_clips & ~is_seen).sum())
    return 1.0 / (np.maximum(counts, 1) * classes)


def _steps(turns: Floats, right: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Starts, seen and unseen accuracy and harmonic mean of every step, each [M].

    Args:
        turns: [n], the constant at which each clip turns to an unseen class.
        right: [2, n], what each clip adds to the seen accuracy before and to the unseen accuracy from then on.
    """
    starts, step = np.unique(np.append(-np.inf, turns), return_inverse=True)
    lost, won = (np.bincount(step[1:], each, len(starts)).cumsum() for each in right)
    possible = starts < np.inf
    s, u = np.clip(right[0].sum() - lost[possible], 0, 1), np.clip(won[possible], 0, 1)
    return starts[possible], s, u, _harmonic_mean(s, u)


@np.errstate(over="ignore")
def _best_constants(starts: Floats, hm: Floats, dtype: np.dtype[Any]) -> Floats:
    """The middle of the widest interval of best steps, then those of the best steps; all numbers of the precision."""
    if hm.max() <= _SUM_ERROR:
        return np.zeros(1)
    limit = 2 * np.abs(starts[1:]).max(initial=0.5)
    ends = np.clip(np.append(starts, np.inf), -limit, limit)
    is_best = np.pad(hm >= hm.max() - _SUM_ERROR, 1)
    runs = np.flatnonzero(is_best[1:] != is_best[:-1]).reshape(-1, 2)  # first step of each, and first after it
    widths = ends[runs[:, 1]] - ends[runs[:, 0]]
    widest = runs[(widths >= widths.max() - np.finfo(dtype).eps * limit).argmax()]  # ties make ends a unit apart
    others = np.argsort(-hm, kind="stable")[:_OTHER_CONSTANTS]
    low, high = ends[np.append(widest[:1], others)], ends[np.append(widest[1:], others + 1)]
    middles = (low + (high - low) / 2).astype(dtype).astype(np.float64)
    return np.where(middles < high, middles, low)


@np.errstate(over="ignore")
def _nearest_seen(d: Array, betas: Array) -> tuple[Array, Array]:
    """Smallest d + beta [K, N] over the seen columns of d [N, S] and the first column that attains it."""
    smallest, at = _first_minimum(d)
    shifted = smallest + betas[:, None]
    column = np.tile(at, (len(betas), 1))
    if d.shape[1] > 1:
        others = d.copy()
        np.put_along_axis(others, at[:, None], np.inf, 1)
        which, rows = np.nonzero(others.min(1) + betas[:, None] == shifted)
        if len(rows):
            column[which, rows] = (d[rows] + betas[which, None]).argmin(1)
    return shifted, column


def _per_class(correct: Array, labels: Array, counts: npt.NDArray[np.int64]) -> Floats:
    """Accuracy [K, C] of predictions correct [K, N]; NaN for classes without samples."""
    hits = np.stack([np.bincount(labels[each], minlength=len(counts)) for each in correct])
    with np.errstate(invalid="ignore"):
        return hits / counts


def _summary(
    betas: Floats, is_seen: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], accuracy: Floats, zsl: Floats
) -> CalibratedStacking:
    has_clips = counts > 0
    s = accuracy[:, is_seen & has_clips].mean(1)
    u = accuracy[:, ~is_seen & has_clips].mean(1)
    hm = _harmonic_mean(s, u)
    best = int(hm.argmax())
    return CalibratedStacking(
        betas=betas,
        seen=s,
        unseen=u,
        hm=hm,
        zsl=np.full(len(betas), zsl[~is_seen & has_clips].mean()),
        best=best,
        per_class_gzsl=accuracy[best],
        per_class_zsl=np.where(is_seen, np.nan, zsl),
        counts=counts,
        classes_without_clips=tuple(int(c) for c in np.flatnonzero(~has_clips)),
    )


def _harmonic_mean(s: Floats, u: Floats) -> Floats:
    return 2 * u * s / (u + s + _HM_EPS)
