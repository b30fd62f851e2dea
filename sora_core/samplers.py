"""Solvers of the flow's ODE with k-diffusion's signature (github.com/crowsonkb/k-diffusion).

    sample_x(model, x, sigmas, extra_args=None, callback=None, disable=None) -> x at the last sigma

model(x, sigma, **extra_args) returns the denoised latents; sigma is a tensor (B,). callback gets a dict with x, i,
sigma, sigma_hat and denoised after each step. They know no architecture, no text and no strength map; waiting(sigma)
tells them the places that are not on their way at a level yet, where no step may look at the one before it or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import trange

from .flow import noise_again

Model = Callable[..., Tensor]
Callback = Callable[[dict[str, Any]], None]
Sampler = Callable[..., Tensor]
Waiting = Callable[[Tensor], Tensor]


def _at(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.to(x).expand(x.shape[0])


def _report(callback: Callback | None, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None:
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})


@torch.no_grad()
def sample_euler(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    waiting: Waiting | None = None,
) -> Tensor:
    """Euler's method: one call a step, each of which stands alone."""
    extra_args = extra_args or {}
    for i in trange(len(sigmas) - 1, disable=disable):
        sigma, after = sigmas[i], sigmas[i + 1]
        denoised = model(x, _at(sigma, x), **extra_args)
        _report(callback, i, x, sigma, denoised)
        x = denoised + (x - denoised) * (after / sigma)
    return x


@torch.no_grad()
def sample_heun(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    waiting: Waiting | None = None,
) -> Tensor:
    """Heun's method (arXiv 2206.00364, algorithm 1): two calls a step, but one in the last."""
    extra_args = extra_args or {}
    for i in trange(len(sigmas) - 1, disable=disable):
        sigma, after = sigmas[i], sigmas[i + 1]
        denoised = model(x, _at(sigma, x), **extra_args)
        _report(callback, i, x, sigma, denoised)
        euler = denoised + (x - denoised) * (after / sigma)
        if after == 0:
            x = euler
        else:
            slope = (x - denoised) / sigma
            slope_after = (euler - model(euler, _at(after, x), **extra_args)) / after
            if waiting is not None:
                slope_after = torch.where(waiting(sigma), slope, slope_after)
            x = x + (slope + slope_after) / 2 * (after - sigma)
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    before: tuple[Tensor, Tensor] | None = None,
    waiting: Waiting | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (arXiv 2211.01095) on the flow's path: one call a step, second order from the one before.

    The half log-SNR of the path is log((1 - sigma) / sigma); it is infinite at both ends, where the step is Euler's.
    before: sigma and denoised of the step before the first, where a run goes on.
    """
    extra_args = extra_args or {}
    first, old = (0, None) if before is None else (1, before[1].to(x))
    sigmas = sigmas if before is None else torch.cat([before[0].view(1).to(sigmas), sigmas])
    levels = sigmas.cpu().double()  # not every device has doubles
    half_snr = torch.log((1 - levels) / levels).tolist()
    for i in trange(first, len(sigmas) - 1, disable=disable):
        sigma, after = sigmas[i], sigmas[i + 1]
        denoised = model(x, _at(sigma, x), **extra_args)
        _report(callback, i - first, x, sigma, denoised)
        target = denoised
        if old is not None and after > 0 and half_snr[i - 1] != float("-inf"):
            ratio = (half_snr[i + 1] - half_snr[i]) / (half_snr[i] - half_snr[i - 1])
            change = denoised - old
            if waiting is not None:
                change = change.masked_fill(waiting(sigmas[i - 1]), 0)
            target = denoised + change * (ratio / 2)
        x = target + (x - target) * (after / sigma) if after > 0 else denoised
        old = denoised
    return x


SAMPLERS: dict[str, Sampler] = {"euler": sample_euler, "heun": sample_heun, "dpmpp_2m": sample_dpmpp_2m}


@dataclass(frozen=True)
class Progress:
    """A run on its way: latents x (B, C, T, H, W) after so many steps, and what the last step took for the result."""

    x: Tensor
    denoised: Tensor
    steps: int


def solve(
    solver: str,
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    stop: int | None = None,
    progress: Progress | None = None,
    waiting: Waiting | None = None,
) -> Progress:
    """Run a solver from pure noise x, or go on with a run, to the end or until it has done `stop` steps. A run that was
    stopped and goes on ends as one that was not, bit for bit."""
    done, last = check_span(sigmas, stop, progress)
    denoised = x

    def watch(info: dict[str, Any]) -> None:
        nonlocal denoised
        denoised = info["denoised"]
        if callback is not None:
            callback(info | {"i": info["i"] + done})

    options: dict[str, Any] = {"waiting": waiting}
    if progress is not None:
        x = progress.x.to(x)
        if solver == "dpmpp_2m" and done:
            options["before"] = sigmas[done - 1], progress.denoised
    x = SAMPLERS[solver](model, x, sigmas[done : last + 1], extra_args, watch, disable, **options)
    return Progress(x, denoised, last)


def check_span(sigmas: Tensor, stop: int | None, progress: Progress | None) -> tuple[int, int]:
    """Steps that are done, and those that will be. Raises ValueError where there are none between."""
    done, total = 0 if progress is None else progress.steps, len(sigmas) - 1
    last = total if stop is None else stop
    if not done < last <= total:
        raise ValueError(
            f"stop after step {last}: this run has done {done} of {total}; choose from {done + 1} to {total}"
        )
    return done, last


def draw_seed(seed: int, number: int) -> int:
    """Seed of a further draw of noise within a sampling; those that follow it belong to other clips and windows."""
    return int.from_bytes(sha256(f"{seed} {number}".encode()).digest()[:8]) % 2**63


def solve_again(
    solver: str,
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    passes: int,
    draw: Callable[[int], Tensor],
    stop: int | None = None,
    progress: Progress | None = None,
    waiting: Waiting | None = None,
) -> Progress:
    """As `solve`, but every step, except the one from pure noise, is taken `passes` times more, each time from what it
    came to, noised again (RePaint, arXiv 2201.09865): what a model makes settles with what is put into its latents.

    draw(n): noise like x, of its own for every n.
    """
    for step in trange(*check_span(sigmas, stop, progress), disable=disable):
        sigma, after = float(sigmas[step]), float(sigmas[step + 1])
        denoised = x if progress is None else progress.denoised
        for number in range(passes + 1 if sigma < 1 else 1):
            if number:
                again = noise_again(progress.x.to(x), draw(step * passes + number).to(x), after, sigma)
                progress = Progress(again, denoised, step)
            progress = solve(
                solver, model, x, sigmas, extra_args, callback, True, stop=step + 1, progress=progress, waiting=waiting
            )  # fmt: skip
    assert progress is not None
    return progress
