"""Published files by sets: which are there, and fetching and unpacking the others."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict
from pathlib import Path

from pydantic import Field, field_validator

from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_json
from avpipe.settings import InputPath, Settings
from avpipe.sources.names import Refused, check_name
from avpipe.sources.wanted import PATIENCE, Fetched, Patience, WantedFile

_log = logging.getLogger(__name__)
_FACTS = re.compile(r"(?:(?P<bytes>\d+) )?(?P<digest>(?:sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}|git:[0-9a-f]{40}))?")


class Unpack(Settings):
    """What an archive holds."""

    members: int = Field(ge=1, description="How many files.")
    bytes: int = Field(ge=1, description="The most that they may have together.")
    strip_components: int = Field(0, ge=0, description="Leading folders of their names that are left out.")


class FileSet(Settings):
    """Published files that are fetched together."""

    title: str = Field(description="What they are.")
    folder: InputPath = Field(description="Where they are put.")
    urls: list[str] = Field(min_length=1, description="Addresses to put before a file's path, the first tried first.")
    licence: str = Field(description="Licence, as far as it is stated.")
    citation: str = Field(description="What to cite.")
    obtain: str = Field("", description="What to do where they cannot be fetched.")
    files: dict[str, str] = Field(min_length=1, description="Path -> its length and hash, as far as known.")
    unpack: Unpack | None = Field(None, description="For an archive, or the parts of one: what it holds.")

    @field_validator("files")
    @classmethod
    def _are_paths_and_facts(cls, value: dict[str, str]) -> dict[str, str]:
        for path, facts in value.items():
            try:
                check_name(path)
            except Refused as error:
                raise ValueError(str(error)) from None
            if not _FACTS.fullmatch(facts):
                raise ValueError(f"{path}: {facts!r} is not a length, a hash or both, such as 1189 sha256:…")
        return value

    def wanted(self) -> dict[Path, WantedFile]:
        """Where each file is put -> what to fetch."""
        return {Path(self.folder) / path: self._wanted(path, facts) for path, facts in self.files.items()}

    def _wanted(self, path: str, facts: str) -> WantedFile:
        found = _FACTS.fullmatch(facts)
        length = found["bytes"] if found else None
        urls = tuple(url + path for url in self.urls)
        return WantedFile(path, urls, int(length) if length else None, found["digest"] if found else None, self.obtain)

    def unpacked_record(self) -> Path:
        """The file that says that an archive was unpacked, and what came out."""
        return Path(self.folder) / f"{min(self.files)}.unpacked.json"

    def missing(self) -> list[Path]:
        """The files that are not there, or not of the right length; none where they were unpacked.

        Only sizes are looked at: `fetch_set` compares hashes.
        """
        if self.unpack is not None and self.unpacked_record().is_file():
            return []
        return [
            path
            for path, file in self.wanted().items()
            if not path.is_file() or file.n_bytes not in (None, path.stat().st_size)
        ]

    def n_bytes(self, paths: list[Path]) -> int:
        """Bytes of some of the files, as far as they are known."""
        return sum(file.n_bytes or 0 for path, file in self.wanted().items() if path in set(paths))


def fetch_set(files: FileSet, patience: Patience = PATIENCE) -> list[Fetched]:
    """Fetch the files of a set that are not there, and unpack an archive beside itself.

    The archive is deleted once it is unpacked whole.

    Raises:
        DownloadError: a file could not be had.
        AvpipeError: an archive is refused or damaged (what came before the damage lies there, and the archive stays),
            or the folder cannot be written.
    """
    from avpipe.sources.download import fetch

    fetched = []
    missing = files.missing()
    try:
        for path, file in files.wanted().items():
            if path in missing:
                fetched.append(fetch(file, path, patience))
                _log.info("%s: %s bytes, sha256 %s", path, f"{fetched[-1].n_bytes:,}", fetched[-1].sha256)
        if files.unpack is not None and not files.unpacked_record().is_file():
            _unpack(files, files.unpack)
    except OSError as error:
        raise AvpipeError(
            f"{files.folder} cannot be written: {error}. Make room or change its permissions, then run the same "
            "command again: it goes on where it was."
        ) from error
    return fetched


def _unpack(files: FileSet, rules: Unpack) -> None:
    from avpipe.sources.archives import Limits, unpack

    parts = sorted(files.wanted())
    target = Path(files.folder) / "unpacked"
    limits = Limits(rules.bytes, rules.members)
    unpacked = unpack(parts, target, limits, strip_components=rules.strip_components)
    if unpacked.damage:
        raise AvpipeError(
            f"{parts[0]} is damaged: {unpacked.damage}. The files before the damage are in {target}. Delete the "
            "archive and fetch it again, or go on with what is there."
        )
    write_json(
        files.unpacked_record(), asdict(unpacked) | {"archive": {path.name: files.files[path.name] for path in parts}}
    )
    for path in parts:
        path.unlink()
