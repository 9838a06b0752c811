"""Published files by sets: which are there, and fetching and unpacking the others."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Self

from filelock import FileLock
from pydantic import Field, field_validator, model_validator

from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json
from avpipe.settings import InputPath, Settings
from avpipe.sources.lock_file import Pins
from avpipe.sources.names import Refused, check_name
from avpipe.sources.wanted import PATIENCE, Fetched, Patience, WantedFile, direct, without_secrets

_log = logging.getLogger(__name__)
_DIGEST = r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}|git:[0-9a-f]{40}"
_FACTS = re.compile(rf"(?:(?P<about>~?)(?P<bytes>\d+)(?: (?=\S)|$))?(?P<digest>{_DIGEST})?")


class Unpack(Settings):
    """What an archive holds."""

    bytes: int = Field(ge=1, description="The most that its files may have together.")
    members: int | None = Field(None, ge=1, description="How many files. Unset: not known.")
    strip_components: int = Field(0, ge=0, description="Leading folders of their names that are left out.")
    pick: list[str] = Field(
        [], description="Files or folders that are wanted, wherever in it they lie. Unset: all of it, as `unpacked`."
    )

    @model_validator(mode="after")
    def _picks_or_takes_all(self) -> Self:
        for name in self.pick:
            _check(name)
        if self.pick and (self.members or self.strip_components):
            raise ValueError("pick finds names wherever they are: leave out members and strip_components")
        return self


class FileSet(Settings):
    """Published files that are fetched together."""

    title: str = Field(description="What they are.")
    folder: InputPath = Field(description="Where they are put.")
    urls: list[str] = Field(
        [],
        description="Addresses, the first tried first; one that ends in / is put before a file's path. Unset: a person "
        "has to get the files.",
    )
    licence: str = Field(description="Licence, as far as it is stated.")
    licence_code: str = Field("", description="Licence of the published code, where it is another one.")
    citation: str = Field(description="What to cite.")
    trained_on: str = Field("", description="Of weights: the training data.")
    obtain: str = Field("", description="What a person has to do to get them, where they cannot be fetched.")
    files: dict[str, str] = Field(min_length=1, description="Path -> its length and hash, as far as known.")
    unpack: Unpack | None = Field(None, description="For an archive, or the parts of one: what it holds.")
    weights: dict[str, str] = Field({}, description="Key of the configuration's `weights` -> the file for it.")
    also_accepted: list[str] = Field([], description="Other digests that pass for the published weights.")

    @field_validator("files")
    @classmethod
    def _are_paths_and_facts(cls, value: dict[str, str]) -> dict[str, str]:
        for path, facts in value.items():
            _check(path)
            if not _FACTS.fullmatch(facts):
                raise ValueError(f"{path}: {facts!r} is not a length, a hash or both, such as 1189 sha256:…")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not (self.urls or self.obtain):
            raise ValueError("there is neither urls nor obtain: how are they to be had?")
        if len(self.files) > 1 and not all(url.endswith("/") for url in self.urls):
            raise ValueError("an address that does not end in / is that of one file")
        if not {self.path(file) for file in self.weights.values()} <= set(self.products()):
            raise ValueError("weights names a file that is none of the set's")
        return self

    def path(self, file: str) -> Path:
        """Where a file of the set lies."""
        return Path(self.folder) / file

    def wanted(self) -> dict[Path, WantedFile]:
        """Where each file is put -> what to fetch."""
        return {self.path(file): self._wanted(file) for file in self.files}

    def _wanted(self, file: str) -> WantedFile:
        n_bytes, is_exact, digest = self._facts(file)
        urls = tuple(direct(url) for url in self._addresses(file))
        by_hand = f"By hand: {self.by_hand(file)}"
        return WantedFile(file, urls, n_bytes if is_exact else None, digest, by_hand)

    def _addresses(self, file: str) -> list[str]:
        return [url + file if url.endswith("/") else url for url in self.urls]

    def _facts(self, file: str) -> tuple[int | None, bool, str | None]:
        """Length of a file, whether it is the exact one, and hash."""
        found = _FACTS.fullmatch(self.files[file])
        if found is None or found["bytes"] is None:
            return None, False, found["digest"] if found else None
        return int(found["bytes"]), not found["about"], found["digest"]

    def products(self) -> list[Path]:
        """What lies there once the set does: its files, or what its archive is unpacked to."""
        if self.unpack is None:
            return [self.path(file) for file in self.files]
        return [self.path(name) for name in self.unpack.pick or ["unpacked"]]

    def used(self, paths: Iterable[Path]) -> list[Path]:
        """Those products that are meant by some paths: they are, hold or lie in one of them."""
        inside = [path for path in paths if path.is_relative_to(self.folder)]
        return [
            product
            for product in self.products()
            if any(path.is_relative_to(product) or product.is_relative_to(path) for path in inside)
        ]

    def missing(self) -> list[Path]:
        """Products that are not there, or not of the right length.

        Only sizes are looked at: `fetch_set` compares hashes.
        """
        if self.unpack is None:
            return self.to_get()
        is_there = bool(self.unpack.pick) or self.unpacked_record().is_file()
        return [path for path in self.products() if not (is_there and path.exists())]

    def to_get(self) -> list[Path]:
        """Files of the set, such as an archive, that are not there or not of the right length."""
        return [
            path
            for path, file in self.wanted().items()
            if not path.is_file() or file.n_bytes not in (None, path.stat().st_size)
        ]

    def can_be_fetched(self) -> bool:
        """Whether no person has to get a file first."""
        return bool(self.urls) or not self.to_get()

    def n_bytes(self, missing: Collection[Path]) -> int:
        """Bytes to get for some missing products, as far as they are known, some of them roughly."""
        to_get = set(self.to_get()) & set(missing) if self.unpack is None else set(self.to_get())
        return sum(self._facts(file)[0] or 0 for file in self.files if self.path(file) in to_get)

    def without_hash(self) -> list[str]:
        """Files whose hash nobody publishes."""
        return [file for file in self.files if self._facts(file)[2] is None]

    def digests(self, file: str) -> list[str]:
        """What is known of the sha256 of published weights."""
        digest = (self._facts(file)[2] or "") if file in self.files else ""
        return [digest.removeprefix("sha256:"), *self.also_accepted] if digest.startswith("sha256:") else []

    def where(self) -> str:
        """Where they can be had, in a few words."""
        addresses = self._addresses(next(iter(self.files)))
        if not addresses:
            return self.obtain
        return without_secrets(addresses[0]) + (" (an archive that holds it)" if self.unpack else "")

    def by_hand(self, file: str = "") -> str:
        """What a person has to open, save and run, in words: for a file of the set, or for all."""
        places = ", ".join(str(self.path(each)) for each in ([file] if file else self.files))
        then = "checks and unpacks it" if self.unpack else "goes on with it"
        what = self.obtain or f"open {without_secrets(self._addresses(file)[0])} in a browser"
        return f"{what}, save it as {places}, and run the same command again, which {then}."

    def unpacked_record(self) -> Path:
        """The file that says that an archive was unpacked, and what came out."""
        return self.path(f"{min(self.files)}.unpacked.json")


def _check(name: str) -> None:
    try:
        check_name(name)
    except Refused as error:
        raise ValueError(str(error)) from None


def fetch_set(
    files: FileSet, patience: Patience = PATIENCE, *, pins: Pins | None = None, products: Collection[Path] | None = None
) -> list[Fetched]:
    """Fetch the files of a set that are not there, and unpack an archive.

    An archive that was fetched is deleted once it is unpacked whole; one that a person has put there stays.

    Args:
        files: the set.
        patience: when to wait, try again or give up.
        pins: what its files without a published hash were at the first time; None: they are taken as they come.
        products: of `files.missing()`, those that are wanted; None: all.

    Raises:
        DownloadError: a file could not be had.
        AvpipeError: a person has to get a file first; a file is not the one pinned; an archive is refused, or damaged
            and perhaps not what was published (what came before the damage lies there, and the archive stays); or the
            folder cannot be written.
    """
    if not files.missing():  # nothing is written, not even a lock
        return []
    try:
        Path(files.folder).mkdir(parents=True, exist_ok=True)
        with FileLock(files.path(f".{Path(min(files.files)).name}.set.lock")):
            missing = [path for path in files.missing() if products is None or path in products]
            return _fetch_missing(files, missing, patience, pins) if missing else []
    except OSError as error:
        raise AvpipeError(
            f"{files.folder} cannot be written: {error}. Make room or change its permissions, then run the same "
            "command again: it goes on where it was."
        ) from error


def _fetch_missing(files: FileSet, missing: list[Path], patience: Patience, pins: Pins | None) -> list[Fetched]:
    from avpipe.sources.download import fetch

    if not files.can_be_fetched():
        raise AvpipeError(f"{files.title}: they cannot be fetched. By hand: {files.by_hand()}")
    fetched = []
    for path, file in files.wanted().items():
        if files.unpack is None and path not in missing:
            continue
        wanted, keep = (pins.applied(file), partial(pins.keep, file)) if pins else (file, None)
        found = fetch(wanted, path, patience, keep)
        _log.info("%s: %s bytes, sha256 %s", path, f"{found.n_bytes:,}", found.sha256)
        if found.url:  # an archive may lie there already
            fetched.append(found)
    if files.unpack is not None:
        _unpack(files, files.unpack)
    return fetched


def _unpack(files: FileSet, rules: Unpack) -> None:
    from avpipe.sources.archives import Limits, unpack

    parts = sorted(files.wanted())
    target = files.path(f".{parts[0].name}.picked") if rules.pick else files.path("unpacked")
    limits = Limits(rules.bytes, rules.members)
    unpacked = unpack(parts, target, limits, strip_components=rules.strip_components, pick=rules.pick)
    is_as_published = not (rules.pick or files.without_hash() or unpacked.damage.startswith("whole"))
    if unpacked.damage and is_as_published:
        _log.warning(
            "%s is damaged although it is what was published: %s. The files before the damage are in %s; the rest is "
            "missing.", parts[0], unpacked.damage, target,
        )  # fmt: skip
    elif unpacked.damage:
        raise AvpipeError(
            f"{parts[0]} is damaged: {unpacked.damage}. The files before the damage are in {target}. Delete the "
            "archive and fetch it again, or go on with what is there."
        )
    for name in rules.pick:
        if not files.path(name).exists():  # what a person has put there stays
            files.path(name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).replace(files.path(name))
    if rules.pick:
        shutil.rmtree(target)
    write_json(
        files.unpacked_record(), asdict(unpacked) | {"archive": {path.name: files.files[path.name] for path in parts}}
    )
    if files.urls:
        for path in parts:
            path.unlink()
