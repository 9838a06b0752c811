"""f-VAEGAN-D2: a variational auto-encoder and a Wasserstein GAN make up features of unseen classes.

CVPR 2019, as a baseline of AVCA's benchmark (docs/methods.md, f-VAEGAN-D2). Encoder, generator and critic work on x, a
clip's audio and video vectors side by side, divided by their length, and on its class vector w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl.evaluation import CalibratedStacking
from avpipe.gzsl.models import layers, synthesis
from avpipe.gzsl.models.base import Losses, Method, adam
from avpipe.gzsl.models.settings import FVAEGANSettings, TrainingSettings
from avpipe.gzsl.tensors import Batch, EvaluationSet, TrainingSet

WORD_DIM = 300
_LEAK = 0.2  # slope of the critic's LeakyReLU below 0
_SEED_BITS = 63


class Encoder(nn.Module):
    """x [B, d] and w [B, 300] to mean and logarithm of the variance of the code z, both [B, latent]."""

    def __init__(self, width: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width + WORD_DIM, hidden)
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)

    def forward(self, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, see the class."""
        hidden = layers.linear(torch.cat((x, words), -1), self.hidden).relu()
        return layers.linear(hidden, self.mean), layers.linear(hidden, self.log_variance)


class Generator(nn.Module):
    """Code or noise z [B, latent] and w [B, 300] to x [B, d], every component in (0, 1)."""

    def __init__(self, width: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent + WORD_DIM, hidden)
        self.out = nn.Linear(hidden, width)

    def logits(self, z: Tensor, words: Tensor) -> Tensor:
        """What the sigmoid is applied to."""
        return layers.linear(layers.linear(torch.cat((z, words), -1), self.hidden).relu(), self.out)

    def forward(self, z: Tensor, words: Tensor) -> Tensor:
        """Feature vectors, not yet of length 1."""
        return self.logits(z, words).sigmoid()


class Critic(nn.Module):
    """x [B, d] and w [B, 300] to a verdict [B]: one hidden layer of LeakyReLU; weights N(0, 0.02), biases 0."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.width = width
        self.hidden = nn.Linear(width + WORD_DIM, hidden)
        self.out = nn.Linear(hidden, 1)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, 0.0, synthesis.INITIAL_DEVIATION)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """The verdicts."""
        return self.out(F.leaky_relu(layers.linear(torch.cat((x, words), -1), self.hidden), _LEAK))[:, 0]

    def frozen(self, x: Tensor, words: Tensor) -> Tensor:
        """The verdicts, without gradients for the critic's own parameters."""
        hidden = F.linear(torch.cat((x, words), -1), self.hidden.weight.detach(), self.hidden.bias.detach())
        return F.linear(F.leaky_relu(hidden, _LEAK), self.out.weight.detach(), self.out.bias.detach())[:, 0]

    def slopes(self, x: Tensor, words: Tensor) -> Tensor:
        """Gradients [B, d] of the verdicts by x, in closed form: (v * LeakyReLU') W.

        The slopes of LeakyReLU are constant between its kinks, so this is differentiable by the weights like any
        product and a gradient penalty needs no second pass of autograd through the first.
        """
        with torch.no_grad():
            is_positive = layers.linear(torch.cat((x, words), -1), self.hidden) > 0
        return torch.where(is_positive, self.out.weight, self.out.weight * _LEAK) @ self.hidden.weight[:, : self.width]


class FVAEGAN(Method):
    """Generator, encoder and critic; clips are scored by softmax classifiers (`synthesis`).

    The published program also trains a second critic, which does not see w. Neither the encoder's nor the generator's
    objective contains it, so it has no effect on any result and is left out (docs/methods.md, f-VAEGAN-D2).

    No part behaves differently in training and in evaluation. Two buffers make evaluations repeatable: `draws`, a
    number drawn with the weights, and `steps`, how many training steps were taken; together they seed the draws.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: resolved hyper-parameters (no quirk left open).
    """

    word_dim = WORD_DIM
    calibration_modes = ("both",)
    score_mode = "both"
    is_calibrated = False
    is_scheduled = False
    draws: Tensor
    steps: Tensor

    def __init__(self, audio_dim: int, video_dim: int, settings: FVAEGANSettings) -> None:
        super().__init__()
        self.settings = settings
        self.width = audio_dim + video_dim
        self.encoder = Encoder(self.width, settings.encoder_hidden_size, settings.latent_size)
        self.generator = Generator(self.width, settings.generator_hidden_size, settings.latent_size)
        self.critic = Critic(self.width, settings.critic_hidden_size)
        self.register_buffer("draws", torch.randint(2**_SEED_BITS - 1, ()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def critic_losses(self, x: Tensor, words: Tensor, noise: Tensor, share: Tensor) -> Losses:
        """What the critic minimises, "critic" = -"wasserstein" + "gradient_penalty", without any other's gradients.

        "wasserstein" is E[D(x, w)] - E[D(G(z, w), w)]; "gradient_penalty" is E[(||grad_x D|| - 1)^2] at points
        between x and G(z, w), times its weight in the settings.

        Args:
            x: [B, d], real vectors of length 1.
            words: [B, 300], their class vectors.
            noise: [B, latent], z.
            share: [B, 1], how much of x an interpolated vector has, 0 to 1.
        """
        with torch.no_grad():
            fake = self.generator(noise, words)
        real_verdicts, fake_verdicts = self.critic(torch.cat((x, fake)), words.repeat(2, 1)).chunk(2)
        wasserstein = real_verdicts.mean() - fake_verdicts.mean()
        slopes = self.critic.slopes(share * x + (1 - share) * fake, words)
        excess = torch.linalg.vector_norm(slopes, dim=1) - 1
        penalty = self.settings.gradient_penalty * excess.square().mean()
        return {"wasserstein": wasserstein, "gradient_penalty": penalty, "critic": penalty - wasserstein}

    def generator_losses(self, x: Tensor, words: Tensor, noise: Tensor, code_noise: Tensor) -> Losses:
        """What encoder and generator minimise: "total", the sum of the other terms; the critic gets no gradients.

        "adversarial_code" and "adversarial_noise" are -E[D(G(z, w), w)], weighted, for the code z of x and for noise;
        "reconstruction" is the binary cross-entropy between G(z, w) and x, and "kl" the divergence of the code from
        N(0, 1), both summed over batch and components. The cross-entropy is computed from the sigmoid's logits,
        which differs from the published form only where a float32 sigmoid is 1 (logits above 17); there the
        published gradient vanishes. Components of x may be negative.

        Args:
            x: [B, d], real vectors of length 1.
            words: [B, 300], their class vectors.
            noise: [B, latent], z, the critic's of the same step.
            code_noise: [B, latent], standard normal, of the code.
        """
        mean, log_variance = self.encoder(x, words)
        code = mean + (0.5 * log_variance).exp() * code_noise
        logits = self.generator.logits(torch.cat((code, noise)), words.repeat(2, 1))
        of_code, of_noise = self.critic.frozen(logits.sigmoid(), words.repeat(2, 1)).chunk(2)
        terms = {
            "adversarial_code": -self.settings.gan_weight * of_code.mean(),
            "adversarial_noise": -self.settings.gan_weight * of_noise.mean(),
            "reconstruction": F.binary_cross_entropy_with_logits(logits[: len(x)], x, reduction="sum"),
            "kl": -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(),
        }
        terms["total"] = torch.stack(tuple(terms.values())).sum()
        return terms

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """Terms of `critic_losses` and of `generator_losses` with the same noise, "total" being the latter's.

        Two objectives that pull in opposite directions have no sum to minimise: `training_step` takes them in turn.

        Args:
            batch: its positive clips are used.
            track_statistics: of no effect.
        """
        x, words = synthesis.unit_features(batch["audio"], batch["video"]), batch["text"]
        noise = self._normal(x)
        losses = self.critic_losses(x, words, noise, self._uniform(x))
        return losses | self.generator_losses(x, words, noise, self._normal(x))

    def optimizers(self, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
        """Adam with betas (0.5, 0.999) for the critic, the generator and the encoder, in this order."""
        return [
            adam(
                part.parameters(), settings.learning_rate, weight_decay=settings.weight_decay,
                betas=synthesis.ADAM_BETAS,
            )
            for part in (self.critic, self.generator, self.encoder)
        ]  # fmt: skip

    def step_kind(self, index: int) -> int:
        """0: critic, then generator and encoder are updated; 1: the critic alone."""
        return 0 if index % self.settings.generator_every == 0 else 1

    def training_step(
        self, batch: Batch, optimizers: Sequence[torch.optim.Optimizer], *, index: int, track_statistics: bool = True
    ) -> Losses:
        """Update the critic and, where `step_kind` is 0, generator and encoder against the updated critic.

        Args:
            batch: its positive clips are used.
            optimizers: those of `optimizers`.
            index: the batch's number in its epoch.
            track_statistics: of no effect.

        Returns:
            The terms of `critic_losses`, and of `generator_losses` if those were computed.
        """
        of_critic, of_generator, of_encoder = optimizers
        x, words = synthesis.unit_features(batch["audio"], batch["video"]), batch["text"]
        noise = self._normal(x)
        of_critic.zero_grad()
        losses = self.critic_losses(x, words, noise, self._uniform(x))
        losses["critic"].backward()
        of_critic.step()
        if self.step_kind(index) == 0:
            of_generator.zero_grad()
            of_encoder.zero_grad()
            losses |= self.generator_losses(x, words, noise, self._normal(x))
            losses["total"].backward()
            of_generator.step()
            of_encoder.step()
        self.steps.add_(1)
        return losses

    def evaluate(
        self, train: TrainingSet, data: EvaluationSet, betas: Any, *, modes: Sequence[str] | None = None
    ) -> dict[str, CalibratedStacking]:
        """Make vectors of the unseen classes up, train classifiers on them and score clips (`synthesis.score`).

        The same state gives the same bits every time, and torch's default generators are not drawn from.

        Args:
            train: clips of the seen classes.
            data: clips to score, on the model's device.
            betas: not used; the one constant is 0.
            modes: "both" is all there is.

        Raises:
            AvpipeError: another mode, or what `synthesis.score` raises.
        """
        unknown = [mode for mode in modes or () if mode != self.score_mode]
        if unknown:
            raise AvpipeError(f"f-VAEGAN-D2 scores audio and video together: mode 'both', not {', '.join(unknown)}.")
        settings = self.settings
        draws = self._evaluation_draws()
        made_up = synthesis.make_up(
            self.generator, data.words[~data.seen],
            count=settings.n_synthetic, latent_size=settings.latent_size, width=self.width, generator=draws,
        )  # fmt: skip
        return {self.score_mode: synthesis.score(train, data, made_up, settings, draws)}

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> NoReturn:
        """Not offered.

        Raises:
            AvpipeError: always.
        """
        raise AvpipeError("f-VAEGAN-D2 has no shared space: it classifies with a trained classifier. Use evaluate.")

    def distances(self, audio: Tensor, video: Tensor, words: Tensor) -> NoReturn:
        """Not offered.

        Raises:
            AvpipeError: always.
        """
        raise AvpipeError("f-VAEGAN-D2 has no distances: it classifies with a trained classifier. Use evaluate.")

    def _normal(self, x: Tensor) -> Tensor:
        return x.new_empty(len(x), self.settings.latent_size).normal_(generator=layers.current_generator())

    def _uniform(self, x: Tensor) -> Tensor:
        return x.new_empty(len(x), 1).uniform_(generator=layers.current_generator())

    def _evaluation_draws(self) -> torch.Generator:
        mixed = np.random.SeedSequence([int(self.draws), int(self.steps)]).generate_state(1, np.uint64)
        return torch.Generator(self.device).manual_seed(int(mixed[0]) >> (64 - _SEED_BITS))
