"""Settings of the generalised zero-shot methods and of their two-stage protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avpipe.config.quirks import Settings, quirk

TextAlignment = Literal["correct", "published", "permuted"]


class AVCASettings(Settings):
    """AVCA's hyper-parameters."""

    embeddings_hidden_size: int = Field(512, ge=1, description="Hidden units of A_enc and V_enc.")
    decoder_hidden_size: int = Field(512, ge=1, description="Hidden units of A_proj and V_proj.")
    depth_transformer: int = Field(1, ge=1, description="Layers of the cross-modal transformer.")
    embedding_dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of the encoders and the transformer.")
    decoder_dropout: float = Field(0.3, ge=0, lt=1, description="Dropout of A_proj and V_proj.")
    additional_dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of W_proj, D, A_rec and V_rec.")
    momentum: float = Field(0.1, gt=0, le=1, description="BatchNorm momentum of the second layer of deep blocks.")
    additional_triplets_loss: bool = Field(True, description="Include the first and second additional triplets.")
    reg_loss: bool = Field(True, description="Include the regularisation terms.")
    leftover_embedding_pass: bool | None = quirk(
        published=True,
        corrected=True,
        description="After each step, one more embedding pass that moves BatchNorm statistics (docs/fidelity.md).",
    )
    unused_call_statistics: bool | None = quirk(
        published=True,
        corrected=True,
        description="BatchNorm statistics also follow three calls whose results nothing uses (docs/fidelity.md).",
    )


class TrainingSettings(Settings):
    """One training stage."""

    epochs: int = Field(50, ge=1, description="Epochs of each stage.")
    batches_per_epoch: int = Field(500, ge=1, description="Batches in an epoch.")
    batch_size: int = Field(256, ge=2, description="Pairs of a positive and a negative sample in a batch.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate at the start.")
    weight_decay: float = Field(1e-5, ge=0, description="L2 term that Adam adds to the gradient.")
    beta_max: float = Field(3.0, gt=0, description="Largest calibration constant that is tried; the smallest is 0.")
    n_betas: int = Field(16, ge=1, description="Number of calibration constants, evenly spaced.")
    stage2_schedule: Literal["val", "stage1"] | None = quirk(
        published="val",
        corrected="val",
        description="What lowers the learning rate in stage 2: the harmonic mean on the validation clips, which "
        "are training clips by then (val), or the epochs at which stage 1 lowered it (stage1) (docs/fidelity.md).",
    )
