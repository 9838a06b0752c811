"""Extraction of a shard without Snakemake: what is computed, kept, saved on the way, and accounted for."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.features import shard
from avpipe.features.resnext101 import ResNeXt101Extractor
from avpipe.features.shard import ShardRequest, clips_to_convert, extract_shard, stale_clips
from avpipe.features.store import read_clips, read_source_keys
from avpipe.inventory.probing import ProbedClip
from avpipe.inventory.status import ClipStatus, read_statuses
from avpipe.io.manifest import write_json

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three ordinary clips and one shorter than a VGGish example."""
    folder = tmp_path_factory.mktemp("videos")
    specs = plan_demo()
    chosen = [spec for spec in specs if spec.oddity is None][:3] + [spec for spec in specs if spec.oddity == "short"]
    for spec in chosen:
        render_clip(spec, folder / f"{spec.clip_id}.avi")
    return [
        ProbedClip(spec.clip_id, "x", folder / f"{spec.clip_id}.avi", None, None, f"sha of {spec.clip_id}", "ok")
        for spec in chosen
    ]


def request(clips, **changes):
    settings = {"postprocess": False, "final_relu": True, "resampler": "resampy-0.2.2", "batch_size": 4}
    base = ShardRequest(
        "vggish", settings, "random:0", {"label": "random:0"}, None, {"mode": "stream"}, clips, None, {}
    )
    return replace(base, **changes)


def run(made, folder, **options):
    extract_shard(made, folder / "s.h5", folder / "s.parquet", device="cpu", threads=1, clip_timeout_seconds=60)


def test_features_and_reasons_of_a_shard(clips, tmp_path):
    run(request(clips), tmp_path)
    statuses = {row.clip_id: row.status for row in read_statuses(tmp_path / "s.parquet")}
    assert statuses == {clips[3].clip_id: "too_short"} | {clip.clip_id: "ok" for clip in clips[:3]}
    assert sorted(read_source_keys(tmp_path / "s.h5")) == sorted(clip.clip_id for clip in clips[:3])


def without_torch(made, folder):
    """As `run`, in a process that fails where torch is imported."""
    program = (
        "import sys, pickle\nfrom pathlib import Path\nfrom avpipe.features.shard import extract_shard\n"
        "made = pickle.loads(sys.stdin.buffer.read())\nfolder = Path(sys.argv[1])\n"
        "extract_shard(made, folder / 's.h5', folder / 's.parquet', device='cpu', threads=1, clip_timeout_seconds=60)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], input=pickle.dumps(made), check=True)


def test_nothing_new_means_nothing_is_computed_and_no_torch(clips, tmp_path):
    run(request(clips[:3]), tmp_path)
    before = (tmp_path / "s.h5").read_bytes()
    without_torch(request(clips[:3]), tmp_path)
    assert (tmp_path / "s.h5").read_bytes() == before


def test_an_extractor_without_a_network_never_imports_torch(clips, tmp_path):
    made = ShardRequest("spectrogram", {"quantise": False}, None, {"label": "none"}, None, {}, clips[:2], None, {})
    without_torch(made, tmp_path)
    assert sorted(read_source_keys(tmp_path / "s.h5")) == sorted(clip.clip_id for clip in clips[:2])
    first = (tmp_path / "s.h5").read_bytes()
    (tmp_path / "s.h5").unlink()
    run(made, tmp_path)
    assert (tmp_path / "s.h5").read_bytes() == first


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "random:1", "weights_record": {"label": "random:1"}},
        {"media": {"mode": "file"}},
        {"settings": {"postprocess": False, "final_relu": False, "resampler": "resampy-0.2.2", "batch_size": 4}},
    ],
)
def test_other_provenance_computes_all_again(clips, tmp_path, change, monkeypatch):
    run(request(clips[:2]), tmp_path)
    made = request(clips[:2], **change)
    assert len(stale_clips(tmp_path / "s.h5", clips[:2], made.provenance())) == 2
    if "media" not in change:
        before = {clip.clip_id: clip.streams["audio"].values for clip in read_clips(tmp_path / "s.h5")}
        run(made, tmp_path)
        for clip in read_clips(tmp_path / "s.h5"):
            assert not np.array_equal(clip.streams["audio"].values, before[clip.clip_id])


def test_another_batch_size_changes_nothing(clips, tmp_path):
    made = request(clips[:2])
    run(made, tmp_path)
    again = replace(made, settings={**made.settings, "batch_size": 16})
    assert stale_clips(tmp_path / "s.h5", clips[:2], again.provenance()) == []


def test_a_replaced_source_is_computed_again_alone(clips, tmp_path):
    run(request(clips[:3]), tmp_path)
    replaced = [replace(clips[0], source_sha256="other content"), *clips[1:3]]
    assert stale_clips(tmp_path / "s.h5", replaced, request(replaced).provenance()) == replaced[:1]
    run(request(replaced), tmp_path)
    assert read_source_keys(tmp_path / "s.h5")[clips[0].clip_id] == replaced[0].source_key()


def test_a_killed_job_goes_on_from_what_it_saved(clips, tmp_path, monkeypatch):
    """Finished clips are saved beside the store; the final bytes are those of an undisturbed run."""
    undisturbed = tmp_path / "undisturbed"
    run(request(clips), undisturbed)
    monkeypatch.setattr(shard, "SECONDS_BETWEEN_PARTS", 0.0)
    original = shard.Parts.save

    def stop_after_one(parts):
        original(parts)
        if parts.found():
            raise KeyboardInterrupt

    monkeypatch.setattr(shard.Parts, "save", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run(request(clips), tmp_path)
    assert not (tmp_path / "s.h5").exists()
    (part,) = (tmp_path / ".s.parts").glob("*.h5")
    (saved,) = read_source_keys(part)
    monkeypatch.setattr(shard.Parts, "save", original)
    computed = []
    as_input = shard._as_input
    monkeypatch.setattr(
        shard, "_as_input", lambda clip, folder: computed.append(clip.clip_id) or as_input(clip, folder)
    )
    run(request(clips), tmp_path)
    assert saved not in computed and len(computed) == 3
    for name in ("s.h5", "s.parquet"):
        assert (tmp_path / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not (tmp_path / ".s.parts").exists()


def test_clips_that_failed_before_are_accounted_and_not_decoded(clips, tmp_path):
    failed = {clips[0].clip_id: ClipStatus(clips[0].clip_id, "decode_error", "in conversion")}
    run(request(clips[:3], failed_before=failed), tmp_path)
    rows = {row.clip_id: row.status for row in read_statuses(tmp_path / "s.parquet")}
    assert rows[clips[0].clip_id] == "decode_error" and len(rows) == 3


def test_a_damaged_store_is_computed_again(clips, tmp_path):
    run(request(clips[:2]), tmp_path)
    whole = (tmp_path / "s.h5").read_bytes()
    (tmp_path / "s.h5").write_bytes(whole[: len(whole) // 2])
    run(request(clips[:2]), tmp_path)
    assert (tmp_path / "s.h5").read_bytes() == whole


@pytest.mark.parametrize("hit", ["s.h5", "s.h5.manifest"])
@pytest.mark.parametrize("bit", [0.02, 0.31, 0.5, 0.77, 0.98, None])
def test_a_flipped_bit_or_a_lost_manifest_has_the_store_computed_again(clips, tmp_path, caplog, hit, bit):
    """What is damaged is never reused in part: not a clip, nor who wrote it."""
    run(request(clips[:1]), tmp_path)
    whole = (tmp_path / "s.h5").read_bytes()
    data = bytearray((tmp_path / hit).read_bytes())
    if bit is None:
        (tmp_path / "s.h5.manifest").unlink()
    else:
        data[int(bit * len(data))] ^= 4
        (tmp_path / hit).write_bytes(data)
    assert stale_clips(tmp_path / "s.h5", clips[:1], request(clips[:1]).provenance()) == clips[:1]
    run(request(clips[:1]), tmp_path)
    assert "Not reused: " in caplog.text and "s.h5" in caplog.text
    assert (tmp_path / "s.h5").read_bytes() == whole and list(read_clips(tmp_path / "s.h5"))


def test_only_clips_that_some_extractor_lacks_are_converted(clips, tmp_path, monkeypatch):
    made = request(clips[:2])
    run(made, tmp_path)
    monkeypatch.setattr(shard, "read_probed", lambda path: clips[:3])
    write_json(tmp_path / "vggish.json", {"label": "random:0"})

    def wanted(media):
        consumers = {"vggish": {"store": str(tmp_path / "s.h5"), "settings": made.settings, "media": media}}
        return clips_to_convert("probe", consumers, [str(tmp_path / "vggish.json")])

    assert wanted({"mode": "stream"}) == {clips[2].clip_id}
    assert wanted({"mode": "file"}) == {clip.clip_id for clip in clips[:3]}


def test_names_of_prepared_clips_stay_in_their_folder():
    from avpipe.media.names import clip_file_name

    names = ["../../etc/passwd", "a/b", "..", "", "ü\n'\"", "x" * 300, "a%2Fb", "~"]
    files = [clip_file_name(name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        assert Path(file).name == file and len(file.encode()) < 255


def seeing(extractor, clips):
    settings = {"stride_frames": 32, "batch_size": 2}
    return ShardRequest(
        extractor, settings, "random:0", {"label": "random:0"}, None, {"mode": "stream"}, clips, None, {}
    )


def extract_into(folder, made, **options):
    paths = (folder / made.extractor / "0000.h5", folder / made.extractor / "0000.status.parquet")
    extract_shard(made, *paths, device="cpu", threads=1, clip_timeout_seconds=60, **options)
    return paths[0].read_bytes()


def test_rows_that_are_not_finite_are_a_bug_and_fail_the_job(clips, tmp_path, monkeypatch):
    finish = ResNeXt101Extractor.finish
    monkeypatch.setattr(ResNeXt101Extractor, "finish", lambda self, stream, rows: finish(self, stream, rows) * np.nan)
    with pytest.raises(AssertionError, match="not finite"):
        extract_into(tmp_path, seeing("resnext101", clips[:1]))
    assert not list((tmp_path / "resnext101").rglob("*.h5"))
