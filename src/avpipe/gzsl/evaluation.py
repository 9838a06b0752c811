"""The benchmark's metric: per-class accuracies under calibrated stacking (docs/methods.md, Metric)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avpipe.errors import AvpipeError

_HM_EPS = 2.22e-16  # of the published formula; keeps 0/0 at 0

Floats = npt.NDArray[np.float64]


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
        distances: [N, C], numpy or torch, any precision and device; not NaN. Whole numbers count as float64.
        labels: int [N], the column of each sample's class.
        seen: bool [C].
        betas: float [K], rounded to the distances' precision; finite.

    Raises:
        AvpipeError: shapes, labels or values that do not fit, or no sample of any seen or of any unseen class.
    """
    d, y, is_seen, b = _checked(distances, labels, seen, betas)
    seen_columns, unseen_columns = is_seen.nonzero()[:, 0], (~is_seen).nonzero()[:, 0]

    nearest_unseen, unseen_at = _first_minimum(d.index_select(1, unseen_columns))
    zsl_prediction = unseen_columns[unseen_at]
    shifted, seen_prediction = _nearest_seen(d.index_select(1, seen_columns), b)
    seen_prediction = seen_columns[seen_prediction]
    is_tie_for_seen = (shifted == nearest_unseen) & (seen_prediction < zsl_prediction)
    prediction = torch.where((shifted < nearest_unseen) | is_tie_for_seen, seen_prediction, zsl_prediction)

    n_classes = d.shape[1]
    counts = torch.bincount(y, minlength=n_classes).cpu().numpy()
    accuracy = _per_class(prediction == y, y, counts)
    zsl_accuracy = _per_class((zsl_prediction == y)[None], y, counts)[0]
    return _summary(b.double().cpu().numpy(), is_seen.cpu().numpy(), counts, accuracy, zsl_accuracy)


def combined_beta(results: dict[str, CalibratedStacking], modes: tuple[str, ...]) -> float:
    """The one constant for stage 2: the mean of the modes' best betas, as published (docs/methods.md, Two stages)."""
    betas: list[Any] = [np.float32(results[mode].best_beta) for mode in modes]
    return float(np.mean(betas, dtype=np.float64))


def _checked(distances: Any, labels: Any, seen: Any, betas: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d = _tensor(distances)
    if d.is_complex():
        raise AvpipeError(f"Distances are {d.dtype}; expected real numbers.")
    if not d.is_floating_point():  # whole numbers would cut off the betas
        d = d.double()
    given_labels, given_seen = _tensor(labels).to(d.device), _tensor(seen).to(d.device)
    y, is_seen = given_labels.long(), given_seen.bool()
    if not torch.equal(y.to(given_labels.dtype), given_labels):
        raise AvpipeError("Labels must be whole numbers, the column of each sample's class.")
    if not torch.equal(is_seen.to(given_seen.dtype), given_seen):
        raise AvpipeError("seen must say for each class whether it is seen: bool [C], not the seen classes' columns.")
    b = _tensor(betas).to(d.device, d.dtype).reshape(-1)
    if d.ndim != 2 or y.shape != d.shape[:1] or is_seen.shape != d.shape[1:] or not len(b):
        raise AvpipeError(
            f"Calibrated stacking needs distances [N, C], labels [N], seen [C] and at least one beta; found "
            f"{tuple(d.shape)}, {tuple(y.shape)}, {tuple(is_seen.shape)} and {len(b)} betas."
        )
    if bool(is_seen.all()) or not bool(is_seen.any()):
        raise AvpipeError(
            f"Calibrated stacking needs seen and unseen classes; {int(is_seen.sum())} of {len(is_seen)} are seen."
        )
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= d.shape[1]):
        raise AvpipeError(f"Labels must be columns 0 to {d.shape[1] - 1}; found {int(y.min())} to {int(y.max())}.")
    if bool(d.isnan().any()):
        raise AvpipeError("Distances contain NaN: the model has diverged, or features or class vectors are not finite.")
    if not bool(b.isfinite().all()):
        raise AvpipeError(f"Calibration constants must be finite, found {b.tolist()}.")
    for name, columns in (("seen", is_seen), ("unseen", ~is_seen)):
        if not bool(columns[y].any()):
            raise AvpipeError(
                f"None of the {len(y)} samples belongs to one of the {int(columns.sum())} {name} classes, so the "
                "harmonic mean is undefined. Check which clips of the split have features."
            )
    return d, y, is_seen, b


def _tensor(values: Any) -> Tensor:
    """A tensor of any array, also of one that torch cannot share: other byte order, steps backwards."""
    if isinstance(values, Tensor):
        return values.detach()
    array = np.ascontiguousarray(values)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=not array.flags.writeable))


def _first_minimum(values: Tensor) -> tuple[Tensor, Tensor]:
    at = values.argmin(-1)  # torch documents the first of equal minima
    return values.gather(-1, at[..., None])[..., 0], at


def _nearest_seen(d: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest d + beta [K, N] over the seen columns of d [N, S] and the first column that attains it."""
    smallest, at = _first_minimum(d)
    shifted = smallest + betas[:, None]
    column = at.expand_as(shifted)
    if d.shape[1] > 1:
        runner_up = d.scatter(1, at[:, None], torch.inf).amin(1)
        collision = runner_up + betas[:, None] == shifted
        which, rows = collision.nonzero(as_tuple=True)
        if len(rows):
            column = column.clone()
            column[which, rows] = (d[rows] + betas[which, None]).argmin(1)
    return shifted, column


def _per_class(correct: Tensor, labels: Tensor, counts: npt.NDArray[np.int64]) -> Floats:
    """Accuracy [K, C] of predictions correct [K, N]; NaN for classes without samples."""
    hits = torch.zeros(len(correct), len(counts), dtype=torch.float64, device=correct.device)
    hits.index_add_(1, labels, correct.double())
    with np.errstate(invalid="ignore"):
        return hits.cpu().numpy() / counts


def _summary(
    betas: Floats, is_seen: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], accuracy: Floats, zsl: Floats
) -> CalibratedStacking:
    has_clips = counts > 0
    s = accuracy[:, is_seen & has_clips].mean(1)
    u = accuracy[:, ~is_seen & has_clips].mean(1)
    hm = 2 * u * s / (u + s + _HM_EPS)
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
