"""What every section of the configuration is made of: its base, quirks that one word switches, names, paths, seeds."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""What the name of a dataset, split or feature set may look like: names become folders."""

NAME_MEANING = "a name of letters, digits, '_', '-' and '.' that begins with a letter or digit"

Fidelity = Literal["corrected", "published"]

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""In which precision networks compute (`avpipe.training.precision`)."""


def quirk(*, published: Any, corrected: Any, description: str, **limits: Any) -> Any:
    """A config field whose default, None, means: as `fidelity` says; limits as for pydantic's Field."""
    return Field(
        default=None,
        description=f"{description} Unset: {published!r} if published, {corrected!r} if corrected.",
        json_schema_extra={"published": published, "corrected": corrected},
        **limits,
    )


class Settings(BaseModel):
    """Base of all config sections: unknown keys are refused, values cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def resolved(self, fidelity: Fidelity) -> Self:
        """A copy in which every quirk left open has the value that `fidelity` gives it."""
        update: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Settings):
                update[name] = value.resolved(fidelity)
            elif isinstance(value, dict) and any(isinstance(each, Settings) for each in value.values()):
                update[name] = {key: each.resolved(fidelity) for key, each in value.items()}
            elif value is None and is_quirk(field):
                update[name] = field.json_schema_extra[fidelity]  # type: ignore[index]
        return self.model_copy(update=update)

    def quirks(self) -> dict[str, Any]:
        """This section's own switches that `fidelity` decides, with their values."""
        return {name: getattr(self, name) for name, field in type(self).model_fields.items() if is_quirk(field)}


def is_quirk(field: FieldInfo) -> bool:
    """Whether a field was declared with `quirk`."""
    return isinstance(field.json_schema_extra, dict) and "published" in field.json_schema_extra


def check_names(value: dict[str, Any]) -> dict[str, Any]:
    """A mapping from names that become folders."""
    for name in value:
        if not re.fullmatch(NAME, name):
            raise ValueError(f"{name!r}: expected {NAME_MEANING}")
    return value


def expand_home(path: str) -> str:
    """A path with `~` replaced by the home folder, as a shell does; every path that a person writes comes through here.

    Other variables are left as they are: a name may have a `$` in it.
    """
    return os.path.expanduser(path)  # noqa: PTH111 - Path would change "" into "." and raises where there is no such user


def check_input(path: str) -> str:
    """Like `expand_home`, for a path that becomes an input of a rule, where Snakemake gives braces a meaning."""
    if "{" in path or "}" in path:
        raise ValueError("Snakemake takes { and } for wildcards; rename the file or folder, or set a link to it")
    return expand_home(path)


LocalPath = Annotated[str, AfterValidator(expand_home)]
InputPath = Annotated[str, AfterValidator(check_input)]


def check_seeds(value: list[int]) -> list[int]:
    """Seeds as torch's generators take them, each once."""
    if len(set(value)) < len(value) or min(value, default=0) < 0 or max(value, default=0) >= 2**63:
        raise ValueError(f"seeds must be different whole numbers from 0 to 2^63 - 1, found {value}")
    return value


Seeds = Annotated[list[int], AfterValidator(check_seeds)]
