"""Drafts: what is written is what is read, and nothing else is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sora_core.draft import load_draft, save_draft
from sora_core.samplers import Progress
from sora_core.tasks import extend


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_draft_comes_back_as_it_was(tmp_path: Path, generator: torch.Generator) -> None:
    x = torch.randn(1, 16, 5, 4, 4, generator=generator)
    line = extend(torch.rand(6, 32, 32, 3, generator=generator), after=3)
    draft = {
        "samples": x, "noise_mask": x[:, :1] > 0, "batch_index": [0, 3], "sora_timeline": (line, x, x[:, :1]),
        "sora_progress": {"seed": 2**62, "solver": "euler", "at": Progress(x.bfloat16(), x.movedim(1, 2), 3)},
    }  # fmt: skip
    path = tmp_path / "new" / "draft.safetensors"
    save_draft(path, draft)
    assert same(load_draft(path), draft)
    with pytest.raises(FileExistsError, match="choose another name"):
        save_draft(path, draft)


def test_frames_of_eight_bits_are_kept_in_eight_bits(tmp_path: Path, generator: torch.Generator) -> None:
    """Every one of their values comes back to the bit; what is between them, or outside of 0..1, stays as it is."""
    frames = torch.randint(256, (16, 64, 64, 3), generator=generator) / 255
    others = (frames + 1e-6, frames - 0.5, frames.double(), torch.full((3,), torch.nan), torch.empty(0))
    others += (torch.tensor([0.0, -0.0, 1.0]),)
    draft = {"before": frames, "others": list(others)}
    save_draft(tmp_path / "small.safetensors", {"before": frames})
    assert (tmp_path / "small.safetensors").stat().st_size < frames.numel() * 1.1
    save_draft(tmp_path / "all.safetensors", draft)
    again = load_draft(tmp_path / "all.safetensors")
    assert torch.equal(again["before"], frames) and again["before"].dtype == torch.float32
    for one, other in zip(again["others"], others, strict=True):
        assert one.dtype == other.dtype and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
        assert torch.equal(one.signbit(), other.signbit())


def test_what_is_no_draft_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="what is a object, which a draft cannot hold"):
        save_draft(tmp_path / "a.safetensors", {"what": object()})
    assert not list(tmp_path.iterdir())
    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="holds no draft"):
        load_draft(tmp_path / "weights.safetensors")
    save_draft(tmp_path / "b.safetensors", {"samples": torch.ones(100)})
    data = (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-50])
    with pytest.raises(ValueError, match="is damaged"):
        load_draft(tmp_path / "cut.safetensors")
