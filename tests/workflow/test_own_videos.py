"""Videos of one's own from a table to eval.json, with every oddity that a file can have.

The oddities: docs/methods.md, Videos of your own: what goes wrong. One dataset for all tests; what can be told without
a workflow is in tests/retrieval/test_own_videos_rows.py.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_videos import (
    AGAIN,
    BATCH,
    BOAT,
    DAMAGED,
    EVAL,
    INDEX,
    JAPANESE,
    PACK,
    PICKLE,
    REPEATED,
    RESULTS,
    RUNS,
    SIZES,
    UCF,
    UNKNOWN,
    WINDOW,
    Own,
    add_dataset,
    change,
    change_runs,
    mend,
    write_project,
    write_table,
)
from project import Project, jobs_in
from read_page import read_page
from real_media import SHARED

from avpipe.formats.digests import file_sha256
from avpipe.jobs.retrieval import evaluate_run
from avpipe.retrieval.settings import RunJob
from avpipe.sources.local import shard_of


def snakemake(project: Project, *targets: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # One core: threads of several jobs that wait for each other would take more time than they save.
    return project.snakemake(*targets, "--cores", "1", check=check)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Run with the default tolerance for damaged files, then with a larger one, then from the exported pickle."""
    project, clips = write_project(tmp_path_factory.mktemp("own") / "project")
    first = snakemake(project, EVAL, check=False)
    results = project.folder / "results"
    left = {str(path.relative_to(results)) for path in (results / "small").rglob("eval*.json")}
    change(project, max_failure_rate=0.2)
    snakemake(project, EVAL, PICKLE, INDEX)
    n_test = sum(clip.subset == "test" for clip in clips)
    add_dataset(project, "again", {
        "source": {"kind": "packs"},
        "retrieval": {
            "subsets": {"test": {"path": PICKLE, "expected": n_test}},
            "audio_frames": WINDOW,
            "runs": {
                "zero_shot": {"weights": "random:0", **SIZES},
                "fine_tuned": {"weights": "run:small/fine_tuned", **SIZES},
            },
        },
    })  # fmt: skip
    snakemake(project, AGAIN)
    return Own(project, clips, (first.returncode, first.stdout + first.stderr), left)


@pytest.fixture
def copied(own: Own, tmp_path: Path) -> Own:
    """A copy to change."""
    return replace(own, project=own.project.copy(tmp_path / "project"))


def test_every_clip_is_used_or_has_its_reason(own: Own) -> None:
    for subset in ("train", "test"):
        assert set(own.pack(subset).ids) == {clip.clip_id for clip in own.of(subset, used=True)}
        summary = own.read(f"{RESULTS}/retrieval/packs/{subset}.json")
        found = {clip["clip_id"]: clip["reason"] for clip in summary["missing_clips"]}
        assert found == {clip.clip_id: clip.reason for clip in own.of(subset, used=False)}
        assert summary["expected"] == len(own.of(subset)) and summary["unlisted"] == 0
        assert own.read(EVAL)["packs"][subset]["missing_clips"] == summary["missing_clips"]
    clips = own.read(EVAL)["clips"]
    assert clips["requested"] == len(own.clips) == clips["ok"] + sum(clips["reasons"].values())


def test_no_result_tells_a_folder_of_the_machine(own: Own) -> None:
    files = [path for suffix in ("json", "md", "html") for path in own.path("results").rglob(f"*.{suffix}")]
    names = {"eval.json", "eval.md", "report.html", "accounting.json", "evaluation.json", "test.json"}
    assert names <= {path.name for path in files}
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert [name for name, text in texts.items() if str(own.project.folder) in text or str(SHARED) in text] == []


def test_the_page_shows_every_run_and_its_curve(own: Own) -> None:
    page = read_page(own.path(f"{RESULTS}/report.html"))
    assert page.sections == ["Results", "What it rests on", "Ranks", "Learning curves", "Clips"]
    assert any(each.startswith("R@k in %") for each in page.pictures)
    assert any(each.startswith("Queries by rank, fine_tuned: audio → video") for each in page.pictures)
    assert any(each.startswith("Loss of fine_tuned") for each in page.pictures)
    assert "extract_resnet152" in page.text  # how long it took


class TestNoAudioOrSilentTrack:
    def test_left_out_of_training(self, own: Own) -> None:
        (seed,) = own.result("fine_tuned")["seeds"]
        silent = own.of("train", used=False)
        assert {clip.reason for clip in silent} == {"no_audio"} and "silent_train" in {each.clip_id for each in silent}
        assert seed["training"]["left_out"] == {"no_audio": len(silent)}
        assert seed["training"]["items"] == len(own.of("train", used=True))

    @pytest.mark.parametrize("run", RUNS)
    def test_a_miss_in_tests_and_the_gallery_is_said(self, own: Own, run: str) -> None:
        result, used = own.result(run), len(own.of("test", used=True))
        protocol = result["protocol"]
        assert protocol["n_queries"] == protocol["expected"] == len(own.of("test")) > used
        assert protocol["n_ranked"] == protocol["gallery"] == used
        assert protocol["missing"]["no_audio"] == sum(clip.reason == "no_audio" for clip in own.of("test"))
        # A gallery of all that is left: every ranked query is found among the first `used`, and no missed one.
        assert result["language_to_video"]["mean"]["r10"] <= 100 * used / len(own.of("test"))

    def test_the_notice(self, own: Own) -> None:
        (notice,) = (each for each in own.read(EVAL)["notices"] if each.startswith("MISSED QUERIES"))
        n, used = len(own.of("test")), len(own.of("test", used=True))
        silent = sum(clip.reason == "no_audio" for clip in own.of("test"))
        assert f"{n - used} of {n} queries have no sound or features" in notice and f"no_audio {silent}" in notice
        assert f"in a gallery of {used}." in notice

    def test_what_is_said_of_each(self, own: Own) -> None:
        details = {clip["clip_id"]: clip["detail"] for clip in own.pack("test").info.missing}
        assert details["silence"] == "digital silence of 1.01 s" and "no sound track in" in details["no_track"]


@pytest.mark.parametrize("clip_id", ["sound_44khz", "stereo"])
def test_sound_not_at_16_khz_or_in_stereo(own: Own, clip_id: str) -> None:
    """1.2 s are 121 frames of 10 ms at any rate and however many channels."""
    pack = own.pack("test")
    spectrogram = pack.spectrogram(pack.ids.index(clip_id))
    assert len(spectrogram) == 121
    # The tone, 500 or 600 Hz, is in one of the first bands of 40 up to 8 kHz (20 Hz to 900 Hz are the first ten).
    assert spectrogram[60].argmax() < 10


@pytest.mark.parametrize("clip_id, seconds", [("train0", 1.0), ("long", 2.5), ("short", 0.6)])
def test_spectrograms_have_their_raw_length(own: Own, clip_id: str, seconds: float) -> None:
    pack = own.pack("train" if clip_id.startswith("train") else "test")
    row = pack.ids.index(clip_id)
    assert pack.n_frames[row] == len(pack.spectrogram(row)) == round(100 * seconds) + 1
    assert pack.spectrogram(row)[-1].any(), "the end is sound, not padding, which is 0"


@pytest.mark.parametrize(
    "clip_id, detail",
    [
        ("one_sample", r"1 samples at 16 kHz .*; one spectrogram frame needs 400"),
        ("blip", r"11 spectrogram frames \(0\.11 s\), at least 16 are asked for \(retrieval\.min_audio_frames\)"),
    ],
)
def test_too_short_or_one_sample(own: Own, clip_id: str, detail: str) -> None:
    (missing,) = (clip for clip in own.pack("test").info.missing if clip["clip_id"] == clip_id)
    assert missing["reason"] == "too_short" and re.search(detail, missing["detail"])


class TestLongerThanTheWindow:
    def test_cut_with_a_notice(self, own: Own) -> None:
        n_longer = int((own.pack("test").n_frames > WINDOW).sum())
        assert n_longer == 2  # of 2.5 s, and of 2 s, which are 201 frames
        assert own.result("zero_shot")["protocol"]["cut_clips"] == n_longer
        (notice,) = (each for each in own.read(EVAL)["notices"] if each.startswith("CUT CLIPS"))
        assert "test: 2 clips are longer than the 2 s that are heard of each; their pictures are pooled" in notice

    def test_or_averaged_if_asked(self, own: Own, tmp_path: Path) -> None:
        job = RunJob(
            "zero_shot", "main", own.result("zero_shot")["settings"], WINDOW, 20, [1], long_clips="average"
        )  # fmt: skip
        tests = {"test": {"audio_frames": WINDOW, "expected": None, "diagnostic": False}}
        target, packs = tmp_path / "evaluation.json", {"test": own.path(PACK)}
        evaluate_run(
            job, packs=packs, tests=tests, words={}, start="random:0", training=None, device="cpu", threads=1,
            target=target,
        )  # fmt: skip
        tested = json.loads(target.read_text())["seeds"][0]["tests"]["test"]
        assert (tested["averaged_clips"], tested["cut_clips"]) == (2, 0)


def test_a_clip_of_one_2d_frame(own: Own) -> None:
    stored = own.stored("resnet152")["short"].streams["video"]
    assert stored.values.shape == (1, 2048)
    pack = own.pack("test")
    np.testing.assert_array_equal(pack.video_2d[pack.ids.index("short")], stored.values[0])


def test_fewer_than_16_frames_at_24_fps(own: Own) -> None:
    """0.6 s are 14 frames: one window, the rest of it black."""
    stored = own.stored("resnext101")["short"].streams["video"]
    assert stored.values.shape == (1, 2048)
    np.testing.assert_allclose(stored.times, [[0, 14 / 24]], atol=1e-9)
    # Rows have unit length, to float32's rounding of 2048 terms.
    assert np.linalg.norm(stored.values) == pytest.approx(1, abs=1e-5)


def test_a_portrait_with_a_rotation_tag_is_used(own: Own) -> None:
    assert "portrait" in own.pack("test").ids
    assert own.stored("resnet152")["portrait"].streams["video"].values.shape == (1, 2048)


class TestDamagedFiles:
    def test_the_first_run_fails_at_its_end_after_all_else_was_done(self, own: Own) -> None:
        status, output = own.refusal
        n = len(own.clips)
        assert status == 1 and f"2 of {n} clips ({100 * 2 / n:.1f} %) are missing or damaged" in output
        assert all(f"{name} (decode_error: {name}.mkv: " in output for name in DAMAGED)
        assert own.left == {f"small/retrieval/runs/{run}/main/evaluation.json" for run in RUNS}

    def test_reasons_are_in_the_results(self, own: Own) -> None:
        failed = {clip["clip_id"]: clip for clip in own.read(EVAL)["clips"]["failed"]}
        assert "0 bytes" in failed["zero_bytes"]["detail"] and "truncated" in failed["corrupt"]["detail"]
        assert {failed[name]["reason"] for name in DAMAGED} == {"decode_error"}
        page = own.path(f"{RESULTS}/eval.md").read_text(encoding="utf-8")
        assert all(name in page for name in DAMAGED)

    def test_a_variable_frame_rate_is_no_damage(self, own: Own) -> None:
        assert "variable" in own.pack("test").ids
        assert len(own.stored("resnet152")["variable"].streams["video"].values) == 2  # seconds

    def test_after_mending_only_their_shard_runs_and_left_over_files_are_not_taken_for_done(self, copied: Own) -> None:
        """As a run that failed may leave them: half a store, and a temporary file beside it."""
        (shard,) = {f"{shard_of(name, 2):04d}" for name in DAMAGED}
        store = copied.path(f"{RESULTS}/features/spectrogram/{shard}.h5")
        n_pictures, n_sounds = (
            sum(shard_of(clip_id, 2) == int(shard) for clip_id in copied.stored(extractor))
            for extractor in ("resnet152", "spectrogram")
        )
        mend(copied.project)
        store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])
        store.with_name(f".{store.name}~1~0").write_bytes(b"half")
        extractors = {"ResNet-152 features", "3D ResNeXt-101 features", "log-mel spectrogram features"}
        planned = copied.project.planned(target=PACK)
        assert planned == {
            f"Listing the clips of small, shard {shard}",
            f"Probing the files of small, shard {shard}",
            *(f"Extracting {what} of small, shard {shard}" for what in extractors),
            "Packing the clips of small, test",
        }
        done = snakemake(copied.project, PACK)
        output = done.stdout + done.stderr
        assert f"[extract_resnet152 small {shard}] resnet152 clips: 2 done, 0 failed, {n_pictures} reused" in output
        # The others' spectrograms were lost with the store, and are computed again.
        assert f"[extract_spectrogram small {shard}] spectrogram clips: {n_sounds + 2} done, 1 failed, 0 left" in output
        assert set(copied.pack("test").ids) == {clip.clip_id for clip in copied.of("test", used=True)} | set(DAMAGED)


class TestCaptions:
    def test_repeated_and_unknown_ones_tie_and_do_not_help(self, own: Own) -> None:
        result = own.result("text")
        captions = [clip.caption for clip in own.of("test", used=True)]
        unknown = [caption for caption in captions if caption in (UNKNOWN, *JAPANESE)]
        groups = [captions.count(REPEATED), len(unknown), captions.count("a boat")]  # of equal embeddings
        tied = sum(size for size in groups if size > 1)
        assert (groups[0], groups[1]) == (2, 3)
        # Towards the text each of a group is as good as the others; towards the pictures no two are alike.
        assert result["protocol"]["n_tied"] == {"language_to_video": 0, "video_to_language": tied}
        untied = len(captions) - tied
        assert result["video_to_language"]["mean"]["r1"] <= 100 * untied / len(own.of("test"))
        assert any(each.startswith("TIES: test") and f"{tied} (" in each for each in own.read(EVAL)["notices"])

    def test_words_without_a_vector_are_reported(self, own: Own) -> None:
        words = own.result("text")["protocol"]["known_words"]
        captions = [clip.caption for clip in own.of("test", used=True)]
        assert words["tokens"] == sum(len(caption.split()) for caption in captions)
        assert words["tokens"] - words["known"] == 4 and words["captions_without"] == 3  # two words, two of Japanese
        (notice,) = (each for each in own.read(EVAL)["notices"] if each.startswith("UNKNOWN WORDS"))
        assert f"4 of {words['tokens']}) have no vector; 3 captions have no known word and are all alike" in notice

    def test_other_scripts_reach_the_pack_unchanged(self, own: Own) -> None:
        pack = own.pack("test")
        assert pack.captions[pack.ids.index("portrait")] == (JAPANESE[0],)


def test_fewer_clips_than_the_batch(copied: Own) -> None:
    n = len(copied.of("train", used=True))
    change_runs(copied.project, fine_tuned={"batch_size": n + 1})
    done = snakemake(copied.project, EVAL, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0 and jobs_in(output) == {"Training fine_tuned (main) for retrieval on small"}
    assert re.search(rf"\b{n}\b.*\b{n + 1}\b|\b{n + 1}\b.*\b{n}\b", output), "both numbers are said"
    assert "Traceback" not in output


def test_the_protocol_says_what_recalls_are_divided_by(own: Own) -> None:
    n, used = len(own.of("test")), len(own.of("test", used=True))
    text = own.result("zero_shot")["protocol"]["text"]
    assert text.startswith(f"Each of {n} clips is a query, {n - used} without features counted as missed,")
    assert f"against a gallery of {used}" in text and text in own.path(f"{RESULTS}/eval.md").read_text(encoding="utf-8")
    for result in own.read(EVAL)["results"]:
        for direction in ("language_to_video", "video_to_language"):
            found = result[direction]["mean"]["r5"] * n / 100
            assert found == pytest.approx(round(found)), "a whole number of n queries, not of 1000"


class TestChain:
    def test_both_regimes_both_directions(self, own: Own) -> None:
        assert {each["run"]: each["regime"] for each in own.read(EVAL)["results"]} == {
            "zero_shot": "zero-shot", "fine_tuned": "fine-tuned", "text": "zero-shot"
        }  # fmt: skip
        training = own.result("fine_tuned")["seeds"][0]["training"]
        assert training["epochs"] == 2 and training["steps"] == 2 * (training["items"] // BATCH)
        notices = " ".join(own.read(EVAL)["notices"])
        assert "resnet152 (random:0), resnext101 (random:0)" in notices and "zero_shot (random:0)" in notices
        assert training["sha256"] != own.result("fine_tuned")["start"]["sha256"] == file_sha256(own.path("start.pth"))
        settings = own.result("fine_tuned")["settings"]
        assert (settings["batch_norm"], settings["train_pooling"]) == ("by_start", "clip"), "every quirk is decided"

    def test_real_videos_went_through(self, own: Own) -> None:
        real = [clip for clip in own.clips if clip.build is None]
        if not real:
            pytest.skip("needs the real videos of ../shared/data/media")
        for subset in ("train", "test"):
            pack = own.pack(subset)
            for name in (BOAT, UCF):
                of_file = [clip for clip in real if Path(clip.file).name == name and clip.subset == subset]
                rows = [pack.ids.index(clip.clip_id) for clip in of_file]
                assert rows and {Path(pack.sources[row].path).name for row in rows} == {name}
                for row, clip in zip(rows, of_file, strict=True):
                    assert (pack.sources[row].start_seconds, pack.sources[row].end_seconds) == (clip.start, clip.end)
                    assert pack.n_frames[row] == 121  # 1.2 s, cut at the sample
                    assert pack.spectrogram(row).max() == 0, "decibels are those below the segment's own loudest cell"
        silent = {clip.clip_id for clip in real if clip.reason}
        assert len(silent) == 2 and silent <= {clip["clip_id"] for clip in own.read(EVAL)["clips"]["failed"]}

    def test_the_pickle_is_as_the_published_code_reads_it(self, own: Own) -> None:
        with own.path(PICKLE).open("rb") as stream:
            clips = pickle.load(stream)
        pack = own.pack("test")
        assert [clip["id"] for clip in clips] == pack.ids
        for row, clip in enumerate(clips):
            assert clip["audio"].dtype == torch.float32
            np.testing.assert_array_equal(clip["audio"].numpy().T, pack.spectrogram(row))
            np.testing.assert_array_equal(clip["2d"], pack.video_2d[row])
            np.testing.assert_array_equal(clip["3d"], pack.video_3d[row])

    @pytest.mark.parametrize("run", ["zero_shot", "fine_tuned"])
    def test_the_pickle_as_a_dataset_gives_the_same_figures(self, own: Own, run: str) -> None:
        """To the bit: the same spectrograms, vectors and weights, on one CPU."""
        first, again = own.result(run), own.result(run, AGAIN)
        for direction in ("language_to_video", "video_to_language"):
            assert again[direction] == first[direction]
        assert again["protocol"]["gallery"] == first["protocol"]["gallery"]
        assert any(each.startswith("GIVEN FEATURES: test") for each in own.read(AGAIN)["notices"])
        # The pickle cannot say that its features are of random weights; the file beside it does.
        assert any(each.startswith("RANDOM WEIGHTS: resnet152") for each in own.read(AGAIN)["notices"])

    def test_search(self, own: Own) -> None:
        """A clip's own sound finds all clips; its own one stands where the rank says."""
        query = own.path("stereo.mkv")
        command = [sys.executable, "-m", "avpipe", "search", str(own.path(INDEX)), str(query), "--device", "cpu"]
        command += ["--top", "100", "--json"]
        done = subprocess.run(command, cwd=own.project.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        hits = found["hits"]
        assert found["index"]["provenance"]["libraries"]["torch"]
        assert [each.split()[0] for each in found["random_weights"]] == ["resnet152", "resnext101"]
        assert {hit["clip_id"] for hit in hits} == set(own.pack("test").ids)
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
        (mine,) = (hit for hit in hits if hit["clip_id"] == "stereo")
        assert mine["caption"] == REPEATED and Path(mine["path"]).name == "stereo.mkv"


def planned(own: Own) -> set[str]:
    """What would run now for the result, the pickle and the index."""
    done = own.project.snakemake(EVAL, PICKLE, INDEX, "-n")
    return jobs_in(done.stdout + done.stderr)


def runs_of(*names: str) -> set[str]:
    """The jobs of runs that are tested again, and the result."""
    return {*(f"Testing {name} (main) for retrieval on small" for name in names), "Writing results/small/eval.json"}


TRAINING = "Training fine_tuned (main) for retrieval on small"


class TestWhatRunsAgain:
    def test_nothing(self, own: Own) -> None:
        assert planned(own) == set()

    def test_another_caption_packs_its_subset_and_tests_on_it(self, copied: Own) -> None:
        clips = [replace(clip, caption="fry a boat") if clip.clip_id == "short" else clip for clip in copied.clips]
        write_table(copied.project.folder, clips)
        assert planned(copied) == {
            "Packing the clips of small, test",
            "Selecting word vectors of small for the captions of small, test",
            "Writing small, test, as a pickle that the published code reads",
            "Indexing small, test, for searches with fine_tuned",
        } | runs_of(*RUNS)

    def test_another_training_clip_trains_again(self, copied: Own) -> None:
        clips = [replace(clip, start=0.0, end=0.9) if clip.file == "train1.mkv" else clip for clip in copied.clips]
        write_table(copied.project.folder, clips)
        before, after = (next(c for c in group if c.file == "train1.mkv").clip_id for group in (copied.clips, clips))
        shards = {f"{shard_of(each, 2):04d}" for each in (before, after)}
        extracted = ("ResNet-152 features", "3D ResNeXt-101 features", "log-mel spectrogram features")
        assert copied.project.planned() == {
            *(f"Listing the clips of small, shard {shard}" for shard in shards),
            *(f"Probing the files of small, shard {shard}" for shard in shards),
            *(f"Extracting {what} of small, shard {shard}" for what in extracted for shard in shards),
            "Accounting for every clip of small",
            "Checking how many clips of small are missing or damaged",
            *(f"Packing the clips of small, {subset}" for subset in ("train", "test")),
            "Selecting word vectors of small for the captions of small, test",
            TRAINING,
        } | runs_of(*RUNS)

    def test_a_clip_that_changes_sides_trains_again_and_extracts_nothing(self, copied: Own) -> None:
        clips = [replace(clip, subset="train") if clip.clip_id == "short" else clip for clip in copied.clips]
        write_table(copied.project.folder, clips)
        assert copied.project.planned() == {
            *(f"Packing the clips of small, {subset}" for subset in ("train", "test")),
            "Selecting word vectors of small for the captions of small, test",
            TRAINING,
        } | runs_of(*RUNS)
