"""What the tests of training share."""

from __future__ import annotations

import torch

QUIET = 10_000  # further than any run here goes


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
