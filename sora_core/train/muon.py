"""Muon: momentum whose matrices are made orthogonal before each step (kellerjordan.github.io/posts/muon).

torch.optim.Muon takes matrices only and one after another; this one takes convolution kernels too, and matrices of one
shape together, which is three times faster for a small network. Steps are scaled to the size of AdamW's
(arXiv 2502.16982), so the two share one learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of (N, rows, columns), roughly (singular values about 0.7 to 1.2), by a
    Newton-Schulz iteration, in bfloat16 on a GPU; CPUs differ in which is faster."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16() if x.is_cuda else x
    tall = x.shape[1] > x.shape[2]
    x = x.mT.contiguous() if tall else x
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon over weights of two or more axes; a kernel counts as a matrix (out, in * taps)."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in alike.items():
                gradients = [parameter.grad for parameter in parameters]
                for parameter in parameters:
                    if not self.state[parameter]:
                        self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                momenta = [self.state[parameter]["momentum"] for parameter in parameters]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
                updates = orthogonalise(torch.stack([update.flatten(1) for update in updates]))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                steps = [update.view_as(parameter) for update, parameter in zip(updates, parameters, strict=True)]
                torch._foreach_add_(parameters, steps, alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
