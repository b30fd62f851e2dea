"""A training run as a folder: settings, log, state and sample sheets, safe against a kill at any moment.

    run/settings.json   what was asked for
    run/log.jsonl       one JSON object a line
    run/state.pt        weights, optimizer, averaged weights, step: all that is needed to go on
    run/samples/        sheets as PNG

The loop is `fit`; what is trained, and on what, stands in `vae` and `dit`. Under torchrun every process draws batches
of its own and they share their gradients; the first one, rank 0, keeps the folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..files import replacing
from .muon import Muon


@dataclass(frozen=True)
class Training:
    """What every run is told."""

    steps: int = 10_000  # may be moved when a run goes on
    learning_rate: float = 1e-3
    muon: bool = True  # Muon for kernels and matrices, instead of AdamW for everything
    adamw: float = 1.0  # rate of what Muon leaves to AdamW, in units of the learning rate
    decay: float = 0.2  # share of the run over which the rate falls to zero
    average: float = 0.998  # decay of the averaged weights, which are the result
    seed: int = 0
    log_every: int = 100
    save_every: int = 200
    validate_every: int = 500


def rank() -> int:
    """Which of torchrun's processes this is; 0 where there is only one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    """How many of them share the work."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


class Run:
    """Folder of one training run, which only the process of rank 0 reads and writes."""

    def __init__(self, folder: Path | str, networks: dict[str, Any], training: Training) -> None:
        """networks: configs of what is trained. Raises ValueError where the folder holds a run of other networks, or
        what is left of a run that cannot go on."""
        self.folder, self.training = Path(folder), training
        self.samples = self.folder / "samples"
        self._begin = time.monotonic()
        self.changed: dict[str, Any] = {}  # settings that a run goes on with, by what they were and what they are
        if rank() > 0:
            return
        path = self.folder / "settings.json"
        asked = asdict(training) | {"processes": processes()}
        text = json.dumps({"networks": networks, "training": asked}, indent=2) + "\n"
        if (self.folder / "state.pt").exists():
            known, wanted = self._settings(path), json.loads(text)
            if ("masks" in known["networks"]) != ("masks" in wanted["networks"]):
                has = "with" if "masks" in known["networks"] else "without"
                raise ValueError(f"{folder} holds a run {has} masks: give --masks as it was, or choose another folder")
            if known["networks"] != wanted["networks"]:
                raise ValueError(
                    f"{folder} holds a run of another network, or one that began from another; choose another folder"
                )
            before = asdict(type(training)()) | {"processes": 1} | known["training"]  # it may be older than a setting
            now = {k: v for k, v in wanted["training"].items() if not k.endswith("_every")}
            self.changed = {k: [before.get(k), v] for k, v in now.items() if before.get(k) != v}
        elif left := sorted([*self.folder.glob("log.jsonl"), *self.folder.glob("*.safetensors")]):
            raise ValueError(
                f"{folder} holds {left[0].name} of a run whose state.pt is gone: bring that back to go on, or choose "
                "another folder to begin anew"
            )
        self.samples.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")

    @staticmethod
    def _settings(path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            raise ValueError(f"{path} is missing or damaged: bring it back, or choose another folder") from None

    def log(self, step: int, **values: Any) -> None:
        """Append a line to the log and print it."""
        if rank() > 0:
            return
        line = {"step": step, "seconds": round(time.monotonic() - self._begin, 1)} | {
            k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()
        }
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print("  ".join(f"{k} {v}" for k, v in line.items()), flush=True)

    def save(self, **state: Any) -> None:
        """Replace the state in one stroke: a kill leaves the old one or the new one, never half of one."""
        if rank() > 0:
            return
        with replacing(self.folder / "state.pt") as partial:
            torch.save(state, partial)

    def validated(self, step: int) -> bool:
        """Whether the log has more of a step than its loss and the settings that it went on with."""
        log = self.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        found = [line for line in map(json.loads, lines) if line["step"] == step]
        return any("loss" not in line and "changed" not in line for line in found)

    def load(self) -> dict[str, Any] | None:
        """The last saved state, or None at the start of a run. The log goes back to that step, too. All processes get
        what the first one reads, whose folder the others may not see."""
        if not distributed.is_initialized():
            return self._load()
        state = [self._load() if rank() == 0 else None]
        distributed.broadcast_object_list(state)
        return state[0]

    def _load(self) -> dict[str, Any] | None:
        path, log = self.folder / "state.pt", self.folder / "log.jsonl"
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (EOFError, RuntimeError, UnpicklingError):
            raise ValueError(f"{path} is damaged: bring it back from a copy, or choose another folder") from None
        if log.exists():
            lines = [line for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
            kept = [line for line in lines if json.loads(line)["step"] <= state["step"]]
            with replacing(log) as partial:
                partial.write_text("".join(kept), encoding="utf-8")
            if kept:
                self._begin -= json.loads(kept[-1])["seconds"]
        return state


def fit(
    run: Run,
    module: nn.Module,
    loss_of: Callable[[np.random.Generator, torch.Generator], Tensor],
    validate: Callable[[int, dict[str, Tensor]], None],
    slow: str | None = None,
    stop_at: int | None = None,
) -> None:
    """Train a module, or go on with its run; leaves the averaged weights in it.

    loss_of(rng, generator) draws a batch and gives its loss. Both generators are seeded from the step and the rank, so
    a killed run draws what another would. validate(step, averaged weights) looks at the result so far.
    slow: parameters whose names begin so go at a tenth of the rate. stop_at: leave after this step, as a kill would.
    """
    training = run.training
    parameters = list(module.parameters())
    optimizer = Optimizers(module, training.learning_rate, training.muon, slow, training.adamw)
    average, step = Average(module, training.average), 0
    norms: list[float] = []  # of the last gradients
    losses: list[float] = []  # since the last line of the log
    if state := run.load():
        module.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.take(state["average"])
        step, norms, losses = state["step"], state["norms"], state["losses"]
        if run.changed:
            run.log(step, changed=run.changed)

    def save() -> None:
        state = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average.values}
        run.save(**state, step=step, norms=norms, losses=losses)

    def due(step: int) -> bool:
        return step > 0 and (step % training.validate_every == 0 or step == training.steps)

    if due(step) and rank() == 0 and not run.validated(step):  # it was killed before it was
        validate(step, average.values)
    if state is None:
        save()  # before the first line of the log: it tells a run that was killed from one that lost its state
    generator = torch.Generator()
    while step < training.steps:
        rng = np.random.default_rng((training.seed, step, rank()))
        generator.manual_seed(int(rng.integers(2**62)))
        loss = loss_of(rng, generator)
        optimizer.zero_grad()
        loss.backward()
        loss = over_all(loss.detach(), parameters)
        if clip_gradients(parameters, norms):
            optimizer.step(learning_rate(step, training.steps, training.decay))
            average.update(module, step)
        losses.append(float(loss))
        step += 1
        if step % training.log_every == 0:
            run.log(step, loss=float(np.mean(losses)))
            losses.clear()
        if step % training.save_every == 0 or due(step):  # first: validation takes its time
            save()
        if due(step) and rank() == 0:
            validate(step, average.values)
        if step == stop_at:
            break
    module.load_state_dict(average.values)


def over_all(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """The mean loss of all processes; their mean gradient takes the place of this one's."""
    if not distributed.is_initialized():
        return loss
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([loss.view(1), *(gradient.flatten() for gradient in gradients)])
    distributed.all_reduce(together)
    together /= processes()
    loss, *means = together.split([1, *(gradient.numel() for gradient in gradients)])
    torch._foreach_copy_(gradients, [mean.view_as(g) for mean, g in zip(means, gradients, strict=True)])
    return loss


class Average:
    """Exponential moving average of a module's parameters; follows closely at first, then at `decay`."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def take(self, values: dict[str, Tensor]) -> None:
        """Go on from these averages."""
        for name, value in values.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        weight = 1 - min(self.decay, (step + 1) / (step + 10))
        targets = module.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [targets[k].detach() for k in self.values], weight)


NOT_MATRICES = ("embedding", "modulation", "local", "head")  # what Muon leaves: inputs, outputs and single channels


class Optimizers:
    """Muon for kernels and matrices, AdamW for the rest, behind one step.

    peak: the learning rate, which each step scales. muon: False leaves everything to AdamW. slow: parameters whose
    names begin so go to AdamW, at a tenth of its rate. adamw: AdamW's rate, in units of the peak.
    """

    def __init__(
        self, module: nn.Module, peak: float, muon: bool = True, slow: str | None = None, adamw: float = 1.0
    ) -> None:
        matrices, others, slowed = [], [], []
        for name, parameter in module.named_parameters():
            if slow is not None and name.startswith(slow):
                slowed.append(parameter)
            elif muon and parameter.ndim >= 2 and not any(part in name for part in NOT_MATRICES):
                matrices.append(parameter)
            else:
                others.append(parameter)
        groups = [{"params": others, "peak": peak * adamw}, {"params": slowed, "peak": peak * adamw / 10}]
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


def learning_rate(step: int, steps: int, decay: float, warmup: int = 100) -> float:
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
