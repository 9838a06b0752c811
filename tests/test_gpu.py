"""The same results on a GPU as on a CPU."""

import numpy as np
import pytest
import torch

from avpipe.features.engine import extract_clips, prepare_network
from avpipe.features.registry import build_extractor
from avpipe.features.types import Clip
from avpipe.gzsl.evaluation import beta_grid, calibrated_stacking
from avpipe.gzsl.models import build
from avpipe.sources.synthetic import plan_demo, render_clip
from avpipe.weights import load_weights


@pytest.mark.parametrize(("name", "settings"), [("c3d", {}), ("vggish", {"postprocess": False})])
def test_features(gpu, tmp_path, name, settings):
    video = tmp_path / "clip.avi"
    render_clip(next(spec for spec in plan_demo() if spec.oddity is None), video)
    extractor = build_extractor(name, settings)
    values = {}
    for device in ("cpu", gpu):
        network = extractor.build_network()
        load_weights(network, "random:0")
        clips = [Clip(str(number), video) for number in range(3)]
        outcomes = dict(extract_clips(extractor, prepare_network(network, device), clips, device=device))
        (values[device],) = outcomes[clips[0]].values()
    one, other = values["cpu"].values, values[gpu].values
    # TF32 convolutions have a 10-bit mantissa: 1e-2 relative (parity README).
    assert np.linalg.norm(one - other) <= 1e-2 * np.linalg.norm(one)


def test_losses(gpu):
    torch.manual_seed(0)
    model = build(
        "avca", audio_dim=16, video_dim=24, embedding_dropout=0.0, decoder_dropout=0.0, additional_dropout=0.0
    )
    widths = {"audio": 16, "video": 24, "text": 300}
    batch = {key + sign: torch.randn(32, width) for key, width in widths.items() for sign in ("", "_neg")}
    state = model.state_dict()
    expected = {key: float(value) for key, value in model.train().losses(batch).items()}
    again = build(
        "avca", audio_dim=16, video_dim=24, embedding_dropout=0.0, decoder_dropout=0.0, additional_dropout=0.0
    )
    again.load_state_dict(state)
    again = again.to(gpu).train()
    found = again.losses({key: value.to(gpu) for key, value in batch.items()})
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(value, rel=1e-2), key


def test_calibrated_stacking(gpu):
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand((200, 12), generator=generator)
    labels = torch.randint(0, 12, (200,), generator=generator)
    seen = torch.arange(12) < 8
    on_cpu = calibrated_stacking(distances, labels, seen, beta_grid())
    on_gpu = calibrated_stacking(distances.to(gpu), labels.to(gpu), seen.to(gpu), beta_grid())
    np.testing.assert_array_equal(on_cpu.hm, on_gpu.hm)
