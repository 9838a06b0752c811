"""Settings of the generalised zero-shot methods and of their two-stage protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from avpipe.settings import Settings, quirk

TextAlignment = Literal["correct", "published", "permuted"]


class MethodSettings(Settings):
    """What can be set for every method; where it is unset, `gzsl.training` holds."""

    epochs: int | None = Field(None, ge=1, description="Epochs of each stage. Unset: as gzsl.training.")
    batches_per_epoch: int | None = Field(None, ge=1, description="Batches in an epoch. Unset: as gzsl.training.")
    batch_size: int | None = Field(None, ge=2, description="Pairs in a batch. Unset: as gzsl.training.")
    learning_rate: float | None = Field(
        None, gt=0, description="Adam's learning rate at the start. Unset: as gzsl.training."
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 term that Adam adds to the gradient.")

    def training(self, common: TrainingSettings) -> TrainingSettings:
        """The protocol with this method's own values put in."""
        own = {name: getattr(self, name) for name in MethodSettings.model_fields}
        return common.model_copy(update={name: value for name, value in own.items() if value is not None})

    @property
    def picks_on_test(self) -> bool:
        """Whether the epoch is chosen on the very clips that are reported."""
        return False


class AVCASettings(MethodSettings):
    """AVCA's hyper-parameters."""

    weight_decay: float = Field(1e-5, ge=0, description="L2 term that Adam adds to the gradient.")

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


class CompatibilitySettings(MethodSettings):
    """Hyper-parameters of the methods with one linear map and a ranking loss: ALE, DEVISE and SJE."""

    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of the features and of the class vectors.")
    margin: float = Field(0.1, gt=0, description="Margin of the ranking loss.")
    norm_inputs: bool = Field(False, description="Divide each concatenated feature vector by its length.")


class APNSettings(MethodSettings):
    """Hyper-parameters of APN."""

    norm_inputs: bool = Field(False, description="Divide each concatenated feature vector by its length.")


class CJMESettings(MethodSettings):
    """Hyper-parameters of CJME."""

    embeddings_hidden_size: int = Field(1024, ge=1, description="Hidden units of the audio and video networks.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout after the hidden layers.")


class AVGZSLNetSettings(MethodSettings):
    """Hyper-parameters of AVGZSLNet."""

    embeddings_hidden_size: int = Field(1024, ge=1, description="Hidden units of the audio and video networks.")
    decoder_hidden_size: int = Field(64, ge=1, description="Hidden units of the decoder.")
    embedding_dropout: float = Field(0.8, ge=0, lt=1, description="Dropout of the three embedding networks.")
    decoder_dropout: float = Field(0.5, ge=0, lt=1, description="Dropout of the decoder.")
    normalize_decoder_outputs: bool = Field(True, description="Divide each decoded vector by its length.")


class FVAEGANSettings(MethodSettings):
    """Hyper-parameters of f-VAEGAN-D2 (docs/methods.md, f-VAEGAN-D2)."""

    latent_size: int = Field(300, ge=1, description="Length of the noise.")
    encoder_hidden_size: int = Field(300, ge=1, description="Hidden units of the encoder.")
    generator_hidden_size: int = Field(512, ge=1, description="Hidden units of the generator.")
    critic_hidden_size: int = Field(512, ge=1, description="Hidden units of the critic.")
    gan_weight: float = Field(100_000.0, ge=0, description="Weight of the critic's verdict in the generator's loss.")
    gradient_penalty: float = Field(10.0, ge=0, description="Weight of the critic's gradient penalty.")
    generator_every: int = Field(5, ge=1, description="Critic updates for one update of encoder and generator.")
    n_synthetic: int = Field(1000, ge=1, description="Vectors made up for each unseen class.")
    classifier_epochs: int = Field(30, ge=1, description="Epochs of the softmax classifiers.")
    classifier_learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate for the classifiers.")
    batch_size: int | None = Field(64, ge=2, description="Clips in a batch. Unset: as gzsl.training.")
    batches_per_epoch: int | None = quirk(
        published=1,
        corrected=None,
        description="Batches in an epoch; None: as gzsl.training. The published program leaves its loop after one.",
    )
    chooses_on_test: bool | None = quirk(
        published=True,
        corrected=False,
        description="Whether epoch and classifier epoch are those that do best on the clips that are reported.",
    )

    @property
    def picks_on_test(self) -> bool:
        """In the published form, as `chooses_on_test` says."""
        return bool(self.chooses_on_test)


class TrainingSettings(Settings):
    """One training stage."""

    epochs: int = Field(50, ge=1, description="Epochs of each stage.")
    batches_per_epoch: int = Field(500, ge=1, description="Batches in an epoch.")
    batch_size: int = Field(256, ge=2, description="Pairs of a positive and a negative sample in a batch.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate at the start.")
    weight_decay: float = Field(0.0, ge=0, description="L2 term that Adam adds; each method's own setting decides.")
    beta_max: float | None = quirk(
        gt=0,
        published=3.0,
        corrected=None,
        description="Largest calibration constant that is tried, the smallest being 0; with neither this nor n_betas "
        "the best of all constants is found exactly (docs/results.md).",
    )
    n_betas: int | None = quirk(
        ge=1,
        published=16,
        corrected=None,
        description="Number of calibration constants that are tried, evenly spaced from 0 to beta_max (None: 3.0).",
    )
    stage2_schedule: Literal["val", "stage1"] | None = quirk(
        published="val",
        corrected="val",
        description="What lowers the learning rate in stage 2: the harmonic mean on the validation clips, which "
        "are training clips by then (val), or the epochs at which stage 1 lowered it (stage1) (docs/fidelity.md).",
    )

    @property
    def tries_all_betas(self) -> bool:
        """Whether the best of all calibration constants is found instead of the best of a grid."""
        return self.beta_max is None and self.n_betas is None
