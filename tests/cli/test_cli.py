import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from made_results import make_account, make_evaluation, make_failed, make_record, make_weights

import avpipe
from avpipe import __version__
from avpipe.cli import demo, main, run, version
from avpipe.demo.zero_shot import plan_demo, render_clip
from avpipe.errors import ClipFailure, Reason
from avpipe.features import build_network, extract, names
from avpipe.io.manifest import write_json
from avpipe.media import ffmpeg
from avpipe.registry import EXTRACTORS

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("media") / "a 'clip' ü.avi"
    render_clip(next(spec for spec in plan_demo() if spec.oddity is None), path)
    return path


@pytest.mark.usefixtures("small_networks")
def test_features_of_one_file(clip, tmp_path, capsys):
    assert main(["extract", str(clip), "vggish", str(tmp_path / "f.npz"), "--weights", "random:3"]) == 0
    stored = np.load(tmp_path / "f.npz")
    assert set(stored) == {"values", "pooled", "times", "provenance"}
    assert (stored["values"].shape, stored["pooled"].shape, stored["times"].shape) == ((1, 128), (128,), (1, 2))
    assert "RANDOM WEIGHTS, untrained" in capsys.readouterr().out
    made = json.loads(str(stored["provenance"]))
    assert (made["extractor"], made["stage"]) == ("vggish", EXTRACTORS["vggish"].stage)
    assert made["weights"] == {"label": "random:3", "sha256": None}
    assert made["settings"]["postprocess"] is False and made["libraries"]["torch"] and made["libraries"]["ffmpeg"]
    sha256 = hashlib.sha256(clip.read_bytes()).hexdigest()
    assert made["source"] == {"file": clip.name, "sha256": sha256, "start_seconds": None, "end_seconds": None}
    features = extract(clip, "vggish", "random:3")
    np.testing.assert_array_equal(features.values, stored["values"])
    assert not np.array_equal(extract(clip, "vggish", "random:4").values, features.values)


@pytest.mark.usefixtures("small_networks")
def test_a_segment_of_a_file(clip):
    whole = extract(clip, "c3d", "random:0")
    part = extract(clip, "c3d", "random:0", start=0.64, end=1.0)
    assert whole.values.shape == (2, 4096) and part.values.shape == (1, 4096)
    # Frames 16 to 24 of 25 fps: the second window without its last two frames.
    assert part.times.tolist() == [[0.0, pytest.approx(0.36)]]
    assert not np.array_equal(part.values[0], whole.values[1])


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4", "c3d", "x.npz", "--weights", "random:0"], "missing"),
        (["{clip}", "c4d", "x.npz", "--weights", "random:0"], "c3d, vggish"),
        (["{clip}", "vggish", "x.npz", "--weights", "gone.pth"], "gone.pth"),
        (["{clip}", "vggish", "x.npz", "--weights", "random:x"], "for example 'random:0'"),
        (["{clip}", "vggish", "x.csv", "--weights", "random:0"], ".npz"),
        (["{clip}", "vggish", "no/such/folder/x.npz", "--weights", "random:0"], "does not exist"),
        (["{clip}", "vggish", "x.npz", "--weights", "random:0", "--start", "3", "--end", "1"], "0 <= start < end"),
        (["{clip}", "vggish", "x.npz", "--weights", "random:0", "--start", "nan"], "0 <= start < end"),
    ],
)
def test_mistakes_are_one_line_and_a_status(clip, arguments, message, capsys):
    assert main(["extract", *(each.format(clip=clip) for each in arguments)]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("avpipe: ") and "Traceback" not in error


@pytest.mark.usefixtures("small_networks")
def test_a_file_without_sound_has_no_vggish_features(tmp_path):
    spec = next(spec for spec in plan_demo() if spec.oddity == "no_sound")
    render_clip(spec, tmp_path / "silent.avi")
    with pytest.raises(ClipFailure) as failure:
        extract(tmp_path / "silent.avi", "vggish", "random:0")
    assert failure.value.reason is Reason.NO_AUDIO


def test_show_prints_notices_and_figures(tmp_path, capsys):
    account = make_account([make_failed(clip_id="[x]", detail="why")])
    record = make_record([make_evaluation([3.0])], weights={"c3d": make_weights("random:0")}, clips=account)
    write_json(tmp_path / "eval.json", record.to_json())
    assert main(["show", str(tmp_path / "eval.json")]) == 0
    printed = capsys.readouterr().out
    assert "RANDOM WEIGHTS: c3d" in printed and "3.00" in printed and "[x]: no_audio (why)" in printed
    assert "report.html" not in printed
    (tmp_path / "report.html").touch()
    main(["show", str(tmp_path / "eval.json")])
    assert "report.html in a browser" in " ".join(capsys.readouterr().out.split())
    assert main(["show", str(tmp_path / "gone.json")]) == 1


@pytest.fixture
def demo_runs(tmp_path, monkeypatch):
    """What `avpipe demo` starts and shows, with nothing run."""
    runs = []

    def started(command, *, check):
        runs.append(command)
        return subprocess.CompletedProcess(command, 0)

    (tmp_path / "Snakefile").touch()
    (tmp_path / "config" / "datasets").mkdir(parents=True)
    (tmp_path / "config" / "config.yaml").write_text("datasets: {}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.subprocess, "run", started)
    monkeypatch.setattr(demo, "show_result", lambda path: runs.append(str(path)))
    return runs


def test_demo_runs_the_small_dataset_and_tells_how_long_it_took(demo_runs, capsys):
    assert main(["demo", "--cores", "2"]) == 0
    small = "results/demo/eval.json"
    assert demo_runs == [[*SNAKEMAKE, "--cores", "2", small], small]
    assert "The demo took 0 seconds." in capsys.readouterr().out


def test_demo_all_runs_both_full_datasets_at_once(demo_runs):
    assert main(["demo", "--all", "--cores", "2"]) == 0
    both = ["results/demo_gzsl/eval.json", "results/demo_retrieval/eval.json"]
    assert demo_runs == [[*SNAKEMAKE, "--cores", "2", *both], *both]


@pytest.mark.parametrize(
    "command", [["demo", "--cores"], ["search", "index.h5", "--top"], ["index", "a", "b", "--window"]]
)
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "two"])
def test_numbers_are_whole_and_from_one(demo_runs, capsys, command, number):
    """Snakemake itself would wait for ever for the first of no cores."""
    with pytest.raises(SystemExit):
        main([*command, number])
    assert f"expected a whole number from 1, found '{number}'" in capsys.readouterr().err
    assert demo_runs == []


def test_the_demo_follows_results_that_lie_elsewhere(demo_runs):
    Path("config/config.yaml").write_text("pathvars: {results: made/here}")
    assert main(["demo", "--cores", "2"]) == 0
    assert demo_runs[-1] == "made/here/demo/eval.json"


def test_a_demo_that_fails_shows_nothing(demo_runs, monkeypatch, capsys):
    monkeypatch.setattr(demo.subprocess, "run", lambda command, *, check: subprocess.CompletedProcess(command, 3))
    assert main(["demo"]) == 3
    assert demo_runs == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["Snakefile", "workflow/Snakefile"])
@pytest.mark.parametrize("command", [["demo"], ["run", "results/demo/eval.json"]])
def test_a_folder_of_another_workflow_is_left_to_snakemake(tmp_path, monkeypatch, capsys, place, command):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert f"{place} here is of another workflow than avpipe's" in capsys.readouterr().err
    assert main(["show", "gone.json"]) == 1
    assert "Make it with: snakemake --cores all gone.json" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["demo"], ["run", "-n", "x"], ["sources", "plan", "demo"]])
def test_a_package_without_a_workflow_outside_of_a_checkout(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(avpipe, "__file__", str(tmp_path / "src" / "avpipe" / "__init__.py"))
    assert main(command) == 1
    assert "There is no Snakefile here, and the package in" in capsys.readouterr().err


def test_run_hands_everything_to_snakemake_as_it_stands(demo_runs, monkeypatch):
    monkeypatch.setattr(run.os, "execv", lambda program, command: demo_runs.append(command))
    given = ["-n", "results/demo/eval.json", "--configfile", "a.yaml", "--cores=2", "--", "x"]
    main(["run", *given])
    assert demo_runs == [[*SNAKEMAKE, *given]]


def test_other_commands_refuse_what_they_do_not_know(demo_runs, capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--core", "2", "--fast"])
    assert "unrecognized arguments: --fast" in capsys.readouterr().err and demo_runs == []


@pytest.mark.parametrize("text", ["{}", "[1]", "not json"])
def test_show_of_something_else(tmp_path, capsys, text):
    (tmp_path / "eval.json").write_text(text)
    assert main(["show", str(tmp_path / "eval.json")]) == 1
    assert "Expected an eval.json" in capsys.readouterr().err


@pytest.mark.slow
def test_networks_by_name():
    assert {"resnet152", "resnext101", "c3d", "vggish", "selavi", "spectrogram"} <= set(names())
    assert names() == list(EXTRACTORS)
    network = build_network("vggish")
    assert not network.training and sum(each.numel() for each in network.parameters()) == 72_141_184


def test_a_spectrogram_needs_no_weights(clip, tmp_path, capsys):
    target = tmp_path / "clip.npz"
    assert main(["extract", str(clip), "spectrogram", str(target)]) == 0
    assert "no weights" in capsys.readouterr().out
    with np.load(target) as arrays:
        assert arrays["values"].shape[1] == 40 and len(arrays["times"]) == len(arrays["values"])
        made = json.loads(str(arrays["provenance"]))
        assert made["weights"]["label"] == "none" and made["extractor"] == "spectrogram"
    plain = target.read_bytes()
    for seed in ("random:0", "random:7"):
        assert main(["extract", str(clip), "spectrogram", str(target), "--weights", seed]) == 0
        said = capsys.readouterr().out
        assert "no weights: spectrogram has no network, so none were drawn" in said and "RANDOM WEIGHTS" not in said
        assert target.read_bytes() == plain
    assert main(["extract", str(clip), "spectrogram", str(target), "--weights", "random:x"]) == 1
    assert "for example 'random:0'" in capsys.readouterr().err
    assert main(["extract", str(clip), "spectrogram", str(target), "--weights", "some.pth"]) == 1
    assert "has no network" in capsys.readouterr().err


@pytest.mark.usefixtures("small_networks")
def test_settings_and_fidelity_of_one_file(clip, tmp_path, capsys):
    plain = ["extract", str(clip), "c3d", str(tmp_path / "clip.npz"), "--weights", "random:0"]

    def rows(*more):
        assert main([*plain, *more]) == 0
        with np.load(tmp_path / "clip.npz") as arrays:
            return arrays["values"]

    corrected = rows("--set", "stride_frames=32")
    published = rows("--set", "stride_frames=32", "--fidelity", "published")
    assert corrected.shape == published.shape == (1, 4096)
    assert not np.allclose(corrected, published)  # the colour negative
    capsys.readouterr()
    for wrong, found in ([["--set", "stride"], "KEY=VALUE"], [["--set", "strides=1"], "strides"]):
        assert main([*plain, *wrong]) == 1
        assert found in capsys.readouterr().err
    assert main(plain[:-2]) == 1
    assert "c3d needs weights" in capsys.readouterr().err


def test_the_version_of_everything_without_torch():
    code = "import sys; from avpipe.cli import main\ntry: main(['--version'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, imported = done.stdout.splitlines()
    assert imported == "False"
    versions = dict(line.split(" ", 1) for line in lines)
    assert {"avpipe", "Python", "torch", "PyAV", "snakemake", "ffmpeg"} <= set(versions)
    assert versions["avpipe"] == __version__ and versions["torch"] == metadata.version("torch")
    assert all(value[0].isdigit() or value[0] in "nN" for value in versions.values())


def test_what_is_not_installed_is_said_and_nothing_fails(monkeypatch, capsys):
    monkeypatch.setattr(version, "_LIBRARIES", {"torch": "no-such-package"})
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/no/such/ffmpeg")
    monkeypatch.setattr(ffmpeg, "ffmpeg_version", ffmpeg.ffmpeg_version.__wrapped__)  # whatever was asked before
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and "torch is not installed" in (out := capsys.readouterr().out)
    assert "ffmpeg cannot be run" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "~/gone.json"],
        ["extract", "~/gone.mp4", "c3d", "~/x.npz", "--weights=random:0"],
        ["evaluate-released", "--method=avca", "--stage-a=~/a", "--stage-b", "~/b",
         "--features=~/f", "--class-split=~/c", "--split=main_split"],
        ["search", "~/gone.h5", "--text", "x", "--words=~/w"],
    ],
)  # fmt: skip
def test_home_is_found_in_every_argument(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error and "~" not in error


def test_ctrl_c_ends_a_command_in_words(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("avpipe.cli.show.show_result", stop)
    assert main(["show", "eval.json"]) == 130
    assert capsys.readouterr().err == "avpipe: stopped\n"


def test_a_dataset_that_needs_no_published_files_says_so(monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["sources", "plan", "demo"]) == 0
    assert "demo needs nothing" in capsys.readouterr().out
    assert main(["sources", "plan", "ucf_gzsl"]) == 0
    assert "avca_ucf" in capsys.readouterr().out


def test_the_settings_of_a_workflow_that_imports_avpipe_are_not_taken_for_avpipes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("module avpipe: ...")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("samples: theirs.tsv")
    assert main(["sources", "plan", "demo"]) == 1
    told = capsys.readouterr().err
    assert "Snakefile here is of another workflow" in told and "--configfile" in told
    (tmp_path / "mine.yaml").write_text("{}")
    assert main(["sources", "plan", "demo", "--configfile", "mine.yaml"]) == 0
    assert "demo needs nothing" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["sources", "plan", "ucf_gzsl"], ["--help"]])
def test_a_closed_pipe_ends_a_command_silently(arguments):
    """As `| head` does it once it has its lines; here nobody reads at all."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "avpipe", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writing)
    assert done.stderr == b""
