"""The lock file: what files were when they were first fetched whose hash nobody publishes, so that later ones agree.

How a group shares it: docs/sources.md, The table of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from filelock import FileLock
from pydantic import Field, TypeAdapter, ValidationError

from avpipe.errors import AvpipeError
from avpipe.io.atomic import write_text
from avpipe.settings import Settings
from avpipe.sources.wanted import Fetched, WantedFile

LOCK_FILE = "files.lock.yaml"
"""Its name below the folder of downloads."""

_HEADER = """\
# Files whose hash nobody publishes, as they were when they were first fetched: avpipe refuses others under their names.
# Copied to another machine it holds there too. Delete an entry to take what is fetched next (docs/sources.md).
"""


class Pin(Settings):
    """What a file was when it was first fetched."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Its digest.")
    bytes: int = Field(ge=0, description="Its length.")
    date: str = Field(description="When that was (UTC).")
    host: str = Field("", description="Which server gave it in the end; empty: a person put it there.")
    etag: str = Field("", description="What the server called this version of it.")


_Entries = TypeAdapter(dict[str, dict[str, Pin]])


@dataclass(frozen=True)
class Pins:
    """The entries of one set of files in the lock file.

    Attributes:
        path: the lock file; it need not exist.
        name: the set's name in config/files.yaml.
    """

    path: Path
    name: str

    def of(self, file: str) -> Pin | None:
        """What is known of a file of the set.

        Raises:
            AvpipeError: the lock file cannot be read, or is none.
        """
        return self._read().get(self.name, {}).get(file)

    def applied(self, file: WantedFile) -> WantedFile:
        """A file as it is wanted: with its pinned length and hash where the table knows no hash.

        Raises:
            AvpipeError: as `of`.
        """
        pin = self.of(file.name) if file.digest is None else None
        if pin is None:
            return file
        known = f"{self.path} pins since {pin.date} (delete its {self.name}: {file.name} if another one is meant)"
        return replace(file, n_bytes=pin.bytes, digest=f"sha256:{pin.sha256}", known_from=known)

    def keep(self, file: WantedFile, fetched: Fetched) -> None:
        """Write down what was fetched, unless the table knows the file's hash.

        Raises:
            AvpipeError: another process has pinned another file meanwhile; or as `of`.
        """
        if file.digest is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            entries = self._read()
            pin = entries.get(self.name, {}).get(file.name)
            if pin is not None and pin.sha256 != fetched.sha256:
                raise AvpipeError(
                    f"{file.name} has the sha256 {fetched.sha256}, and {self.path} pins {pin.sha256} since {pin.date}. "
                    f"Run the same command again, or delete the entry {self.name}: {file.name} there."
                )
            if pin is None:
                new = Pin(
                    sha256=fetched.sha256,
                    bytes=fetched.n_bytes,
                    date=fetched.date,
                    host=fetched.host,
                    etag=fetched.etag,
                )
                self._write(entries | {self.name: entries.get(self.name, {}) | {file.name: new}})

    def _read(self) -> dict[str, dict[str, Pin]]:
        if not self.path.exists():
            return {}
        try:
            return _Entries.validate_python(yaml.safe_load(self.path.read_text(encoding="utf-8")) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
            raise AvpipeError(
                f"{self.path} is no lock file of avpipe: {error}. Get it again from whom you have it, or delete it: "
                "the next downloads then make a new one."
            ) from error

    def _write(self, entries: Mapping[str, Mapping[str, Pin]]) -> None:
        plain = {
            name: {file: pin.model_dump(exclude_defaults=True) for file, pin in files.items()}
            for name, files in entries.items()
        }
        write_text(self.path, _HEADER + yaml.safe_dump(plain, allow_unicode=True, width=200))
