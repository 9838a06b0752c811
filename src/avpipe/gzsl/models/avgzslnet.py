"""AVGZSLNet: embeddings whose decoder keeps them close to the word vectors (WACV 2021; docs/methods.md, AVGZSLNet)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from avpipe.gzsl.models.base import Losses, pair
from avpipe.gzsl.models.embedding import JOINT_DIM, EmbeddingNet, TripletMethod, triplets
from avpipe.gzsl.models.settings import AVGZSLNetSettings
from avpipe.gzsl.tensors import Batch


class _Decoder(nn.Module):
    """The decoder under its published name."""

    def __init__(self, embedding_net: EmbeddingNet) -> None:
        super().__init__()
        self.embedding_net = embedding_net


class AVGZSLNet(TripletMethod):
    """The published model; its state dict has the published names.

    Args:
        audio_dim: d_a, length of an audio vector.
        video_dim: d_v, length of a video vector.
        settings: hyper-parameters.
    """

    def __init__(self, audio_dim: int, video_dim: int, settings: AVGZSLNetSettings) -> None:
        super().__init__(
            audio_dim, video_dim,
            hidden=settings.embeddings_hidden_size, dropout=settings.embedding_dropout, final_relu=False,
        )  # fmt: skip
        self.settings = settings
        self.decoder_net = _Decoder(
            EmbeddingNet(JOINT_DIM, settings.decoder_hidden_size, self.word_dim, settings.decoder_dropout)
        )

    def losses(self, batch: Batch, *, track_statistics: bool = True) -> Losses:
        """The nine terms of the loss and their sum, "total".

        rec_w, rec_a, rec_v: distance of the decoded text, audio and video embedding to the word vector. ct_a, ct_v:
        triplets of the decoded ones around the text's. ta, tv (at, vt): triplets around the text's (the clip's)
        embedding. Group axes below: modality is (audio, video), sign is (positive, negative).

        Args:
            batch: audio, audio_neg [B, d_a], video, video_neg [B, d_v], text, text_neg [B, 300].
            track_statistics: whether the running statistics of BatchNorm move.

        Raises:
            AvpipeError: fewer than 2 rows in training.
        """
        nets = self.triplet_net
        audio = nets.embedding_net1(pair(batch, "audio"), track_statistics=track_statistics)
        video = nets.embedding_net2(pair(batch, "video"), track_statistics=track_statistics)
        text = nets.embedding_net3(pair(batch, "text"), track_statistics=track_statistics)

        calls = torch.cat((audio[:, :1], video[:, :1], text[:, :1], audio[:, 1:], video[:, 1:]), 1)
        decoded = self.decoder_net.embedding_net(calls, track_statistics=track_statistics)
        if self.settings.normalize_decoder_outputs:
            decoded = F.normalize(decoded, dim=-1)

        rec = torch.linalg.vector_norm(decoded[:, :3] - batch["text"][:, None], dim=-1).mean(0)
        ct = triplets(decoded[:, 2:3], decoded[:, :2], decoded[:, 3:])
        clips = torch.stack((audio, video), 1)  # [B, modality, sign, 64]
        around_text = triplets(text[:, :1], clips[:, :, 0], clips[:, :, 1])
        around_clip = triplets(clips[:, :, 0], text[:, :1], text[:, 1:])

        terms = {"rec_w": rec[2], "rec_a": rec[0], "rec_v": rec[1], "ct_a": ct[0], "ct_v": ct[1]}
        terms |= {"ta": around_text[0], "tv": around_text[1], "at": around_clip[0], "vt": around_clip[1]}
        terms["total"] = torch.stack(tuple(terms.values())).sum()
        return terms
