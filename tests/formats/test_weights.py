"""Weight files: strict, deterministic, and never executed."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from avpipe.errors import AvpipeError
from avpipe.features.vggish import VGGish
from avpipe.formats.digests import file_sha256
from avpipe.formats.weights import (
    build_empty,
    load_published,
    load_weights,
    random_state_dict,
    read_checkpoint,
    read_state_dict,
    renamed_prefix,
)


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))


class RunsOnLoad:
    """Creates a file when it is unpickled by pickle's own rules."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


class TestLoadPublished:
    def test_copies_every_entry(self) -> None:
        network, state = small_network(), random_state_dict(small_network(), 3)
        load_published(network, state)
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[key]), key

    def test_names_every_wrong_key(self) -> None:
        network = small_network()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        state = random_state_dict(network, 0)
        del state["0.bias"], state["1.running_var"]
        state |= {"extra.weight": torch.zeros(1), "3.weight": torch.zeros(5, 9), "3.bias": "five"}
        with pytest.raises(AvpipeError) as raised:
            load_published(network, state)
        message = str(raised.value)
        assert "2 missing: 0.bias, 1.running_var" in message
        assert "1 unexpected: extra.weight" in message
        assert "3.weight (found [5, 9], expected [5, 8])" in message
        assert "3.bias (found a str, expected [5])" in message
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())

    def test_batch_norm_counters_may_be_missing(self) -> None:
        network = small_network()
        state = random_state_dict(network, 0)
        del state["1.num_batches_tracked"]
        load_published(network, state)
        assert torch.equal(network.state_dict()["0.weight"], state["0.weight"])

    def test_a_wrapper_prefix_is_recognised(self) -> None:
        state = {f"module.{key}": value for key, value in random_state_dict(small_network(), 0).items()}
        with pytest.raises(AvpipeError, match=r"carry the prefix 'module\.'"):
            load_published(small_network(), state)

    def test_a_training_checkpoint_is_recognised(self) -> None:
        checkpoint = {"epoch": 3, "model": random_state_dict(small_network(), 0), "optimizer": {}}
        with pytest.raises(AvpipeError, match="give its entry 'model'"):
            load_published(small_network(), checkpoint)


class Renaming(nn.Sequential):
    """A network whose published file is a training checkpoint with other names."""

    published_entry = "net"

    def published_entries(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        return {key: value for key, value in renamed_prefix(state_dict, "old.").items() if key != "head.weight"}


class TestPublished:
    def entries(self) -> dict[str, torch.Tensor]:
        return random_state_dict(Renaming(nn.Linear(3, 2)), 3)

    def published(self) -> dict[str, torch.Tensor]:
        return {f"old.{key}": value for key, value in self.entries().items()} | {"old.head.weight": torch.ones(1)}

    def test_published_names_or_its_own(self) -> None:
        for entries in (self.published(), self.entries(), {"net": self.published(), "epoch": 3}):
            network = Renaming(nn.Linear(3, 2))
            load_published(network, entries)
            assert torch.equal(network[0].weight, self.entries()["0.weight"])

    def test_what_is_left_over_is_named(self) -> None:
        with pytest.raises(AvpipeError, match=r"1 missing: 0\.bias; 1 unexpected: tail\."):
            published = self.published() | {"old.tail": torch.ones(1)}
            del published["old.0.bias"]
            load_published(Renaming(nn.Linear(3, 2)), published)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_the_entry_of_a_checkpoint(self, tmp_path: Path, zipped: bool) -> None:
        path, network = tmp_path / "c.pth", Renaming(nn.Linear(3, 2))
        optimizer = {"lr": np.float64(0.1), "step": np.int64(3), "on": np.bool_(True), "scale": np.float32(2)}
        checkpoint = {"epoch": 3, "net": self.published(), "optimizer": optimizer, "dist": None}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
        assert read_checkpoint(path)["optimizer"] == optimizer
        assert list(read_state_dict(path, "net")) == list(self.published())
        record = load_weights(network, path)
        assert record.sha256 == file_sha256(path)
        assert torch.equal(network[0].weight, self.entries()["0.weight"])
        # A network that names no entry takes a plain state dict only.
        with pytest.raises(AvpipeError, match="not tensors: epoch, net, optimizer, dist"):
            load_weights(nn.Sequential(nn.Linear(3, 2)), path)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_hostile_entry_beside_it_is_not_executed(self, tmp_path: Path, zipped: bool) -> None:
        target = tmp_path / "made-by-the-pickle"
        checkpoint = {"net": self.published(), "optimizer": RunsOnLoad(target)}
        torch.save(checkpoint, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(AvpipeError, match="nothing in it was executed"):
            load_weights(Renaming(nn.Linear(3, 2)), tmp_path / "c.pth")
        assert not target.exists()

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_parameters_half_types_and_what_training_keeps(self, tmp_path: Path, zipped: bool) -> None:
        values = {
            "parameter": nn.Parameter(torch.arange(3.0)),
            "half": torch.tensor([1.5, -2.0, 1e30], dtype=torch.bfloat16),
            "view": torch.arange(12.0).reshape(3, 4).t()[1:],
        }
        rest = {"size": torch.Size([2, 3]), "type": torch.float16, "device": torch.device("cpu"), "betas": (0.9, 0.99)}
        torch.save(values | rest, tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
        found = read_checkpoint(tmp_path / "c.pth")
        assert all(torch.equal(found[name], value.float()) for name, value in values.items())
        assert (found["size"], found["type"], found["betas"]) == ((2, 3), "torch.float16", (0.9, 0.99))

    def test_prefixes(self) -> None:
        assert renamed_prefix({"a.x": 1, "a.y": 2}, "a.") == {"x": 1, "y": 2}
        assert renamed_prefix({"a.x": 1, "z": 2}, "a.") == {"a.x": 1, "z": 2}
        assert renamed_prefix({"a.x": 1, "z": 2}, "a.", "b.") == {"b.x": 1, "z": 2}
        assert renamed_prefix({"a.x": 1, "b.x": 2}, "a.", "b.") == {"a.x": 1, "b.x": 2}


@pytest.mark.slow
class TestVGGish:
    def networks(self) -> tuple[VGGish, dict[str, torch.Tensor]]:
        with torch.device("meta"):
            network = VGGish()
        state = random_state_dict(network, 1)
        return network.to_empty(device="cpu"), state

    def test_torchvggish_names(self) -> None:
        network, state = self.networks()
        named = {key.replace("fc.", "embeddings."): value for key, value in state.items()}
        assert sum(key.startswith("embeddings.") for key in named) == 6
        load_published(network, named)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())

    def test_both_names_at_once_are_refused(self) -> None:
        network, state = self.networks()
        with pytest.raises(AvpipeError, match=r"1 unexpected: embeddings\.0\.weight"):
            load_published(network, state | {"embeddings.0.weight": state["fc.0.weight"]})


class TestReadStateDict:
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_both_formats_of_torch(self, tmp_path: Path, zipped: bool) -> None:
        state = random_state_dict(small_network(), 1)
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        read = read_state_dict(tmp_path / "w.pth")
        assert list(read) == list(state)
        assert all(torch.equal(read[key], state[key]) for key in state)

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_a_hostile_file_is_refused_and_not_executed(self, tmp_path: Path, zipped: bool) -> None:
        target = tmp_path / "made-by-the-pickle"
        hostile = {"conv1.weight": RunsOnLoad(target)}
        torch.save(hostile, tmp_path / "hostile.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(AvpipeError, match="nothing in it was executed") as raised:
            read_state_dict(tmp_path / "hostile.pth")
        assert "mkdir" in str(raised.value)
        assert "weights_only" not in str(raised.value)  # torch's own advice is to read it unsafely
        assert not target.exists()
        # The file does act when it is read carelessly; otherwise the lines above would prove nothing.
        torch.load(tmp_path / "hostile.pth", weights_only=False)
        assert target.exists()

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    def test_a_plain_pickle_is_refused_and_not_executed(self, tmp_path: Path) -> None:
        target = tmp_path / "made-by-the-pickle"
        (tmp_path / "c3d.pickle").write_bytes(pickle.dumps(RunsOnLoad(target)))
        with pytest.raises(AvpipeError, match="cannot be read as weights"):
            read_state_dict(tmp_path / "c3d.pickle")
        assert not target.exists()

    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    @pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
    def test_a_truncated_file_is_reported(self, tmp_path: Path, zipped: bool, kept: float) -> None:
        path = tmp_path / "w.pth"
        torch.save(random_state_dict(small_network(), 1), path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(AvpipeError) as raised:
            read_state_dict(path)
        assert f"({int(kept * len(whole)):,} bytes)" in str(raised.value)
        assert "download it again" in str(raised.value)

    def test_a_web_page_in_place_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "w.pth").write_text("<!DOCTYPE html><html>404</html>")
        with pytest.raises(AvpipeError, match="cannot be read as weights"):
            read_state_dict(tmp_path / "w.pth")

    def test_a_training_checkpoint_is_no_state_dict(self, tmp_path: Path) -> None:
        torch.save({"epoch": 3, "model": {"w": torch.ones(2)}}, tmp_path / "c.pth")
        assert read_checkpoint(tmp_path / "c.pth")["epoch"] == 3
        with pytest.raises(AvpipeError, match="not tensors: epoch, model"):
            read_state_dict(tmp_path / "c.pth")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(AvpipeError, match="No such file"):
            read_state_dict(tmp_path / "absent.pth")


class TestRandomStateDict:
    def test_depends_on_seed_and_name_alone(self) -> None:
        both = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)})
        swapped = nn.ModuleDict({"b": nn.Linear(4, 3), "c": nn.Linear(2, 2), "a": nn.Linear(4, 3)})
        first, second = random_state_dict(both, 5), random_state_dict(swapped, 5)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not torch.equal(first["a.weight"], first["b.weight"])
        assert not torch.equal(first["a.weight"], random_state_dict(both, 6)["a.weight"])

    def test_leaves_the_global_generator_alone(self) -> None:
        network = small_network()
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        random_state_dict(network, 5)
        assert torch.equal(torch.rand(3), expected)

    def test_scales(self) -> None:
        state = random_state_dict(nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300)), 0)
        # 120,000 draws: the sample deviation is within 1 % of sqrt(2 / 400) with near certainty (5 sigma).
        assert state["0.weight"].std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.01)
        assert state["1.running_var"].min() >= 1.0
        assert state["1.num_batches_tracked"].dtype == torch.int64


class TestLoadWeights:
    def test_random(self) -> None:
        network = small_network()
        record = load_weights(network, "random:12")
        assert (record.label, record.sha256) == ("random:12", None)
        assert torch.equal(network.state_dict()["0.weight"], random_state_dict(network, 12)["0.weight"])

    def test_file(self, tmp_path: Path) -> None:
        path, network = tmp_path / "w.pth", small_network()
        torch.save(random_state_dict(network, 2), path)
        record = load_weights(network, str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (record.label, record.sha256, file_sha256(path)) == (digest, digest, digest)
        assert torch.equal(network.state_dict()["0.weight"], random_state_dict(network, 2)["0.weight"])

    @pytest.mark.parametrize("spec", ["random:", "random:x", "random:-1", "random:1.5", "random:²"])
    def test_bad_seed(self, spec: str) -> None:
        with pytest.raises(AvpipeError, match="whole number"):
            load_weights(small_network(), spec)

    def test_wrong_file_names_the_file(self, tmp_path: Path) -> None:
        torch.save({"w": torch.ones(2)}, tmp_path / "w.pth")
        with pytest.raises(AvpipeError, match=r"w\.pth: The weights do not fit Sequential.*1 unexpected: w"):
            load_weights(small_network(), tmp_path / "w.pth")

    def test_missing_file_suggests_random_weights(self, tmp_path: Path) -> None:
        with pytest.raises(AvpipeError, match=r"random:<seed>"):
            load_weights(small_network(), tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: value * float("nan"), "1 not finite: 0.weight"),
        (lambda value: value.to(torch.complex64), "layout torch.strided"),
        (lambda value: value.double() * 1e300, r"1 not finite: 0\.weight \(as torch\.float32\)"),
        (lambda value: value.to_sparse(), "torch.sparse_coo"),
        (lambda value: value.to("meta"), "on meta"),
    ],
)
def test_tensors_that_are_no_ordinary_numbers(change: Any, found: str) -> None:
    network = small_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    entries = dict(before)
    entries["0.weight"] = change(entries["0.weight"])
    with pytest.raises(AvpipeError, match=found):
        load_published(network, entries)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_negative_variances_are_refused() -> None:
    """Batch normalisation takes their root: NaN for every input."""
    network = small_network()
    entries = random_state_dict(network, 0)
    entries["1.running_var"][3] = -1.0
    with pytest.raises(AvpipeError, match=r"1 with negative variances: 1\.running_var\. Expected"):
        load_published(network, entries)
    load_published(network, entries | {"1.running_var": torch.zeros(8), "1.running_mean": -torch.ones(8)})


class TestDamage:
    """torch reads zip archives without a look at their checksums."""

    def saved(self, path: Path) -> bytes:
        torch.save(random_state_dict(small_network(), 1), path)
        return path.read_bytes()

    def test_flipped_bits_are_found_or_harmless(self, tmp_path: Path) -> None:
        """One bit in each of 300 bytes all over the file: the file is refused, or gives the same weights."""
        path = tmp_path / "w.pth"
        whole, state, refused = self.saved(path), random_state_dict(small_network(), 1), 0
        for position in np.random.default_rng(0).permutation(len(whole))[:300]:
            damaged = bytearray(whole)
            damaged[position] ^= 0x40
            path.write_bytes(damaged)
            try:
                found = read_state_dict(path)
            except AvpipeError:
                refused += 1
            else:
                assert found.keys() == state.keys() and all(torch.equal(found[key], state[key]) for key in state)
        assert refused > 100  # numbers and names make up half of the file, padding the rest

    def test_the_message_names_the_part(self, tmp_path: Path) -> None:
        path = tmp_path / "w.pth"
        whole, numbers = self.saved(path), random_state_dict(small_network(), 1)["0.weight"].numpy().tobytes()
        path.write_bytes(whole.replace(numbers, numbers[:-1] + bytes([numbers[-1] ^ 1])))
        for read in (read_state_dict, lambda path: load_weights(small_network(), path)):
            with pytest.raises(AvpipeError, match=r"w\.pth .*the checksum of w/data/0 is wrong.*download it again"):
                read(path)

    def test_files_that_were_saved_without_checksums_are_read(self, tmp_path: Path) -> None:
        torch.serialization.set_crc32_options(False)
        try:
            self.saved(tmp_path / "w.pth")
        finally:
            torch.serialization.set_crc32_options(True)
        load_weights(small_network(), tmp_path / "w.pth")


@pytest.mark.parametrize("entries", [[1, 2], {1: torch.zeros(1)}, None])
def test_what_is_no_mapping_from_names(entries: Any) -> None:
    with pytest.raises(AvpipeError, match="expected a mapping from names to tensors"):
        load_published(small_network(), entries)


@pytest.mark.parametrize("spec", [None, 3])
def test_a_spec_that_is_no_path(spec: Any) -> None:
    with pytest.raises(AvpipeError, match="random:<seed>"):
        load_weights(small_network(), spec)


def test_a_file_that_is_known_to_be_another_is_refused(tmp_path: Path) -> None:
    class Network(nn.Linear):
        other_files: Mapping[str, str] = {}

    network = Network(2, 2)
    torch.save(network.state_dict(), tmp_path / "other.pth")
    assert load_weights(network, tmp_path / "other.pth").label == file_sha256(tmp_path / "other.pth")
    Network.other_files = {file_sha256(tmp_path / "other.pth")[:8]: "the second version"}
    with pytest.raises(AvpipeError, match=r"is the second version .* gives other features"):
        load_weights(network, tmp_path / "other.pth")


def test_files_are_read_in_threads(tmp_path: Path) -> None:
    torch.save({"rate": np.float64(0.5), "count": np.int64(3)}, tmp_path / "numbers.pth")
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(read_checkpoint, [tmp_path / "numbers.pth"] * 60))
    assert all(each == {"rate": 0.5, "count": 3} for each in found)


def test_an_empty_network_draws_no_random_numbers_and_has_counters() -> None:
    before = torch.get_rng_state()
    network = build_empty(small_network)
    assert torch.equal(torch.get_rng_state(), before) and not network.training
    assert int(network.state_dict()["1.num_batches_tracked"]) == 0
