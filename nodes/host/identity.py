"""What tells a MODEL, a CLIP and a VAE, with all that nodes have put on them, from others."""

from __future__ import annotations

import inspect
import types
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import uuid4

import comfy.model_patcher
import comfy.sd
import numpy as np
import torch
from torch import Tensor, nn

from ...sora_core.fingerprint import fingerprint
from .model import HostModel
from .text import present

DEPTH = 24  # of what is looked into
NAMED = (type, types.ModuleType, types.BuiltinFunctionType, types.MethodWrapperType)  # whose name says all
PUT_ON = ("model_options", "object_patches", "wrappers", "injections", "hook_patches", "forced_hooks")  # on a patcher
INNER = set(vars(nn.Module()))  # what every network has
RUN = (  # fields in which hooks and context windows of the host keep how far a run has come
    "_step", "_curr_t", "curr_t", "start_t",
    "_current_keyframe", "_current_used_steps", "_current_index", "_current_strength",
)  # fmt: skip
CHOSEN = ("layer_idx", "tokenizer_options", "apply_hooks_to_conds", "use_clip_schedule")  # of a CLIP


def identity(model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP | None, vae: comfy.sd.VAE) -> dict[str, Any]:
    """Of the networks with their LoRAs and patches, as JSON, also in another session. What cannot be told apart by its
    values is another every time: better made again than taken for something else. Globals that a function reads are
    not looked at."""
    clip = present(clip)
    further = [other for others in model.additional_models.values() for other in others]
    patchers = {"model": model, "clip": clip.patcher, "vae": vae.patcher}
    patchers |= {f"model {number}": other for number, other in enumerate(further, 2)}
    described = _Described(patchers.values())
    weights = {name: fingerprint(_weights(patcher)) for name, patcher in patchers.items()}
    put_on = {
        name: {part: described(getattr(patcher, part, None)) for part in PUT_ON} for name, patcher in patchers.items()
    }
    ours = [patcher.model for patcher in patchers.values() if isinstance(patcher.model, HostModel)]
    ways = [[one.per_token, one.defaults and one.defaults.to_dict()] for one in ours]
    text = {name: described(getattr(clip, name, None)) for name in CHOSEN}
    return weights | {"put on": put_on, "text": text, "ways": ways}


def _weights(patcher: comfy.model_patcher.ModelPatcher) -> Iterator[tuple[str, Tensor]]:
    """A network's weights as they were loaded, and what LoRAs add. While a network is in use the host has worked the
    LoRAs into its weights, and keeps what they were in `backup`."""
    for name, weight in patcher.model.named_parameters():
        yield name, patcher.backup[name].weight if name in patcher.backup else weight
    for name, patches in patcher.patches.items():
        for strength, patch, strength_of_model, offset, *_ in patches:
            parts = list(_parts(patch))
            plain = [str(part) for part in parts if not isinstance(part, Tensor)]
            for tensor in (part for part in parts if isinstance(part, Tensor)):
                yield f"{name} {strength} {strength_of_model} {offset} {plain}", tensor


def _parts(value: Any) -> Iterator[Any]:
    """Tensors, numbers and texts of what a LoRA loader has put on a MODEL, in its order: kind, alpha and weights."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    elif hasattr(value, "weights"):
        yield type(value).__qualname__
        yield from _parts(value.weights)
    elif value is None or isinstance(value, (Tensor, bool, int, float, str)):
        yield value


class _Described:
    """Anything as JSON: functions by name, code and the values they hold, objects by class and fields, networks by
    their weights, but by class where they belong to one of the patchers, whose weights are told elsewhere."""

    def __init__(self, patchers: Collection[comfy.model_patcher.ModelPatcher]) -> None:
        self.known = {id(patcher) for patcher in patchers}
        self.known |= {id(module) for patcher in patchers for module in patcher.model.modules()}
        self.known -= {id(patch) for patcher in patchers for patch in patcher.object_patches.values()}  # while in use
        self.seen: dict[int, tuple[int, Any]] = {}  # by id: number, and the object, so that the id stays its own

    def __call__(self, value: Any, depth: int = DEPTH) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, bytes):
            return ["bytes", sha256(value).hexdigest()]
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
            return [str(value.dtype), value.shape, sha256(value.tobytes()).hexdigest()]
        if isinstance(value, Tensor):
            whole = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            return [str(value.dtype), tuple(value.shape), sha256(whole.numpy().tobytes()).hexdigest()]
        if isinstance(value, (torch.dtype, torch.device, complex, types.EllipsisType)):
            return str(value)
        if isinstance(value, NAMED):
            of = getattr(value, "__self__", None)  # of a method that is built in
            return [_name(value), None if isinstance(of, types.ModuleType) else self(of, depth - 1)]
        if id(value) in self.known:
            return type(value).__qualname__
        if id(value) in self.seen:
            return f"again {self.seen[id(value)][0]}"
        self.seen[id(value)] = len(self.seen), value
        return uuid4().hex if depth == 0 else self._parts(value, depth - 1)

    def _parts(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return [[self(key, depth), self(part, depth)] for key, part in value.items()]
        if isinstance(value, (list, tuple)):
            return [self(part, depth) for part in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(repr, (self(part, depth) for part in value)))
        if isinstance(value, nn.Module):
            tensors = [*value.named_parameters(), *value.named_buffers()]
            fields = [
                [name, _name(type(module)), self({k: v for k, v in vars(module).items() if k not in INNER}, depth)]
                for name, module in value.named_modules()
            ]
            return [fingerprint(tensors), fields]
        if isinstance(value, comfy.model_patcher.ModelPatcher):
            put_on = [self(getattr(value, part, None), depth) for part in PUT_ON]
            return [type(value).__qualname__, fingerprint(_weights(value)), put_on]
        held = _held(value)
        return uuid4().hex if held is None else [_name(value), self(held, depth)]


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _held(value: Any) -> list[Any] | None:
    """The values that a function or an object holds; None where nobody can tell."""
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if inspect.ismethod(value):
        return [value.__func__, value.__self__]
    if inspect.iscode(value):
        return [value.co_code, value.co_names, value.co_consts]
    if inspect.isfunction(value):
        held: list[Any] = [value.__code__, value.__defaults__, value.__kwdefaults__]
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # a name that has no value yet
                held.append(cell.cell_contents)
        return held
    given = [getattr(kind, "__slots__", ()) for kind in type(value).__mro__]
    slots = [slot for some in given for slot in ([some] if isinstance(some, str) else some) if slot[:2] != "__"]
    if not hasattr(value, "__dict__") and not slots:
        return None
    noted = RUN if type(value).__module__.startswith("comfy.") else ()
    fields = {name: field for name, field in getattr(value, "__dict__", {}).items() if name not in noted}
    return [fields, [getattr(value, slot, None) for slot in slots]]
