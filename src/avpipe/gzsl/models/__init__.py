"""The zero-shot methods behind one interface (`avpipe.gzsl.models.base.Method`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import ValidationError

from avpipe.errors import AvpipeError
from avpipe.gzsl.models.base import Method


def _avca(audio_dim: int, video_dim: int, hyperparameters: dict[str, Any]) -> Method:
    from avpipe.config.gzsl import AVCASettings
    from avpipe.gzsl.models.avca import AVCA

    return AVCA(audio_dim, video_dim, AVCASettings(**hyperparameters).resolved("corrected"))


_METHODS: dict[str, Callable[[int, int, dict[str, Any]], Method]] = {"avca": _avca}


def names() -> list[str]:
    """Names of the methods that `build` knows."""
    return list(_METHODS)


def build(name: str, *, audio_dim: int, video_dim: int, **hyperparameters: Any) -> Method:
    """A method with freshly initialised weights (from torch's default generator).

    Args:
        name: one of `names()`.
        audio_dim: length of a clip's audio vector.
        video_dim: length of a clip's video vector.
        **hyperparameters: fields of the method's settings in `avpipe.config.gzsl`; defaults as there.

    Raises:
        AvpipeError: unknown method, a length below 1, or a hyper-parameter it does not have or allow.
    """
    if name not in _METHODS:
        raise AvpipeError(f"Unknown zero-shot method {name!r}; known: {', '.join(names())}.")
    for kind, length in (("audio", audio_dim), ("video", video_dim)):
        if not isinstance(length, int | np.integer) or length < 1:
            raise AvpipeError(f"{kind}_dim of {name} is {length!r}; expected the length of a vector, at least 1.")
    try:
        return _METHODS[name](audio_dim, video_dim, hyperparameters)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise AvpipeError(f"Hyper-parameters of {name} are not valid: {found}.") from error
