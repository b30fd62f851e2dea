# ruff: noqa: E402 - the host's modules ask for the device as they are imported
"""What only the host's own process can tell. Run by the host's Python:

    python inside.py HOST identities      what tells MODELs and CLIPs from each other: no two cases are alike
    python inside.py HOST runs            the same before and after a run
    python inside.py HOST clock           timesteps that the network gets under strengths, in 16 bits
    python inside.py HOST attention       whether it is torch's, under every option of the host

prints one line of JSON a case.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, sys.argv[1])
import comfy.cli_args
import utils.install_util  # noqa: F401 - before another `utils` comes in its way

comfy.cli_args.args.cpu = True
import comfy.context_windows
import comfy.hooks
import comfy.weight_adapter.lora
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import ModelComputeDtype, ModelSamplingSD3, RescaleCFG

PACK = Path(__file__).parents[2] / "__init__.py"
spec = importlib.util.spec_from_file_location("pack", PACK, submodule_search_locations=[str(PACK.parent)])
assert spec is not None and spec.loader is not None
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
from pack.nodes import host
from pack.nodes.host.model import STRENGTH, attends_by_torch
from pack.sora_core.checkpoint import load_checkpoint

model, clip, vae = host.to_host(load_checkpoint())
KEY = "diffusion_model.blocks.0.self_attn.q.weight"


class Scaled:
    """Stands in a forward's place, as attention guidance of other packs does."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def forward(self, *_: Any, **__: Any) -> float:
        return self.scale


def patched(change: Callable[[Any], Any]) -> Any:
    other = model.clone()
    change(other)
    return other


def with_lora(strength: float, value: float) -> Any:
    delta = torch.full_like(model.model.get_parameter(KEY), value)
    return patched(lambda m: m.add_patches({KEY: ("diff", (delta,))}, strength))


def net(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 4)


def option(value: Any) -> Any:
    return patched(lambda m: m.model_options["transformer_options"].update(curve=value))


def replacing_block(block: torch.nn.Module) -> Any:
    return patched(lambda m: m.set_model_patch_replace(lambda args, _: block(args), "dit", "double_block", 0))


def forward(scale: float) -> Any:
    name = "diffusion_model.blocks.0.cross_attn.forward"
    return patched(lambda m: m.add_object_patch(name, Scaled(scale).forward))


def wrapped(function: Callable) -> Any:
    return patched(lambda m: m.set_model_unet_function_wrapper(function))


def models() -> Iterator[tuple[str, Any]]:
    yield "plain", model
    for value in (0.3, 0.7):
        yield f"RescaleCFG {value}", RescaleCFG().patch(model, value)[0]
        yield f"shift {value}", ModelSamplingSD3().patch(model, value)[0]
        yield f"EasyCache {value}", EasyCacheNode.execute(model, value, 0.15, 0.95, False)[0]
        yield f"forward {value}", forward(value)
        for strength in (0.5, 1.0):
            yield f"LoRA {value} at {strength}", with_lora(strength, value)
        for made in (value, np.float32(value), np.full(2, value), torch.full((2,), value)):
            yield f"{type(made).__name__} {value}", option(made)
        yield f"bytes {value}", option(str(value).encode())
        yield f"joined {value}", host.join_experts(model, host.to_host(load_checkpoint())[0], value)
    for dtype in ("fp16", "fp32"):
        yield f"computed in {dtype}", ModelComputeDtype().patch(model, dtype)[0]
    for alpha in (1.0, 4.0):
        rows, columns = model.model.get_parameter(KEY).shape
        up, down = torch.ones(rows, 2), torch.ones(2, columns)
        adapter = comfy.weight_adapter.lora.LoRAAdapter(set(), (up, down, alpha, None, None, None))
        yield f"alpha {alpha}", patched(lambda m, adapter=adapter: m.add_patches({KEY: adapter}, 1.0))
    zeros = torch.zeros_like(model.model.get_parameter(KEY))
    for kind in ("set", "diff"):
        yield kind, patched(lambda m, kind=kind: m.add_patches({KEY: (kind, (zeros,))}, 1.0))
    for place in (3, 5):
        yield f"mask {place}", option(torch.nn.functional.one_hot(torch.tensor(place), 1000).float())
        yield f"looked up {place}", option({0: place}.get)
    for inner in (torch.nn.ReLU, torch.nn.Tanh):
        yield f"{inner.__name__} within", replacing_block(torch.nn.Sequential(net(0), inner()))
    for seed in (0, 1):
        yield f"block {seed}", replacing_block(net(seed))
    yield "wrapper", wrapped(lambda apply, call: apply(call["input"], call["timestep"], **call["c"]))
    yield "another wrapper", wrapped(lambda apply, call: 2 * apply(call["input"], call["timestep"], **call["c"]))
    yield (
        "low shifted",
        host.join_experts(model, ModelSamplingSD3().patch(host.to_host(load_checkpoint())[0], 0.3)[0], 0.3),
    )


def clips() -> Iterator[tuple[str, Any]]:
    for value in (1, 2):
        other = clip.clone()
        other.tokenizer_options = {"min_length": value}
        yield f"tokenizer option {value}", other
        other = clip.clone()
        other.layer_idx = -value
        yield f"layer {value}", other
        other = clip.clone()
        other.apply_hooks_to_conds = comfy.hooks.create_hook_lora({}, float(value), 1.0)
        yield f"hook {value}", other


def identities() -> None:
    for name, other in models():
        print(json.dumps({"case": name, "identity": host.identity(other, clip, vae)}))
    for name, other in clips():
        print(json.dumps({"case": name, "identity": host.identity(model, other, vae)}))


def runs() -> None:
    """What nodes put on a model or a text encoder and the host changes while it samples."""
    sigmas = torch.tensor([0.9, 0.5, 0.1])
    options = {"sample_sigmas": sigmas}
    hooks = comfy.hooks.create_hook_lora({}, 1.0, 1.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.5, 0.5)):
        frames.add(comfy.hooks.HookKeyframe(strength, start))
    hooks.set_keyframes_on_hooks(frames)
    hooked = clip.clone()
    hooked.apply_hooks_to_conds = hooks
    windows = comfy.context_windows.IndexListContextHandler(
        comfy.context_windows.get_matching_context_schedule("standard_uniform"),
        comfy.context_windows.get_matching_fuse_method("pyramid"), 5, 2, dim=2,
    )  # fmt: skip
    windowed = patched(lambda m: m.model_options.update(context_handler=windows))
    before = host.identity(windowed, hooked, vae)
    frames.initialize_timesteps(model.model)
    for sigma in sigmas:
        frames.prepare_current_keyframe(float(sigma), options)
        windows.set_step(sigma[None], {"transformer_options": options})
    assert windows._step == 2 and frames._current_index == 1
    print(json.dumps({"case": "hooks and windows", "before": before, "after": host.identity(windowed, hooked, vae)}))


def clock() -> None:
    network = model.model
    told = []
    network.diffusion_model.forward = lambda x, timestep, **_: told.append(timestep) or x
    patches = torch.linspace(0, 1, 20).view(1, 1, 5, 2, 2)
    strengths = patches.repeat_interleave(2, 3).repeat_interleave(2, 4)
    x = torch.zeros(1, 16, 5, 4, 4)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        network.manual_cast_dtype = dtype
        for key in (STRENGTH, "denoise_mask"):
            conds = network.extra_conds(noise=x, device="cpu", cross_attn=torch.zeros(1, 1, 192), **{key: strengths})
            given = {
                name: cond.process_cond(batch_size=1, device="cpu", area=None).cond for name, cond in conds.items()
            }
            network.apply_model(x, torch.ones(1), transformer_options={}, **given)
            wanted = 1000 * patches.flatten(1)
            print(json.dumps({"case": f"{key} in {dtype}", "error": float((told.pop() - wanted).abs().max())}))


def attention() -> None:
    args = comfy.cli_args.args
    print(json.dumps({"case": "", "torch": attends_by_torch()}))
    for name in [name for name in vars(args) if name.startswith("use_") and name.endswith("_attention")]:
        if name == "use_pytorch_cross_attention":
            continue
        setattr(args, name, True)
        print(json.dumps({"case": name, "torch": attends_by_torch()}))
        setattr(args, name, False)


{"identities": identities, "runs": runs, "clock": clock, "attention": attention}[sys.argv[2]]()
