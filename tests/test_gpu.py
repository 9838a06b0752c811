"""The same results on a GPU as on a CPU."""

import numpy as np
import pytest
import torch

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.features.build import build_extractor
from avpipe.features.engine import extract_clips, prepare_network
from avpipe.gzsl.evaluation import beta_grid, calibrated_stacking, exact_calibration
from avpipe.gzsl.models import build
from avpipe.media.clip import Clip
from avpipe.registry import EXTRACTORS
from avpipe.weights import load_weights

SETTINGS = {"vggish": {"postprocess": False}, "selavi": {"window_frames": 4}, "c3d": {"stride_frames": 32}}
NETWORKS = [name for name, entry in EXTRACTORS.items() if entry.has_weights]


def prepared(device, name, **settings):
    extractor = build_extractor(name, SETTINGS.get(name, {}) | {"batch_size": 2} | settings)
    network = extractor.build_network()
    load_weights(network, "random:0")
    return extractor, prepare_network(network, device)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    specs = [spec for spec in plan_demo() if spec.oddity is None][:3]
    for spec in specs:
        render_clip(spec, folder / f"{spec.clip_id}.avi")
    return [Clip(spec.clip_id, folder / f"{spec.clip_id}.avi") for spec in specs]


def features(extractor, network, clips, device):
    found = extract_clips(extractor, network, clips, device=device, decode_workers=2)
    return {(clip.clip_id, stream): each.values for clip, outcome in found for stream, each in outcome.items()}


def assert_near(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        assert np.linalg.norm(ours[key] - values) <= tolerance * np.linalg.norm(values), key


# 2e-4 in float32, 1e-2 where products have 10 or fewer bits (the parity numbers' README).
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-4), ("tf32", 1e-2), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("name", NETWORKS)
def test_features(gpu, clips, name, precision, tolerance):
    on_cpu = features(*prepared("cpu", name), clips, "cpu")
    on_gpu = features(*prepared(gpu, name, precision=precision), clips, gpu)
    assert_near(on_gpu, on_cpu, tolerance)


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
    best, again = (
        exact_calibration(distances, labels, seen),
        exact_calibration(*(d.to(gpu) for d in (distances, labels, seen))),
    )
    np.testing.assert_array_equal(best.starts, again.starts)
    assert best.figures() == again.figures() and best.ausuc == again.ausuc
