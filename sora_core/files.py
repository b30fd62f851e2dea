"""Files that appear whole or not at all, and never in another's place unasked."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError


class replacing(AbstractContextManager):  # noqa: N801 - reads as a function, as those of contextlib do
    """A temporary sibling of `path` to write to; it takes the place of `path` if all goes well and vanishes if not.

    Where the path is taken and not to be overwritten, FileExistsError is raised, or, `numbered`, the file gets the next
    free number, also where the path was taken while it was written. `path` is where it stands afterwards. Raises
    FileNotFoundError without a folder for it, and OSError that names it where it cannot be written.
    """

    def __init__(self, path: Path, overwrite: bool = True, *, numbered: bool = False) -> None:
        self.path, self._overwrite, self._numbered = path, overwrite, numbered

    def __enter__(self) -> Path:
        if self.path.exists() and not (self._overwrite or self._numbered):
            raise FileExistsError(self._taken())
        self._part = part_of(self.path)
        self._mode = self._part.stat().st_mode
        return self._part

    def __exit__(self, error: type[BaseException] | None, value: BaseException | None, *_: object) -> None:
        try:
            if isinstance(value, SafetensorError):  # which is no OSError: of a full disk, say
                raise OSError(f"{self.path} could not be written ({value})") from value
            if error is None:
                with self._part.open("rb") as file:  # else a power cut may leave an empty file under the name
                    os.fsync(file.fileno())
                self._part.chmod(self._mode)  # of new files; some libraries write their own, for one user alone
                self._publish()
        finally:
            self._part.unlink(missing_ok=True)

    def _publish(self) -> None:
        if self._overwrite:
            self._part.replace(self.path)
            return
        while not _put(self._part, self.path):
            if not self._numbered:
                raise FileExistsError(self._taken())
            self.path = free_name(self.path)

    def _taken(self) -> str:
        return f"{self.path} exists; choose another name, or set overwrite to replace it"


def part_of(path: Path) -> Path:
    """An empty temporary sibling of a file to be. Raises as `replacing` does."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        part.touch()
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}); choose another folder") from None
    return part


def _put(part: Path, path: Path) -> bool:
    """Put a file at a path, False where that is taken: a link never replaces what came in between, as a move would."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # not every file system has links
        if path.exists():
            return False
        part.replace(path)
    return True


def free_name(path: Path) -> Path:
    """The path itself, or with the first number from 2 on whose name is not taken."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return free
