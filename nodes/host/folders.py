"""Where the host keeps models and what it makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...sora_core.checkpoint import BUNDLED
from ...sora_core.tensors import files_of

BUNDLED_NAME = "sora-mini (bundled)"


def _register_folder() -> None:
    folder_paths.add_model_folder_path("sora", os.path.join(folder_paths.models_dir, "sora"))
    paths, _ = folder_paths.folder_names_and_paths["sora"]
    folder_paths.folder_names_and_paths["sora"] = (paths, {".safetensors"})  # an empty set would list every file


_register_folder()


def checkpoint_names() -> list[str]:
    """The bundled model, then every safetensors file under models/sora."""
    return [BUNDLED_NAME, *folder_paths.get_filename_list("sora")]


def checkpoint_path(name: str) -> Path:
    """Where a checkpoint lies. Raises FileNotFoundError that says where to put it."""
    if name == BUNDLED_NAME:
        return BUNDLED
    path = folder_paths.get_full_path("sora", name)
    if path is None:
        raise FileNotFoundError(f"checkpoint {name!r} is not in models/sora; put it there, or choose {BUNDLED_NAME!r}")
    return Path(path)


def accepts(check: Callable[..., object], *values: object) -> bool | str:
    """For a node's `validate_inputs`: True, or what `check` raises of the values; of a linked one, None, nothing is
    known yet."""
    try:
        if None not in values:
            check(*values)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    return True


def stamp(find: Callable[[str], Path], name: str | None) -> str:
    """For a node's `fingerprint_inputs`: changes when the file of this name, or another shard of the same model, does.
    A linked name is not known yet: None."""
    if name is None:
        return ""
    stats = [(part, part.stat()) for part in files_of(find(name))]
    return " ".join(f"{part} {stat.st_mtime_ns} {stat.st_size}" for part, stat in stats)


def weight_names(folder: str) -> list[str]:
    """The .safetensors files in one of the host's folders of models."""
    return [name for name in folder_paths.get_filename_list(folder) if name.endswith(".safetensors")]


def weight_path(folder: str, name: str) -> Path:
    """Where such a file lies. Raises FileNotFoundError that says where to put it."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise FileNotFoundError(f"{name!r} is not in models/{folder}; put it there")
    return Path(path)


def check_draft_name(name: str) -> None:
    """Raises ValueError where a name would leave the folder of drafts."""
    if Path(name).name != name or not name.strip(". "):
        raise ValueError(f"name {name!r}: give a plain name, without folders")


def new_draft(name: str) -> Path:
    """A file in the host's output that does not exist yet. Raises ValueError where the name would leave its folder."""
    check_draft_name(name)
    folder, begin, number, _, _ = folder_paths.get_save_image_path(
        f"drafts/{name}", folder_paths.get_output_directory()
    )
    return Path(folder) / f"{begin}_{number:05}_.safetensors"


def draft_names() -> list[str]:
    return sorted(path.name for path in _drafts().glob("*.safetensors"))


def draft_path(name: str) -> Path:
    """Where a draft lies. Raises FileNotFoundError that says where drafts come from."""
    if name not in draft_names():
        raise FileNotFoundError(f"draft {name!r} is not in {_drafts()}; Sora Save Draft writes files there")
    return _drafts() / name


def _drafts() -> Path:
    return Path(folder_paths.get_output_directory()) / "drafts"


def keeping_folder(name: str) -> Path:
    """Folder of the host's output for work that must outlive a crash."""
    return Path(folder_paths.get_output_directory()) / "sora_long" / name
