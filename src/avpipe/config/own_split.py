"""Settings of a class split that is drawn from one's own videos."""

from __future__ import annotations

from pydantic import Field

from avpipe.config.quirks import Settings


class OwnSplit(Settings):
    """How to draw a two-stage zero-shot split from the classes and clips at hand."""

    seed: int = Field(0, ge=0, description="Which split is drawn; the same clips and seed give the same split.")
    train_classes: int | None = Field(
        None, ge=1, description="Classes that stage 1 is trained with. Unset: in UCF's proportions, 30 of 51 classes."
    )
    val_unseen_classes: int | None = Field(
        None, ge=1, description="Classes that are unseen in stage 1 only. Unset: in UCF's proportions, 12 of 51."
    )
    test_unseen_classes: int | None = Field(
        None, ge=1, description="Classes that are never trained with. Unset: in UCF's proportions, 9 of 51."
    )
    seen_share: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="Share of each seen class's source videos kept for testing, and of the rest for validation.",
    )
    by_source: bool = Field(
        True,
        description="Keep clips of one source video on one side of training, validation and test. If not, seen "
        "accuracy says little about new videos.",
    )
