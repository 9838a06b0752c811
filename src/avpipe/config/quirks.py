"""Quirks of the published implementations: one word switches all, each can be set on its own."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Fidelity = Literal["corrected", "published"]


def quirk(*, published: Any, corrected: Any, description: str) -> Any:
    """A config field whose default, None, means: as `fidelity` says."""
    return Field(
        default=None,
        description=f"{description} Unset: {published!r} if published, {corrected!r} if corrected.",
        json_schema_extra={"published": published, "corrected": corrected},
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
