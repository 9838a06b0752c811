"""A plain implementation of the published AVCA procedure, to be timed beside avpipe's.

Source: docs/methods.md, Pairs of clips; AVCA; Two stages.

Nothing is vectorised that the published program does one by one: an item draws its negative in Python, 8 worker
processes collate dictionaries, the step makes every published call separately and waits for its loss, every epoch
has a second pass that only monitors a loss, and the metric is computed anew for each calibration constant.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avpipe.gzsl.models.avca import AVCA
from avpipe.gzsl.tensors import EvaluationSet, TrainingSet

WORKERS = 8
_FAR = 1e14  # the distance of classes that are no candidates
_EPS = 2.22e-16  # keeps 0/0 at 0


class PlainAVCA:
    """The published step written down call by call; it has nothing of `AVCA` but the modules with the parameters."""

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


class PlainPairs(Dataset[Any]):
    """Pairs of a clip and a negative as nested dictionaries; drawn anew for training, fixed where a loss is monitored.

    Args:
        data: the clips; rows of `words` stand for classes.
        is_fixed: whether the negatives are drawn once, here.
    """

    def __init__(self, data: TrainingSet | EvaluationSet, *, is_fixed: bool) -> None:
        self.audio, self.video, self.words, self.labels = data.audio, data.video, data.words, data.labels
        self.urls = np.array([f"clip_{row:06d}" for row in range(len(data.labels))])
        self.classes = set(self.labels.tolist())
        self.rows = {each: np.where(self.labels.numpy() == each)[0] for each in self.classes}
        self.fixed = [self._negative(label) for label in self.labels.tolist()] if is_fixed else None

    def __len__(self) -> int:
        return len(self.labels)

    def _negative(self, label: int) -> int:
        other = np.random.choice(list(self.classes - {label}))
        return int(np.random.choice(self.rows[int(other)]))

    def __getitem__(self, index: int) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
        label = int(self.labels[index].item())
        if self.fixed is None:
            second = index
            while second == index:  # the published program draws a second positive and throws it away
                second = np.random.choice(self.rows[label])
            negative = self._negative(label)
        else:
            negative = self.fixed[index]
        other = int(self.labels[negative].item())
        pair = {"positive": self._part(index, label), "negative": self._part(negative, other)}
        return pair, {"positive": label, "negative": other}

    def _part(self, row: int, label: int) -> dict[str, Any]:
        position = list(self.classes).index(label)  # searched for, as published, though it is known
        return {
            "audio": self.audio[row], "video": self.video[row], "text": self.words[position], "url": self.urls[row],
        }  # fmt: skip


class BalancedBatches:
    """Batches of rows in which every class is equally likely, one weighted draw over all clips a batch.

    Args:
        labels: int64 [n].
        batches: in an epoch.
        batch_size: rows in a batch.
    """

    def __init__(self, labels: Tensor, batches: int, batch_size: int) -> None:
        counts = torch.bincount(labels)
        self.weights = 1.0 / (counts.count_nonzero() * counts[labels]).double()
        self.batches, self.batch_size = batches, batch_size

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.batches):
            yield torch.multinomial(self.weights, self.batch_size, replacement=True).tolist()


@dataclass(frozen=True)
class EpochSeconds:
    """Wall seconds of the parts of an epoch.

    Attributes:
        starting: until each of the two loaders has its first batch: starting the workers, mostly.
        training, monitoring: the two passes from there on.
        evaluation: the metric.
    """

    starting: float
    training: float
    monitoring: float
    evaluation: float


class PlainEpochs:
    """Epochs as the published program runs them.

    Args:
        model: on the CPU.
        train: trained on.
        validation: the loss is monitored and the metric computed on it.
        batches: in an epoch and in the pass that monitors the loss.
        batch_size: pairs in a batch.
        n_classes: classes of the source dataset, used or not.
    """

    def __init__(
        self,
        model: AVCA,
        train: TrainingSet,
        validation: EvaluationSet,
        *,
        batches: int,
        batch_size: int,
        n_classes: int,
    ) -> None:
        self.model, self.plain, self.validation, self.n_classes = model, PlainAVCA(model), validation, n_classes
        self.optimizer = plain_adam(model)
        warnings.filterwarnings("ignore", "This DataLoader will create")  # 8 workers on 2 cores are the point
        self.train_loader, self.val_loader = (
            DataLoader(
                PlainPairs(data, is_fixed=data is validation),
                batch_sampler=BalancedBatches(data.labels, batches, batch_size),
                num_workers=WORKERS,
                multiprocessing_context="fork",  # Linux's default, also below a process that was not forked
            )
            for data in (train, validation)
        )

    def run(self) -> EpochSeconds:
        """One epoch."""
        self.model.train()
        start_train, training = self._pass(self.train_loader, lambda b: plain_step(self.plain, self.optimizer, b))
        self.model.eval()
        with torch.no_grad():
            start_val, monitoring = self._pass(self.val_loader, self._monitor)
        began = time.perf_counter()
        self.evaluate()
        return EpochSeconds(start_train + start_val, training, monitoring, time.perf_counter() - began)

    def _pass(self, loader: DataLoader[Any], step: Callable[[dict[str, Tensor]], float]) -> tuple[float, float]:
        """Seconds until the first batch is there, and from then on to the end."""
        began = first = time.perf_counter()
        total, is_first = 0.0, True
        for pair, _ in loader:
            if is_first:
                first, is_first = time.perf_counter(), False
            total += step(_batch(pair))
        return first - began, time.perf_counter() - first

    def _monitor(self, batch: dict[str, Tensor]) -> float:
        loss = self.plain.losses(batch).item()
        self.plain.leftover(batch)
        return loss

    def evaluate(self) -> dict[str, float]:
        """The metric on the validation clips."""
        data = self.validation
        with torch.no_grad():
            theta_v, theta_w = self.plain.leftover({"audio": data.audio, "video": data.video, "text": data.words})
            return plain_metric(theta_v, theta_w, data, n_classes=self.n_classes)


def plain_adam(model: AVCA) -> torch.optim.Adam:
    """Adam that updates one parameter after the other."""
    return torch.optim.Adam(model.parameters(), 1e-3, weight_decay=1e-5, foreach=False)


def plain_step(plain: PlainAVCA, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> float:
    """One training step; returns the loss, for which it waits."""
    optimizer.zero_grad()
    loss = plain.losses(batch)
    loss.backward()
    optimizer.step()
    plain.leftover(batch)
    return loss.item()


def plain_metric(
    embeddings: Tensor, classes: Tensor, data: EvaluationSet, *, n_classes: int, betas: Sequence[float] | None = None
) -> dict[str, float]:
    """Accuracies (0 to 1) at the constant with the best harmonic mean, every constant computed from the start.

    Args:
        embeddings: [N, d], of the clips; classes: [C, d], of the candidates.
        data: labels, candidates and which of them are seen.
        n_classes: columns of the matrices, all classes of the source dataset.
        betas: constants; None: 0 to 3 in 16 steps.
    """
    columns = torch.as_tensor(data.class_ids)
    labels, seen, unseen = columns[data.labels], columns[data.seen], columns[~data.seen]
    results = []
    for beta in torch.linspace(0, 3, 16) if betas is None else torch.tensor(betas):
        # Two matrices are filled and the second is then replaced; masks are whole numbers. As published.
        distances, among_unseen = (torch.zeros(len(embeddings), n_classes) + _FAR for _ in range(2))
        distances[:, columns] = torch.cdist(embeddings, classes)
        far_if_seen = torch.zeros(n_classes, dtype=torch.long)
        far_if_seen[seen] = int(_FAR)
        among_unseen = distances + far_if_seen
        added = torch.zeros(n_classes, dtype=torch.long) + beta
        added[unseen] = 0
        among_all = _per_class((distances + added).argmin(1), labels, n_classes)
        zsl = _per_class(among_unseen.argmin(1), labels, n_classes)[unseen].mean().item()
        s, u = among_all[seen].mean().item(), among_all[unseen].mean().item()
        hm = 2 * u * s / (u + s + _EPS)
        results.append({"seen": s, "unseen": u, "hm": hm, "zsl": zsl, "beta": beta.item()})
    return max(results, key=lambda result: result["hm"])


def _per_class(prediction: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Accuracy of every class; 0/0 for those without clips."""
    hits = torch.bincount(prediction[prediction == labels], minlength=n_classes).double()
    return hits / torch.bincount(labels, minlength=n_classes)


def _batch(pair: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """A collated pair in the names that the step reads."""
    names = ("audio", "video", "text")
    negatives = {f"{name}_neg": pair["negative"][name] for name in names}
    return {name: pair["positive"][name] for name in names} | negatives
