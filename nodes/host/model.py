"""Our transformer as the host's MODEL."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.cli_args
import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ...sora_core.checkpoint import Model
from ...sora_core.config import DiTConfig, SamplingDefaults
from ...sora_core.dit import Attention, DiT, rotary_table
from ...sora_core.flow import TIMESTEPS, shift_for
from ...sora_core.layouts import load_dit
from ...sora_core.patches import Grid, map_to_tokens

STRENGTH = "sora_strength"  # key of a conditioning: the strength map (B, 1, T, H, W) that it is sampled under
UNIT = 2**20  # strengths go through the host as whole numbers: fractions it rounds to the precision it computes in
COMPUTE_DTYPES = [torch.bfloat16, torch.float32]
WAN_DTYPES = [torch.float16, torch.bfloat16, torch.float32]
WAN22_CHANNELS = 48  # of Wan 2.2's 5B, the one public Wan that was trained with levels per frame
WAN_SHIFT = 8.0  # the host's own for every Wan


def attends_by_torch() -> bool:
    """Whether torch's attention is what the host would take, which a CPU may: there the host's own is slower."""
    asked = ("sage_attention", "flash_attention", "split_cross_attention", "quad_cross_attention")
    if any(getattr(comfy.cli_args.args, f"use_{one}") for one in asked):
        return False
    management = comfy.model_management
    return management.cpu_mode() or (management.pytorch_attention_enabled() and not management.xformers_enabled())


TORCH_ATTENTION = attends_by_torch()


class HostDiT(DiT):
    """The transformer under the host's calling convention, with its patches: other attention, other blocks."""

    def __init__(self, config: DiTConfig, dtype: torch.dtype, device: Any = None, operations: Any = None) -> None:
        super().__init__(config, operations, device=device, dtype=dtype)
        self.dtype = dtype
        self._options: dict[str, Any] = {}  # of the call that is under way
        for module in self.modules():
            if isinstance(module, Attention):
                module.product = self._attention

    def forward(
        self, x: Tensor, timestep: Tensor, context: Tensor, transformer_options: dict[str, Any], **_: Any
    ) -> Tensor:
        wrappers = comfy.patcher_extension.get_all_wrappers(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, transformer_options
        )
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return run.execute(x, timestep, context, transformer_options)

    def _forward(
        self, x: Tensor, timestep: Tensor, context: Tensor, transformer_options: dict[str, Any], **_: Any
    ) -> Tensor:
        self._options = transformer_options
        try:
            return super().forward(x, timestep, context)
        finally:
            self._options = {}

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Torch's, unless the host takes another on this device or by its options, or a node puts one there."""
        if TORCH_ATTENTION and "optimized_attention_override" not in self._options:
            return functional.scaled_dot_product_attention(q, k, v)
        heads = q.shape[1]
        q, k, v = (rearrange(part, "b n l d -> b l (n d)") for part in (q, k, v))  # as the host's own Wan calls it
        out = optimized_attention(q, k, v, heads=heads, transformer_options=self._options)
        return rearrange(out, "b l (n d) -> b n l d", n=heads)

    def rotary(self, grid: Grid, device: torch.device) -> Tensor:
        """Positions, scaled and shifted where a node says so (ScaleROPE)."""
        asked = self._options.get("rope_options") or {}
        scale = tuple(asked.get(f"scale_{axis}", 1.0) for axis in "tyx")
        shift = tuple(asked.get(f"shift_{axis}", 0.0) for axis in "tyx")
        return rotary_table((grid.t, grid.h, grid.w), self.config.head_dim, device, scale, shift)

    def run_block(self, number: int, x: Tensor, *rest: Any) -> Tensor:
        self._options |= {"block_index": number, "block_type": "double", "total_blocks": len(self.blocks)}
        replaced = self._options.get("patches_replace", {}).get("dit", {}).get(("double_block", number))
        if replaced is None:
            return super().run_block(number, x, *rest)
        levels, positions, text, grid = rest
        given = {"img": x, "txt": text, "vec": levels, "pe": positions, "transformer_options": self._options}

        def original(changed: dict[str, Any]) -> dict[str, Any]:
            of_block = (changed[key] for key in ("img", "vec", "pe", "txt"))
            return {"img": super(HostDiT, self).run_block(number, *of_block, grid)}

        return replaced(given, {"original_block": original})["img"]


class HostModel(comfy.model_base.BaseModel):
    """The transformer with what the host must know to sample from it. per_token: it is told the level of every token;
    else the host's masks act on it as on any other model."""

    def __init__(self, config: HostConfig, device: Any) -> None:
        super().__init__(config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostDiT)
        self.defaults, self.per_token = config.defaults, config.per_token

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Maps go with the conditioning, so that the host cuts them to areas and repeats them for batches."""
        out = super().extra_conds(**kwargs)
        if (text := kwargs.get("cross_attn")) is not None:
            out["c_crossattn"] = comfy.conds.CONDRegular(text)  # texts of other lengths are never stretched
        for key in ("denoise_mask", STRENGTH):
            if self.per_token and (given := kwargs.get(key)) is not None:
                given = given[:, :1].to(kwargs["device"], torch.float32)
                out[key] = comfy.conds.CONDNoiseShape((given * UNIT).round().int())
        return out

    def process_timestep(
        self, timestep: Tensor, denoise_mask: Tensor | None = None, sora_strength: Tensor | None = None, **_: Any
    ) -> Tensor:
        """Timesteps (B,), or (B, L) under a map. Sora Sampler's strength holds a token at its own level; the host's
        mask mixes clean latents into x where it is below 1, so the level there is the mask times sigma."""
        clock = TIMESTEPS / float(self.model_sampling.timestep(torch.ones(())))  # of a patched schedule, too
        timestep = timestep * clock
        if sora_strength is not None:
            return torch.minimum(self._tokens(sora_strength) * TIMESTEPS, timestep[:, None])
        if denoise_mask is not None:
            return self._tokens(denoise_mask) * timestep[:, None]
        return timestep

    def _tokens(self, strength: Tensor) -> Tensor:
        strength = strength / UNIT
        return map_to_tokens(strength, Grid.of(tuple(strength.shape[2:]), self.diffusion_model.config.patch))

    def scale_latent_inpaint(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, **given: Any) -> Tensor:
        """Kept latents stay clean where the network reads them at timestep 0."""
        if self.per_token:
            return latent_image
        return super().scale_latent_inpaint(sigma=sigma, noise=noise, latent_image=latent_image, **given)

    def memory_required(self, input_shape: list[int], cond_shapes: dict[str, Any] | None = None) -> float:
        """Bytes of activations: the widest moment of a block, all clips at once."""
        config: DiTConfig = self.diffusion_model.config
        dtype = self.manual_cast_dtype or self.get_dtype()
        tokens = input_shape[0] * math.prod(input_shape[2:]) / math.prod(config.patch)
        width = 28 * config.dim + 2 * config.ffn_dim  # measured: a level per token
        return tokens * width * comfy.model_management.dtype_size(dtype)


class HostConfig(comfy.supported_models_base.BASE):
    """What the host's model base reads. shift: of the schedule. defaults: of a checkpoint of ours, whose schedule
    follows the clip's size."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - as in the base
    supported_inference_dtypes = COMPUTE_DTYPES

    def __init__(
        self, config: DiTConfig, latent_format: Any, shift: float, per_token: bool, defaults: SamplingDefaults | None
    ) -> None:
        super().__init__({"config": config})
        self.latent_format, self.per_token, self.defaults = latent_format, per_token, defaults
        self.sampling_settings = {"shift": shift, "multiplier": TIMESTEPS}


def _native(dit: DiT, config: HostConfig, dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    """A MODEL with the weights of a transformer, which are not copied where they have the dtype already."""
    management = comfy.model_management
    device = management.get_torch_device()
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, config.supported_inference_dtypes))
    host = HostModel(config, torch.device("meta"))
    host.diffusion_model.load_state_dict({key: value.to(dtype) for key, value in dit.state_dict().items()}, assign=True)
    host.diffusion_model.eval().requires_grad_(False)
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)  # of newer hosts
    return patcher(host, device, management.unet_offload_device())


def native_model(model: Model) -> comfy.model_patcher.ModelPatcher:
    """The transformer of a checkpoint of ours as the host's MODEL."""
    defaults, vae, config = model.defaults, model.vae.config, model.dit.config
    latent_format = comfy.latent_formats.LatentFormat()
    latent_format.latent_channels, latent_format.latent_dimensions = vae.z_dim, 3
    if vae.latent_rgb:
        latent_format.latent_rgb_factors = [list(row) for row in vae.latent_rgb[:-1]]
        latent_format.latent_rgb_factors_bias = list(vae.latent_rgb[-1])
    tokens = Grid.of(model.vae.latent_shape(defaults.frames, defaults.height, defaults.width), config.patch).length
    parameters = sum(p.numel() for p in model.dit.parameters())
    dtype = comfy.model_management.unet_dtype(comfy.model_management.get_torch_device(), parameters, COMPUTE_DTYPES)
    shift = shift_for(tokens, defaults.shift)
    return _native(model.dit, HostConfig(config, latent_format, shift, per_token=True, defaults=defaults), dtype)


def public_model(path: Path, per_token: bool) -> comfy.model_patcher.ModelPatcher:
    """Public Wan weights as a MODEL of ours, in the precision that most of the file has. per_token: also a model that
    was never trained for it is told the level of every token; Wan 2.2's 5B, which was, always is."""
    dit = load_dit(path)
    formats = comfy.latent_formats
    large = dit.config.in_dim == WAN22_CHANNELS
    latent_format = formats.Wan22() if large else formats.Wan21()
    config = HostConfig(dit.config, latent_format, WAN_SHIFT, per_token=per_token or large, defaults=None)
    config.supported_inference_dtypes = WAN_DTYPES
    native = _native(dit, config, _precision(dit))
    native.model.diffusion_model.reads_longer = True  # as the host's own Wan
    return native


def _precision(dit: DiT) -> torch.dtype:
    """What most of the weights have; files of four bytes a weight are kept in what the host would choose."""
    sizes: Counter[torch.dtype] = Counter()
    for weight in dit.parameters():
        sizes[weight.dtype] += weight.numel()
    dtype = sizes.most_common(1)[0][0]
    if dtype != torch.float32:
        return dtype
    management = comfy.model_management
    return management.unet_dtype(management.get_torch_device(), sizes.total(), WAN_DTYPES)


def join_experts(
    high: comfy.model_patcher.ModelPatcher, low: comfy.model_patcher.ModelPatcher, boundary: float
) -> comfy.model_patcher.ModelPatcher:
    """Two MODELs as one: `high` makes the levels from the boundary up, `low` those below. LoRAs stay each one's own;
    schedule, wrappers and patches of the attention are those of `high`, for both."""
    if high.is_clone(low):
        raise ValueError("high and low are the same weights; load the two experts, each from its own file")
    formats = [model.model.latent_format for model in (high, low)]
    one, other = (f"{form.latent_channels} channels in {form.latent_dimensions} dimensions" for form in formats)
    if one != other:
        raise ValueError(f"high makes {one} and low {other}: join two experts of one model")
    if getattr(high.model, "per_token", False) != getattr(low.model, "per_token", False):
        raise ValueError("high and low: only one is told the level of every token; set per_token alike in both")
    joined = high.clone()
    joined.set_additional_models("sora_low", [low])  # loaded and unloaded together
    wrappers = [model.model_options.get("model_function_wrapper") for model in (high, low)]

    def choose(apply: Callable, call: dict[str, Any]) -> Tensor:
        below = float(call["timestep"].max()) < boundary
        wrapper, run = wrappers[below], low.model.apply_model if below else apply
        if wrapper is not None:
            return wrapper(run, call)
        return run(call["input"], call["timestep"], **call["c"])

    joined.set_model_unet_function_wrapper(choose)
    return joined
