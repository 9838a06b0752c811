"""The zero-shot methods behind one interface (`avpipe.gzsl.models.base.Method`); `avpipe.registry` lists them."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from avpipe import registry
from avpipe.errors import AvpipeError

if TYPE_CHECKING:
    from avpipe.gzsl.models.base import Method
    from avpipe.gzsl.models.settings import MethodSettings
    from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

__all__ = ["build", "implementation", "make", "names"]


def names() -> list[str]:
    """Names of the methods that `build` knows."""
    return list(registry.METHODS)


def build(name: str, *, audio_dim: int, video_dim: int, **hyperparameters: Any) -> Method:
    """A method with freshly initialised weights (from torch's default generator).

    Args:
        name: one of `names()`.
        audio_dim: length of a clip's audio vector.
        video_dim: length of a clip's video vector.
        **hyperparameters: fields of the method's settings in `avpipe.gzsl.models.settings`; defaults as there.

    Raises:
        AvpipeError: unknown method, a length below 1, or a hyper-parameter it does not have or allow.
    """
    method = implementation(name)
    for kind, length in (("audio", audio_dim), ("video", video_dim)):
        if not isinstance(length, Integral) or length < 1:
            raise AvpipeError(f"{kind}_dim of {name} is {length!r}; expected the length of a vector, at least 1.")
    try:
        settings = registry.method(name).settings(**hyperparameters).resolved("corrected")
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise AvpipeError(f"Hyper-parameters of {name} are not valid: {found}.") from error
    return method(int(audio_dim), int(video_dim), settings)


def make(name: str, settings: MethodSettings, data: TrainingSet | EvaluationSet) -> Method:
    """A method for a benchmark's clips and class vectors.

    Raises:
        AvpipeError: as `build`, or the class vectors have another length than the method can use.
    """
    widths = {"audio_dim": data.audio.shape[1], "video_dim": data.video.shape[1]}
    model = build(name, **widths, **settings.model_dump())
    if data.words.shape[1] != model.word_dim:
        raise AvpipeError(
            f"{name} needs class vectors of length {model.word_dim}, the benchmark's have {data.words.shape[1]}."
        )
    return model


def implementation(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        AvpipeError: there is no such method.
    """
    found: type[Method] = registry.load(registry.method(name).implementation)
    return found
