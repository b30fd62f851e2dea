"""A training run as a folder: settings, log, state and sample sheets, safe against a kill at any moment.

    run/settings.json   what was asked for
    run/log.jsonl       one JSON object a line
    run/state.pt        weights, optimizer, averaged weights, step: all that is needed to go on
    run/samples/        sheets as PNG

Every random number of step n comes from `generator(n)`, so a run that was killed and goes on draws the same numbers as
one that was not.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .muon import Muon


class Run:
    """Folder of one training run."""

    def __init__(self, folder: Path | str, settings: dict[str, Any], seed: int = 0) -> None:
        self.folder = Path(folder)
        self.seed = seed
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        (self.folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
        self._started = time.monotonic()

    def generator(self, step: int) -> np.random.Generator:
        """Random numbers of one step; also seeds torch generators of that step."""
        return np.random.default_rng((self.seed, step))

    def log(self, step: int, **values: Any) -> None:
        """Append a line to the log and print it."""
        line = {"step": step, "seconds": round(time.monotonic() - self._started, 1)} | {
            k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()
        }
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print("  ".join(f"{k} {v}" for k, v in line.items()), flush=True)

    def save(self, **state: Any) -> None:
        """Replace the state in one stroke: a kill leaves the old one or the new one, never half of one."""
        partial = self.folder / "state.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.folder / "state.pt")

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None at the start of a run."""
        path = self.folder / "state.pt"
        return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


class Average:
    """Exponential moving average of a module's parameters; follows closely at first, then at `decay`."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (step + 1) / (step + 10))
        targets = module.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [targets[k].detach() for k in self.values], weight)


class Optimizers:
    """Muon for kernels and matrices, AdamW for the rest, behind one step.

    peak: the learning rate of both, which each step scales. muon: False leaves everything to AdamW. slow: parameters
    whose names begin so go at a tenth of the rate.
    """

    def __init__(self, module: nn.Module, peak: float, muon: bool = True, slow: str | None = None) -> None:
        matrices, others, slowed = [], [], []
        for name, parameter in module.named_parameters():
            if slow is not None and name.startswith(slow):
                slowed.append(parameter)
            elif muon and parameter.ndim >= 2 and not name.endswith("modulation"):
                matrices.append(parameter)
            else:
                others.append(parameter)
        groups = [{"params": others, "peak": peak}, {"params": slowed, "peak": peak / 10}]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        ]
        if matrices:
            self.parts.append(Muon([{"params": matrices, "peak": peak}], lr=peak))

    def step(self, scale: float) -> None:
        """Update the weights at `scale` times the peak rate."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["peak"] * scale
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Moments of a saved state; the rates stay those asked for now."""
        for i, part in enumerate(self.parts):
            peaks = [group["peak"] for group in part.param_groups]
            part.load_state_dict(state[str(i)])
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["peak"] = peak


def learning_rate(step: int, steps: int, warmup: int = 100, decay: float = 0.2) -> float:
    """Share of the peak rate: warm up, hold, then fall linearly to zero over the last `decay` of the run. A run can be
    lengthened or ended early by moving its end alone (warmup-stable-decay, arXiv 2404.06395)."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, (steps - step) / max(1.0, decay * steps))
    return rise * fall


def clip_gradients(parameters: list[Tensor], history: list[float]) -> bool:
    """Clip to twice the median of the last hundred norms (at most 1.0 at the start). False where a gradient is not
    finite: such a step must be left out."""
    limit = 2 * float(np.median(history)) if len(history) >= 20 else 1.0
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    if not np.isfinite(norm):
        return False
    history.append(min(norm, 2 * limit))
    del history[:-100]
    return True
