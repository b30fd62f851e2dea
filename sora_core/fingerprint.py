"""Short marks that tell one network's weights, or one clip, from another: 16 hexadecimal digits."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import torch
from torch import Tensor


def fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    """Tells a network's weights from others by their names and a few values of each."""
    hashed = sha256()
    for name, weight in weights:
        flat = weight.detach().flatten()
        hashed.update(name.encode())
        hashed.update(flat[:: max(1, len(flat) // 16)].to("cpu", torch.float32).numpy().tobytes())
    return hashed.hexdigest()[:16]


def digest(*parts: Tensor) -> str:
    """Tells one clip (T, ...), given in parts of it, or its latents from another. It is never copied as a whole."""
    hashed = sha256()
    for row in (row for part in parts for row in torch.atleast_1d(part)):
        hashed.update(row.contiguous().float().cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]
