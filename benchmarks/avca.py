"""AVCA's training step and evaluation beside a plain implementation of the published step, at UCF-GZSL's sizes.

Both run in the same process on generated features: 3,174 training clips of 30 classes, batches of 256 pairs, 1,820
validation clips of 42 classes, 16 calibration constants. The plain step makes every published call separately,
with torch's own layers; its evaluation takes one argmin over all classes per constant. Rounds of the two
alternate, and the fastest batch of each counts, so that other load on the machine does not decide.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avpipe.gzsl import models
from avpipe.gzsl.evaluation import calibrated_stacking
from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.runtime import keep_freed_memory
from avpipe.gzsl.sampler import PairSampler

BETAS = np.linspace(0, 3, 16, dtype=np.float32)


class PlainAVCA:
    """The published step written down call by call; shares only the parameters' modules with `AVCA`."""

    def __init__(self, model: AVCA) -> None:
        self.model = model

    def attend(self, phi_audio: Tensor, phi_video: Tensor) -> tuple[Tensor, Tensor]:
        """The transformer on one batch of pairs."""
        m = self.model
        x = torch.stack((phi_audio + m.pos_emb1D[0], phi_video + m.pos_emb1D[1]), 1)
        for attention, feed_forward in m.cross_attention.layers:
            inner = attention.fn
            q, k, v = inner.to_qkv(attention.norm(x)).chunk(3, dim=-1)
            q, k, v = (t.view(len(x), 2, 3, 100).transpose(1, 2) for t in (q, k, v))
            weights = (torch.matmul(q, k.transpose(-1, -2)) * 100**-0.5).softmax(-1)
            x = x + inner.to_out(torch.matmul(weights, v).transpose(1, 2).reshape(len(x), 2, 300))
            x = x + feed_forward.fn.net(feed_forward.norm(x))
        return x[:, 0], x[:, 1]

    def losses(self, b: dict[str, Tensor]) -> Tensor:
        """The total loss, in the published order of calls."""
        m = self.model
        phi_a, phi_v = m.A_enc.fc(b["audio"]), m.V_enc.fc(b["video"])
        phi_an, phi_vn = m.A_enc.fc(b["audio_neg"]), m.V_enc.fc(b["video_neg"])
        w, wn = m.W_proj.fc(b["text"]), m.W_proj.fc(b["text_neg"])
        rho_w, _ = m.D.fc(w), m.D.fc(wn)
        (t_a, t_v), (t_an, t_vn) = self.attend(phi_a, phi_v), self.attend(phi_an, phi_vn)
        v, vn = m.V_proj.fc(phi_v + t_v), m.V_proj.fc(phi_vn + t_vn)
        a, an = m.A_proj.fc(phi_a + t_a), m.A_proj.fc(phi_an + t_an)
        rec_v, rec_a = m.V_rec.fc(v), m.A_rec.fc(a)
        m.A_proj.fc(rec_a)
        m.V_proj.fc(rec_v)
        rho_a, rho_an, rho_v, rho_vn = m.D.fc(a), m.D.fc(an), m.D.fc(v), m.D.fc(vn)
        t, mse = torch.nn.TripletMarginLoss(margin=1.0), F.mse_loss
        text = b["text"]
        return (
            mse(text, rho_v) + mse(text, rho_a) + mse(text, rho_w)
            + t(rho_w, rho_a, rho_an) + t(rho_w, rho_v, rho_vn)
            + t(w, a, an) + t(w, v, vn) + t(a, w, wn) + t(v, w, wn)
            + t(a, w, an) + t(v, w, vn) + t(w, a, wn) + t(w, v, wn)
            + mse(rec_v, phi_v) + mse(rec_a, phi_a) + mse(v, w) + mse(a, w)
        )  # fmt: skip

    def leftover(self, b: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The embedding call after the step; also what the evaluation runs."""
        m = self.model
        phi_a, phi_v = m.A_enc.fc(b["audio"]), m.V_enc.fc(b["video"])
        theta_w = m.W_proj.fc(b["text"])
        t_a, t_v = self.attend(phi_a, phi_v)
        theta_v = m.V_proj.fc(phi_v + t_v)
        m.A_proj.fc(phi_a + t_a)
        return theta_v, theta_w

    def evaluate(self, data: dict[str, Tensor], seen: Tensor) -> float:
        """Best harmonic mean, by one argmin over all classes for every constant."""
        with torch.no_grad():
            theta_v, theta_w = self.leftover(data)
            best = 0.0
            for beta in torch.linspace(0, 3, 16):
                distances = torch.cdist(theta_v, theta_w) + beta * seen
                hit = (distances.argmin(1) == data["labels"]).double()
                n = torch.bincount(data["labels"], minlength=len(seen))
                rate = torch.bincount(data["labels"], weights=hit, minlength=len(seen)) / n
                s, u = rate[seen].mean().item(), rate[~seen].mean().item()
                best = max(best, 2 * s * u / (s + u + 2.22e-16))
        return best


def timed(function: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(audio_dim: int, video_dim: int, rounds: int, batches: int, dropouts: list[float]) -> None:
    """Print the comparison for one feature set."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3174) % 30
    audio, video, words = torch.randn(3174, audio_dim), torch.randn(3174, video_dim), torch.randn(42, 300)
    sampler = PairSampler(labels)
    rates = dict(zip(("embedding_dropout", "decoder_dropout", "additional_dropout"), dropouts, strict=True))

    def make() -> tuple[AVCA, torch.optim.Adam]:
        model = models.build("avca", audio_dim=audio_dim, video_dim=video_dim, **rates)
        assert isinstance(model, AVCA)
        return model, torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-5, fused=True)

    ours, our_adam = make()
    shared, _ = make()
    plain = PlainAVCA(shared)
    plain_adam = torch.optim.Adam(shared.parameters(), 1e-3, weight_decay=1e-5)

    def gather() -> dict[str, Tensor]:
        positive, negative = (index[0] for index in sampler.draw(1, 256, generator))
        return {
            name + suffix: source.index_select(0, index)
            for suffix, index in (("", positive), ("_neg", negative))
            for name, source in (("audio", audio), ("video", video), ("text", words[labels]))
        }

    def our_step(track: bool) -> None:
        batch = gather()
        our_adam.zero_grad()
        ours.losses(batch, track_statistics=track)["total"].backward()
        our_adam.step()
        ours.after_step(batch, track_statistics=track)

    def plain_step() -> None:
        batch = gather()
        plain_adam.zero_grad()
        loss = plain.losses(batch)
        loss.backward()
        plain_adam.step()
        plain.leftover(batch)
        loss.item()

    times: dict[str, list[float]] = {"plain": [], "tracked": [], "untracked": []}
    for _ in range(rounds):
        for _ in range(batches):
            times["plain"].append(timed(plain_step))
        for _ in range(batches):
            times["tracked"].append(timed(lambda: our_step(True)))
            times["untracked"].append(timed(lambda: our_step(False)))
    plain_s, tracked, untracked = (min(times[name]) for name in ("plain", "tracked", "untracked"))
    horizon = min(ours.statistics_horizon(), 500)
    epoch = horizon * tracked + (500 - horizon) * untracked
    print(f"inputs {audio_dim} / {video_dim}, dropout {dropouts}")
    print(f"  plain step      {1e3 * plain_s:7.1f} ms   {1 / plain_s:6.1f} steps/s")
    print(f"  avpipe step     {1e3 * epoch / 500:7.1f} ms   {500 / epoch:6.1f} steps/s, mean over an epoch of 500:")
    print(f"    {500 - horizon} steps of {1e3 * untracked:.1f} ms, then")
    print(f"    {horizon} steps of {1e3 * tracked:.1f} ms with BatchNorm's side effects, which the others leave out")
    print(f"  ratio           {500 * plain_s / epoch:7.2f}x")

    data = {
        "audio": torch.randn(1820, audio_dim), "video": torch.randn(1820, video_dim), "text": words,
        "labels": torch.arange(1820) % 42,
    }  # fmt: skip
    seen = torch.arange(42) < 30
    ours.eval()
    shared.eval()

    def our_evaluation() -> None:
        with torch.no_grad():
            distances = ours.distances(data["audio"], data["video"], words)["video"]
        calibrated_stacking(distances, data["labels"], seen, BETAS)

    n = 2 * rounds
    pairs = [(timed(lambda: plain.evaluate(data, seen)), timed(our_evaluation)) for _ in range(n)]
    plain_e, our_e = (min(column) for column in zip(*pairs, strict=True))
    print(f"  evaluation      plain {1e3 * plain_e:.1f} ms, avpipe {1e3 * our_e:.1f} ms, ratio {plain_e / our_e:.2f}x")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python benchmarks/avca.py --inputs main --rounds 3",
    )  # fmt: skip
    parser.add_argument(
        "--inputs", choices=["main", "cls", "both"], default="both",
        help="main: SeLaVi, 512 audio and 512 video; cls: VGGish 128 and C3D 4096 (default: both)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=2, help="CPU threads torch may use (default: 2)")
    parser.add_argument("--rounds", type=int, default=4, help="alternations between the two (default: 4)")
    parser.add_argument("--batches", type=int, default=8, help="batches of each per round (default: 8)")
    parser.add_argument(
        "--dropout", type=float, nargs=3, default=[0.2, 0.3, 0.5], metavar=("EMBEDDING", "DECODER", "ADDITIONAL"),
        help="dropout rates (default: 0.2 0.3 0.5, as published for UCF)",
    )  # fmt: skip
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as training does; it helps both
    print(f"torch {torch.__version__}, {arguments.threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    sizes = {"main": (512, 512), "cls": (128, 4096)}
    for name in sizes if arguments.inputs == "both" else [arguments.inputs]:
        measure(*sizes[name], arguments.rounds, arguments.batches, arguments.dropout)


if __name__ == "__main__":
    main()
