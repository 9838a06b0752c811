"""f-VAEGAN-D2 against values by hand, against numpy, and against a plain program with autograd's gradient penalty."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avpipe.errors import AvpipeError
from avpipe.gzsl import models
from avpipe.gzsl.models import synthesis
from avpipe.gzsl.models.fvaegan import FVAEGAN
from avpipe.gzsl.models.layers import current_generator, draws_from
from avpipe.gzsl.models.settings import FVAEGANSettings, TrainingSettings
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

AUDIO, VIDEO, WORD, LATENT, B = 3, 4, 300, 5, 6
WIDTH = AUDIO + VIDEO
SMALL = {
    "latent_size": LATENT, "encoder_hidden_size": 4, "generator_hidden_size": 6, "critic_hidden_size": 8,
    "generator_every": 3, "n_synthetic": 20, "classifier_epochs": 4,
}  # fmt: skip


def small(seed: int = 0, **settings: float) -> FVAEGAN:
    torch.manual_seed(seed)
    model = models.build("fvaegan", audio_dim=AUDIO, video_dim=VIDEO, **SMALL | settings)
    assert isinstance(model, FVAEGAN)
    return model


def lively(**settings: float) -> FVAEGAN:
    """In float64, with weights large enough for every term to matter and for both sides of every kink."""
    model = small(**settings).double()
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return model


def batch(seed: int = 2) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(B, width, generator=draws, dtype=torch.float64)
        for name, width in (("audio", AUDIO), ("video", VIDEO), ("text", WORD))
    }


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """x of length 1, words, noise, share and code noise."""
    draws = torch.Generator().manual_seed(3)
    x = F.normalize(torch.rand(B, WIDTH, generator=draws, dtype=dtype))
    normal = [torch.randn(B, n, generator=draws, dtype=dtype) for n in (WORD, LATENT, LATENT)]
    return x, normal[0] / 17, normal[1], torch.rand(B, 1, generator=draws, dtype=dtype), normal[2]


def set_all(module: nn.Module, value: float) -> None:
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)


def test_terms_by_hand() -> None:
    """Networks that are constant or linear, so that every term is one line of arithmetic."""
    model = small(gan_weight=7.0, gradient_penalty=10.0).double()
    x, words, noise, share, code_noise = inputs()
    for part in (model.encoder, model.generator, model.critic):
        set_all(part, 0.0)
    nn.init.constant_(model.encoder.mean.bias, 0.5)
    nn.init.constant_(model.encoder.log_variance.bias, -1.0)
    with torch.no_grad():  # D(x, w) = 3 x_0 + 1: its only hidden unit is positive everywhere
        model.critic.hidden.weight[0, 0] = 1.0
        model.critic.hidden.bias[0] = 10.0
        model.critic.out.weight[0, 0] = 3.0
        model.critic.out.bias.fill_(1.0 - 30.0)
    critic = model.critic_losses(x, words, noise, share)
    made_up = 0.5  # every component of G: a sigmoid of 0
    assert critic["wasserstein"].item() == pytest.approx(3 * (x[:, 0].mean().item() - made_up), rel=1e-12)
    assert critic["gradient_penalty"].item() == pytest.approx(10 * (3 - 1) ** 2, rel=1e-12)
    assert critic["critic"].item() == pytest.approx(40 - critic["wasserstein"].item(), rel=1e-12)
    terms = model.generator_losses(x, words, noise, code_noise)
    assert terms["adversarial_code"].item() == pytest.approx(-7 * (3 * made_up + 1), rel=1e-12)
    assert terms["adversarial_noise"].item() == pytest.approx(-7 * (3 * made_up + 1), rel=1e-12)
    assert terms["reconstruction"].item() == pytest.approx(B * WIDTH * math.log(2), rel=1e-12)
    assert terms["kl"].item() == pytest.approx(-0.5 * B * LATENT * (1 - 1 - 0.25 - math.exp(-1)), rel=1e-12)
    assert terms["total"].item() == pytest.approx(sum(v.item() for k, v in terms.items() if k != "total"), rel=1e-12)


def test_terms_equal_numpy() -> None:
    """The formulas of docs/methods.md, f-VAEGAN-D2, in numpy; float64 on both sides, so 1e-10 is for rounding alone."""
    model = lively()
    x, words, noise, share, code_noise = inputs()
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}

    def layer(name: str, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts, 1) @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def critic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = layer("critic.hidden", x, w)
        slopes = np.where(hidden > 0, 1.0, 0.2)
        verdict = layer("critic.out", hidden * slopes)[:, 0]
        gradient = np.einsum("bh,h,hd->bd", slopes, p["critic.out.weight"][0], p["critic.hidden.weight"][:, :WIDTH])
        return verdict, gradient

    def generated(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-layer("generator.out", np.maximum(layer("generator.hidden", z, w), 0))))

    real, w, z, a, e = (t.numpy() for t in (x, words, noise, share, code_noise))
    fake = generated(z)
    penalty = 10 * ((np.linalg.norm(critic(a * real + (1 - a) * fake)[1], axis=1) - 1) ** 2).mean()
    wasserstein = critic(real)[0].mean() - critic(fake)[0].mean()
    hidden = np.maximum(layer("encoder.hidden", real, w), 0)
    mean, log_variance = layer("encoder.mean", hidden), layer("encoder.log_variance", hidden)
    rebuilt = generated(mean + np.exp(log_variance / 2) * e)
    expected = {
        "wasserstein": wasserstein,
        "gradient_penalty": penalty,
        "critic": penalty - wasserstein,
        "adversarial_code": -1e5 * critic(rebuilt)[0].mean(),
        "adversarial_noise": -1e5 * critic(fake)[0].mean(),
        "reconstruction": -(real * np.log(rebuilt) + (1 - real) * np.log(1 - rebuilt)).sum(),
        "kl": -0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)).sum(),
    }
    expected["total"] = sum(list(expected.values())[3:])
    found = model.critic_losses(x, words, noise, share) | model.generator_losses(x, words, noise, code_noise)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value, rel=1e-10), name


def test_slopes_and_their_gradients_equal_autograds() -> None:
    """The closed form against a differentiated gradient; float64, so 1e-10 only leaves room for rounding."""
    critic = lively().critic
    x, words, *_ = inputs()
    x.requires_grad_()
    hidden = F.linear(torch.cat((x, words), 1), critic.hidden.weight, critic.hidden.bias)
    assert (hidden > 0).any() and (hidden < 0).any()
    verdicts = F.linear(F.leaky_relu(hidden, 0.2), critic.out.weight, critic.out.bias)
    (by_autograd,) = torch.autograd.grad(verdicts.sum(), x, create_graph=True)
    closed = critic.slopes(x, words)
    torch.testing.assert_close(closed, by_autograd, rtol=0, atol=1e-10)
    weights = (critic.hidden.weight, critic.out.weight)
    of_both = [
        torch.autograd.grad((slopes.norm(2, 1) - 1).square().mean(), weights) for slopes in (closed, by_autograd)
    ]
    for of_closed, of_autograd in zip(*of_both, strict=True):
        assert of_autograd.abs().max() > 1e-3
        torch.testing.assert_close(of_closed, of_autograd, rtol=0, atol=1e-10)


def test_frozen_critic_says_the_same_and_gets_no_gradients() -> None:
    model = lively()
    x, words, noise, _, code_noise = inputs()
    torch.testing.assert_close(model.critic.frozen(x, words), model.critic(x, words), rtol=1e-12, atol=1e-12)
    model.generator_losses(x, words, noise, code_noise)["total"].backward()
    assert all(p.grad is None for p in model.critic.parameters())
    assert all(p.grad is not None for p in (*model.encoder.parameters(), *model.generator.parameters()))


def test_generator_gets_no_gradients_from_the_critics_terms() -> None:
    model = lively()
    x, words, noise, share, _ = inputs()
    model.critic_losses(x, words, noise, share)["critic"].backward()
    assert all(p.grad is None for p in (*model.encoder.parameters(), *model.generator.parameters()))
    assert all(p.grad is not None for p in model.critic.parameters())


def test_negative_components_can_be_reconstructed() -> None:
    """Cross-entropy is linear in its target, also outside 0 to 1, where torch's own function refuses it."""
    model = small().double()
    set_all(model.generator, 0.0)
    nn.init.constant_(model.generator.out.bias, 1.0)
    x, words, noise, _, code_noise = inputs()
    term = model.generator_losses(-x, words, noise, code_noise)["reconstruction"].item()
    probability = 1 / (1 + math.exp(-1))
    sums = -x.sum().item(), (1 + x).sum().item()
    assert term == pytest.approx(-sums[0] * math.log(probability) - sums[1] * math.log(1 - probability), rel=1e-12)


def plain_program(
    parts: dict[str, nn.ModuleDict], settings: FVAEGANSettings, learning_rate: float
) -> Callable[[dict[str, Tensor], int, torch.Generator], None]:
    """One step of docs/methods.md, f-VAEGAN-D2, the long way: own forward passes, BCE of a sigmoid, double backward."""

    def joined(*tensors: Tensor) -> Tensor:
        return torch.cat(tensors, 1)

    def critic(x: Tensor, w: Tensor) -> Tensor:
        return parts["critic"]["out"](F.leaky_relu(parts["critic"]["hidden"](joined(x, w)), 0.2))

    def generate(z: Tensor, w: Tensor) -> Tensor:
        return torch.sigmoid(parts["generator"]["out"](torch.relu(parts["generator"]["hidden"](joined(z, w)))))

    adams = {
        name: torch.optim.Adam(part.parameters(), lr=learning_rate, betas=(0.5, 0.999)) for name, part in parts.items()
    }

    def step(batch: dict[str, Tensor], index: int, draws: torch.Generator) -> None:
        x, w = F.normalize(joined(batch["audio"], batch["video"])), batch["text"]
        z = torch.randn(len(x), LATENT, generator=draws, dtype=x.dtype)
        share = torch.rand(len(x), 1, generator=draws, dtype=x.dtype)
        fake = generate(z, w).detach()
        between = (share * x + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between, w).sum(), between, create_graph=True)
        penalty = settings.gradient_penalty * ((slope.norm(2, dim=1) - 1) ** 2).mean()
        adams["critic"].zero_grad()
        (critic(fake, w).mean() - critic(x, w).mean() + penalty).backward()
        adams["critic"].step()
        if index % settings.generator_every:
            return
        hidden = torch.relu(parts["encoder"]["hidden"](joined(x, w)))
        mean, log_variance = parts["encoder"]["mean"](hidden), parts["encoder"]["log_variance"](hidden)
        code = torch.randn(len(x), LATENT, generator=draws, dtype=x.dtype) * torch.exp(0.5 * log_variance) + mean
        rebuilt = generate(code, w)
        adversarial = -critic(rebuilt, w).mean() - critic(generate(z, w), w).mean()
        divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        adams["generator"].zero_grad()
        adams["encoder"].zero_grad()
        entropy = F.binary_cross_entropy(rebuilt, x, reduction="sum")
        (settings.gan_weight * adversarial + entropy + divergence).backward()
        adams["generator"].step()
        adams["encoder"].step()

    return step


def test_steps_equal_a_plain_program() -> None:
    """Seven steps, three of which update the generator. float64 on both sides; fused and plain Adam round apart."""
    model = lively()
    parts = {
        name: nn.ModuleDict({k: copy.deepcopy(v) for k, v in getattr(model, name).named_children()})
        for name in ("critic", "generator", "encoder")
    }
    step = plain_program(parts, model.settings, 1e-3)
    optimizers = model.optimizers(TrainingSettings().resolved("corrected"))
    before = copy.deepcopy(model.state_dict())
    ours, theirs = (torch.Generator().manual_seed(11) for _ in range(2))
    for index in range(7):
        with draws_from(ours):
            model.training_step(batch(index), optimizers, index=index)
        step(batch(index), index, theirs)
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            found = model.state_dict()[f"{name}.{key}"]
            # The critic's last bias cancels in the difference of verdicts: it stays.
            assert torch.equal(found, before[f"{name}.{key}"]) == (f"{name}.{key}" == "critic.out.bias")
            torch.testing.assert_close(found, value, rtol=0, atol=1e-9, msg=f"{name}.{key}")


def test_which_parameters_move_at_which_batch() -> None:
    model = lively()
    optimizers = model.optimizers(TrainingSettings().resolved("corrected"))
    assert [model.step_kind(index) for index in range(7)] == [0, 1, 1, 0, 1, 1, 0]
    for index in range(7):
        before = copy.deepcopy(model.state_dict())
        terms = model.training_step(batch(index), optimizers, index=index)
        moved = {
            name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
        }
        is_full = index % 3 == 0
        assert moved == {"critic", "steps"} | ({"generator", "encoder"} if is_full else set())
        assert ("total" in terms, "kl" in terms, "critic" in terms) == (is_full, is_full, True)
        assert int(model.steps) == index + 1


def test_optimizers() -> None:
    model = small()
    training = model.settings.training(TrainingSettings(learning_rate=3e-4)).resolved("corrected")
    adams = model.optimizers(training)
    for optimizer, part in zip(adams, (model.critic, model.generator, model.encoder), strict=True):
        (group,) = optimizer.param_groups
        assert {id(p) for p in group["params"]} == {id(p) for p in part.parameters()}
        assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 0.0)
    assert sum(len(a.param_groups[0]["params"]) for a in adams) == len(list(model.parameters()))


def test_initial_weights() -> None:
    """Critic N(0, 0.02) with biases 0; 200,000 weights: their deviation is known to 0.2 %, 2 % is far outside."""
    torch.manual_seed(0)
    model = models.build("fvaegan", audio_dim=64, video_dim=64, critic_hidden_size=512)
    assert isinstance(model, FVAEGAN)
    assert model.critic.hidden.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not model.critic.hidden.bias.any() and not model.critic.out.bias.any()
    assert model.generator.hidden.bias.abs().max() > 0


def test_losses_have_the_terms_of_both_updates() -> None:
    model = lively()
    draws = torch.Generator().manual_seed(5)
    with draws_from(draws):
        terms = model.losses(batch())
    draws.manual_seed(5)
    with draws_from(draws):
        taken = model.training_step(batch(), model.optimizers(TrainingSettings().resolved("corrected")), index=0)
    assert list(terms) == list(taken)
    for name in ("wasserstein", "gradient_penalty", "critic", "reconstruction", "kl"):
        assert terms[name].item() == taken[name].item()
    assert terms["adversarial_code"].item() != taken["adversarial_code"].item()


def test_training_draws_from_the_given_generator_alone() -> None:
    model = lively()
    optimizers = model.optimizers(TrainingSettings().resolved("corrected"))
    before, draws = torch.get_rng_state(), torch.Generator().manual_seed(5)
    state = draws.get_state()
    with draws_from(draws):
        assert current_generator() is draws
        model.training_step(batch(), optimizers, index=0)
    assert current_generator() is None
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(draws.get_state(), state)


def sets(seed: int = 0) -> tuple[TrainingSet, EvaluationSet]:
    """Classes 2, 5, 9 are seen, 3 and 7 are not."""
    draws = torch.Generator().manual_seed(seed)
    words = F.normalize(torch.randn(10, WORD, generator=draws))
    seen, everything = np.array([2, 5, 9]), np.array([2, 3, 5, 7, 9])

    def features(n: int) -> tuple[Tensor, Tensor]:
        return torch.rand(n, AUDIO, generator=draws), torch.rand(n, VIDEO, generator=draws)

    train = TrainingSet(*features(60), torch.arange(60) % 3, words[seen], seen)
    is_seen = torch.tensor([True, False, True, False, True])
    return train, EvaluationSet(*features(50), torch.arange(50) % 5, words[everything], everything, is_seen)


@pytest.mark.parametrize("published", [False, True])
def test_evaluation_is_repeatable_and_leaves_no_trace(published: bool) -> None:
    model = small(chooses_on_test=published)
    train, data = sets()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first = model.evaluate(train, data, [0.0])["both"]
    with torch.no_grad():
        second = model.evaluate(train, data, np.zeros(1, np.float32), modes=("both",))["both"]
    for name in ("seen", "unseen", "hm", "zsl", "per_class_gzsl", "per_class_zsl"):
        np.testing.assert_array_equal(first[name], second[name])
    assert first.betas.tolist() == [0.0]
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model.training


def made_up_by(model: FVAEGAN, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The made-up vectors of an evaluation."""
    taken: list[Tensor] = []
    original = synthesis.score
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "score", lambda *arguments: taken.append(arguments[2]) or original(*arguments))
        model.evaluate(*sets(), [0.0])
    return taken[0]


def test_a_stored_state_is_evaluated_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seed of the evaluation's draws is part of the state and differs between seeds and between steps."""
    model = small(seed=1)
    optimizers = model.optimizers(TrainingSettings().resolved("corrected"))
    untrained = made_up_by(model, monkeypatch)
    model.training_step({name: value.float() for name, value in batch().items()}, optimizers, index=0)
    trained = made_up_by(model, monkeypatch)
    other = small(seed=2)
    assert not torch.equal(trained, untrained)
    other.load_state_dict(model.state_dict() | {"draws": other.draws.clone()}, strict=True)
    assert not torch.equal(made_up_by(other, monkeypatch), trained)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(made_up_by(other, monkeypatch), trained)
    np.testing.assert_array_equal(
        model.evaluate(*sets(), [0.0])["both"].per_class_gzsl, other.evaluate(*sets(), [0.0])["both"].per_class_gzsl
    )
    draws = {int(small(seed=seed).draws) for seed in range(20)}
    assert len(draws) == 20
    other.steps.add_(1)
    assert not torch.equal(made_up_by(other, monkeypatch), trained)


def test_made_up_vectors_are_those_of_the_unseen_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise cut off every class has one vector of its own; larger weights keep the two apart."""
    model = small()
    with torch.no_grad():
        model.generator.hidden.weight[:, :LATENT] = 0.0
        model.generator.hidden.weight.mul_(50)
    made_up = made_up_by(model, monkeypatch)
    words = sets()[1].words[[1, 3]]
    expected = F.normalize(model.generator(torch.zeros(2, LATENT), words).detach())
    assert made_up.shape == (2, SMALL["n_synthetic"], WIDTH)
    # float32 with other matrix shapes: rounding of 300 products of size 1
    torch.testing.assert_close(made_up, expected[:, None].expand_as(made_up), rtol=0, atol=1e-5)


def test_what_it_does_not_offer() -> None:
    model = small()
    clips = torch.zeros(2, AUDIO), torch.zeros(2, VIDEO), torch.zeros(2, WORD)
    for call in (model.embed, model.distances):
        with pytest.raises(AvpipeError, match="trained classifier"):
            call(*clips)
    with pytest.raises(AvpipeError, match="not audio"):
        model.evaluate(*sets(), [0.0], modes=("both", "audio"))
    assert (model.is_calibrated, model.is_scheduled, model.score_mode) == (False, False, "both")
