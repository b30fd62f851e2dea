"""What the tests of training share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from sora_core.checkpoint import Model
from sora_core.config import PRESETS
from sora_core.train.dit import Trainee

QUIET = 10_000  # further than any run here goes


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def trainee(tiny: Model, masks: bool = False) -> Trainee:
    preset = PRESETS["tiny"]
    assert preset.text is not None
    sizes = replace(preset.dit, text_len=64), replace(preset.text, max_tokens=64)
    return Trainee(*sizes, tiny.tokenizer, masks=masks)


def lines(folder: Path) -> list[dict]:
    """The log of a run, without its times."""
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]
