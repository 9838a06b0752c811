"""AVCA: audio-visual cross-attention for generalised zero-shot learning (CVPR 2022; docs/methods.md, AVCA)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from avpipe.gzsl.models.base import Method, pair
from avpipe.gzsl.models.layers import Block, PairTransformer
from avpipe.gzsl.models.settings import AVCASettings
from avpipe.gzsl.tensors import Batch

WORD_DIM = 300
JOINT_DIM = 64
_TRIPLET_MARGIN = 1.0
_TRIPLET_EPS = 1e-6  # added to every component of a difference, as torch's TripletMarginLoss does
_FORGOTTEN = 1e-12  # far below float32's rounding (6e-8): a statistic of this weight can no longer be seen


class AVCA(Method):
    """The published model; its state dict has the published names, `pos_emb1D` is a buffer that is not trained.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: resolved hyper-parameters (no quirk left open).
    """

    word_dim = WORD_DIM
    calibration_modes = ("video",)
    extra_modes = ("audio", "both")
    score_mode = "video"
    pos_emb1D: Tensor  # noqa: N815 - the published name

    def __init__(self, audio_dim: int, video_dim: int, settings: AVCASettings) -> None:
        super().__init__()
        self.settings = settings
        p_embedding, p_decoder = settings.embedding_dropout, settings.decoder_dropout
        p_additional, momentum = settings.additional_dropout, settings.momentum
        hidden, decoder_hidden = settings.embeddings_hidden_size, settings.decoder_hidden_size

        self.A_enc = Block(audio_dim, WORD_DIM, p_embedding, hidden=hidden, momentum=momentum)
        self.V_enc = Block(video_dim, WORD_DIM, p_embedding, hidden=hidden, momentum=momentum)
        self.cross_attention = PairTransformer(
            WORD_DIM, settings.depth_transformer, heads=3, head_width=100, hidden=64, dropout=p_embedding
        )
        self.W_proj = Block(WORD_DIM, JOINT_DIM, p_additional)
        self.D = Block(JOINT_DIM, WORD_DIM, p_additional)
        self.A_proj = Block(WORD_DIM, JOINT_DIM, p_decoder, hidden=decoder_hidden, momentum=momentum)
        self.V_proj = Block(WORD_DIM, JOINT_DIM, p_decoder, hidden=decoder_hidden, momentum=momentum)
        self.A_rec = Block(JOINT_DIM, WORD_DIM, p_additional)
        self.V_rec = Block(JOINT_DIM, WORD_DIM, p_additional)
        # A parameter in the published program, but one its optimiser never gets (docs/methods.md, AVCA).
        self.register_buffer("pos_emb1D", torch.randn(2, WORD_DIM))

    def embed(self, audio: Tensor, video: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings in the joint space, all non-negative.

        Args:
            audio: [N, d_a]; video: [N, d_v]; text: [C, 300], C need not be N.

        Returns:
            theta_audio [N, 64], theta_video [N, 64], theta_text [C, 64].
        """
        _, _, theta_audio, theta_video = self._encode(audio[:, None], video[:, None], True)
        return theta_audio[:, 0], theta_video[:, 0], self.W_proj(text[:, None])[:, 0]

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> dict[str, Tensor]:
        """The 17 terms of the loss (names and order of the table in docs/methods.md, AVCA) and their sum, "total".

        The terms of `additional_triplets_loss` (first_*, second_*) and `reg_loss` (reg_*) are absent when switched
        off. Group axes below: sign is (positive, negative), modality is (audio, video).

        Args:
            batch: audio, audio_neg [B, d_a], video, video_neg [B, d_v], text, text_neg [B, 300].
            track_statistics: whether the running statistics of BatchNorm move. False also skips the calls that
                have no other effect.
        """
        settings = self.settings
        audio, video, text = (pair(batch, name) for name in ("audio", "video", "text"))
        phi_audio, phi_video, theta_audio, theta_video = self._encode(audio, video, track_statistics)
        theta_text = self.W_proj(text, track_statistics=track_statistics)

        # Called once a step, these two forget slowly; they are always tracked to keep the horizon short.
        audio_rec, video_rec = self.A_rec(theta_audio[:, :1]), self.V_rec(theta_video[:, :1])
        n_texts = 2 if self._unused_calls(audio_rec, video_rec, track_statistics) else 1
        decoded = self.D(
            torch.cat((theta_text[:, :n_texts], theta_audio, theta_video), 1), track_statistics=track_statistics
        )

        target = text[:, 0]
        decoded_texts, decoded_clips = decoded.split((n_texts, 4), 1)
        rho_text, rho = decoded_texts[:, 0], decoded_clips.unflatten(1, (2, 2))  # rho [B, modality, sign, 300]
        theta = torch.stack((theta_audio, theta_video), 1)  # [B, modality, sign, 64]
        phi = torch.stack((phi_audio[:, 0], phi_video[:, 0]), 1)
        phi_rec = torch.cat((audio_rec, video_rec), 1)

        reconstruction = _mse(rho[:, :, 0], target[:, None])
        terms = {"rec_v": reconstruction[1], "rec_a": reconstruction[0], "rec_w": F.mse_loss(rho_text, target)}
        terms |= _triplet_terms(rho_text, rho, theta_text, theta, settings.additional_triplets_loss)
        if settings.reg_loss:
            reg_phi, reg_theta = _mse(phi_rec, phi), _mse(theta[:, :, 0], theta_text[:, :1])
            terms |= {"reg_phi_v": reg_phi[1], "reg_phi_a": reg_phi[0]}
            terms |= {"reg_theta_v": reg_theta[1], "reg_theta_a": reg_theta[0]}
        terms["total"] = torch.stack(tuple(terms.values())).sum()
        return terms

    @torch.no_grad()
    def after_step(self, batch: Batch, *, track_statistics: bool = True) -> None:
        """The leftover embedding pass of the published step: only BatchNorm statistics change.

        Source: docs/methods.md, AVCA.
        """
        if not self.settings.leftover_embedding_pass:
            return
        if track_statistics:
            self.embed(batch["audio"], batch["video"], batch["text"])
        else:
            for block in (self.A_enc, self.V_enc, self.W_proj, self.A_proj, self.V_proj):
                block.count_call()

    def statistics_horizon(self) -> int:
        """Steps after which a running statistic has lost all but 1e-12 of its weight.

        A call with momentum m leaves (1 - m) of what was there; the blocks that `track_statistics` concerns are
        called at least twice in a step, three times with the leftover pass.
        """
        slowest = min(self.settings.momentum, 0.1)
        calls = 3 if self.settings.leftover_embedding_pass else 2
        return math.ceil(math.log(_FORGOTTEN) / math.log1p(-slowest) / calls)

    def _encode(self, audio: Tensor, video: Tensor, track_statistics: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Grouped inputs [B, g, d] to phi_audio, phi_video [B, g, 300], theta_audio, theta_video [B, g, 64]."""
        phi_audio = self.A_enc(audio, track_statistics=track_statistics)
        phi_video = self.V_enc(video, track_statistics=track_statistics)
        tokens = torch.stack((phi_audio, phi_video), -2) + self.pos_emb1D
        attended = self.cross_attention(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        for_audio, for_video = attended.unbind(-2)
        # phi enters the projection twice: here, and through the transformer's own residuals.
        theta_video = self.V_proj(phi_video + for_video, track_statistics=track_statistics)
        theta_audio = self.A_proj(phi_audio + for_audio, track_statistics=track_statistics)
        return phi_audio, phi_video, theta_audio, theta_video

    @torch.no_grad()
    def _unused_calls(self, audio_rec: Tensor, video_rec: Tensor, track_statistics: bool) -> bool:
        """Statistics of the calls whose results nothing uses (docs/methods.md, AVCA).

        Returns:
            Whether D must also be called for the negative text, which has to happen in its place in D's order.
        """
        if not (self.settings.unused_call_statistics and self.training):
            return False
        if track_statistics:
            self.A_proj(audio_rec)
            self.V_proj(video_rec)
            return True
        for block in (self.A_proj, self.V_proj, self.D):
            block.count_call()
        return False


def _mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error per group: [B, g, d] against [B, g or 1, d] -> [g]."""
    return (x - y).square().mean((0, 2))


def _distance(x: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.vector_norm((x + _TRIPLET_EPS) - y, dim=-1)


def _triplet_terms(
    rho_text: Tensor, rho: Tensor, theta_text: Tensor, theta: Tensor, additional: bool
) -> dict[str, Tensor]:
    """All triplet terms T(anchor, positive, negative) from the ten kinds of distances they share.

    Args:
        rho_text: [B, 300]; rho: [B, modality, sign, 300]; theta_text: [B, sign, 64]; theta: [B, modality, sign, 64].
        additional: whether to include the first and second additional triplets.
    """
    anchor = theta[:, :, 0]
    text, text_neg = theta_text[:, 0], theta_text[:, 1]
    decoded = _distance(rho_text[:, None, None], rho)  # [B, modality, sign]
    text_to_clip = _distance(text[:, None, None], theta)  # [B, modality, sign of the clip]
    clip_to_text = _distance(anchor[:, :, None], theta_text[:, None])  # [B, modality, sign of the text]
    gaps = [
        decoded[..., 0] - decoded[..., 1],
        text_to_clip[..., 0] - text_to_clip[..., 1],
        clip_to_text[..., 0] - clip_to_text[..., 1],
    ]
    names = ["ct_a", "ct_v", "ta", "tv", "at", "vt"]
    if additional:
        gaps += [
            clip_to_text[..., 0] - _distance(anchor, theta[:, :, 1]),
            text_to_clip[..., 0] - _distance(text, text_neg)[:, None],
        ]
        names += ["first_a", "first_v", "second_a", "second_v"]
    terms = (torch.cat(gaps, 1) + _TRIPLET_MARGIN).relu().mean(0)
    return dict(zip(names, terms.unbind(), strict=True))
