"""Files that appear whole or not at all, and never in another's place unasked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; it takes the place of `path` if all goes well and vanishes if not.

    Raises FileExistsError where the path is taken and not to be overwritten, FileNotFoundError without its folder.
    """
    _refuse_existing(path, overwrite)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}; create it first")
    part = path.with_name(f".{uuid4().hex}.part")
    part.touch()
    mode = part.stat().st_mode
    try:
        yield part
        part.chmod(mode)  # of new files; some libraries write their own, for one user alone
        _refuse_existing(path, overwrite)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name, or set overwrite to replace it")
