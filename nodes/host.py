"""The only module that touches ComfyUI: our networks as its MODEL, CLIP and VAE, its sampling with our solvers,
progress, cancelling, previews and folders.

Written against hosts 0.3.64 to 0.8.0; nothing of the host is patched.
"""

from __future__ import annotations

import base64
import io as bytes_io
import logging
import math
import os
from collections.abc import Callable, Iterator
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
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io, ui
from PIL import Image
from server import PromptServer
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..sora_core.checkpoint import BUNDLED, Model, fingerprint
from ..sora_core.config import DiTConfig, SamplingDefaults, TextConfig
from ..sora_core.dit import DiT
from ..sora_core.flow import TIMESTEPS, StrengthMap, schedule, shift_for
from ..sora_core.patches import Grid, map_to_tokens, tokens_to_map
from ..sora_core.pipeline import video_to_frames
from ..sora_core.preview import latents_to_rgb
from ..sora_core.samplers import Progress, solve
from ..sora_core.text import TextEncoder, tokenize
from ..sora_core.vae import VAE, Stream

__all__ = [
    "ComfyExtension", "checkpoint_names", "checkpoint_path", "decode", "decoder", "draft_names", "draft_path", "encode",
    "encode_text", "identity", "interrupted", "io", "keeping_folder", "latent_channels", "latent_layout", "new_draft",
    "sample", "to_host", "ui",
]  # fmt: skip

BUNDLED_NAME = "sora-mini (bundled)"
PROGRESS = "sora_progress"  # key of a LATENT whose run was stopped: its settings, what it began from, how far it came
STRENGTH = "sora_strength"  # key of a conditioning: the strength map (B, 1, T, H, W) that it is sampled under
COMPUTE_DTYPES = [torch.bfloat16, torch.float32]
PREVIEW_SIDE, PREVIEW_FPS = 256, 4  # pixels; latent frames a second
TILE = 256  # pixels


# ---- folders


def _register_folder() -> None:
    folder_paths.add_model_folder_path("sora", os.path.join(folder_paths.models_dir, "sora"))
    paths, _ = folder_paths.folder_names_and_paths["sora"]
    folder_paths.folder_names_and_paths["sora"] = (paths, {".safetensors"})  # an empty set would list every file


_register_folder()


def checkpoint_names() -> list[str]:
    """The bundled model, then every safetensors file under models/sora."""
    return [BUNDLED_NAME, *folder_paths.get_filename_list("sora")]


def checkpoint_path(name: str) -> Path:
    """Where a checkpoint lies. Raises FileNotFoundError that says where to put it."""
    if name == BUNDLED_NAME:
        return BUNDLED
    path = folder_paths.get_full_path("sora", name)
    if path is None:
        raise FileNotFoundError(f"checkpoint {name!r} is not in models/sora; put it there, or choose {BUNDLED_NAME!r}")
    return Path(path)


def new_draft(name: str) -> Path:
    """A file in the host's output that does not exist yet. Raises ValueError where the name would leave its folder."""
    if Path(name).name != name or not name.strip(". "):
        raise ValueError(f"name {name!r}: give a plain name, without folders")
    folder, begin, number, _, _ = folder_paths.get_save_image_path(
        f"drafts/{name}", folder_paths.get_output_directory()
    )
    return Path(folder) / f"{begin}_{number:05}_.safetensors"


def draft_names() -> list[str]:
    return sorted(path.name for path in _drafts().glob("*.safetensors"))


def draft_path(name: str) -> Path:
    """Where a draft lies. Raises FileNotFoundError that says where drafts come from."""
    if name not in draft_names():
        raise FileNotFoundError(f"draft {name!r} is not in {_drafts()}; Sora Save Draft writes files there")
    return _drafts() / name


def _drafts() -> Path:
    return Path(folder_paths.get_output_directory()) / "drafts"


# ---- MODEL


class HostDiT(DiT):
    """The transformer under the host's calling convention."""

    def __init__(self, config: DiTConfig, dtype: torch.dtype, device: Any = None, operations: Any = None) -> None:
        super().__init__(config, operations, device=device, dtype=dtype)
        self.dtype = dtype

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
        return super().forward(x, timestep, context)


class HostModel(comfy.model_base.BaseModel):
    """The transformer with what the host must know to sample from it."""

    def __init__(self, config: HostConfig, device: Any) -> None:
        super().__init__(config, comfy.model_base.ModelType.FLOW, device=device, unet_model=HostDiT)
        self.defaults = config.defaults

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Maps go with the conditioning, so that the host cuts them to areas and repeats them for batches."""
        out = super().extra_conds(**kwargs)
        for key in ("denoise_mask", STRENGTH):
            if (given := kwargs.get(key)) is not None:
                out[key] = comfy.conds.CONDNoiseShape(given[:, :1].to(kwargs["device"]))
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
        return map_to_tokens(strength, Grid.of(tuple(strength.shape[2:]), self.diffusion_model.config.patch))

    def scale_latent_inpaint(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, **_: Any) -> Tensor:
        """Kept latents stay clean: the network reads them at timestep 0."""
        return latent_image

    def memory_required(self, input_shape: list[int], cond_shapes: dict[str, Any] | None = None) -> float:
        """Bytes of activations: the widest moment of a block, all clips at once."""
        config: DiTConfig = self.diffusion_model.config
        dtype = self.manual_cast_dtype or self.get_dtype()
        tokens = input_shape[0] * math.prod(input_shape[2:]) / math.prod(config.patch)
        width = 28 * config.dim + 2 * config.ffn_dim  # measured: a level per token
        return tokens * width * comfy.model_management.dtype_size(dtype)


class HostConfig(comfy.supported_models_base.BASE):
    """What the host's model base reads."""

    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012 - as in the base
    supported_inference_dtypes = COMPUTE_DTYPES

    def __init__(self, model: Model) -> None:
        super().__init__({"config": model.dit.config})
        defaults, vae = model.defaults, model.vae.config
        self.defaults: SamplingDefaults = defaults
        latents = model.vae.latent_shape(defaults.frames, defaults.height, defaults.width)
        tokens = Grid.of(latents, model.dit.config.patch).length
        self.sampling_settings = {"shift": shift_for(tokens, defaults.shift), "multiplier": TIMESTEPS}
        self.latent_format.latent_channels = vae.z_dim
        self.latent_format.latent_dimensions = 3
        if vae.latent_rgb:
            self.latent_format.latent_rgb_factors = [list(row) for row in vae.latent_rgb[:-1]]
            self.latent_format.latent_rgb_factors_bias = list(vae.latent_rgb[-1])


def _model(model: Model) -> comfy.model_patcher.ModelPatcher:
    management = comfy.model_management
    device, offload = management.get_torch_device(), management.unet_offload_device()
    parameters = sum(p.numel() for p in model.dit.parameters())
    dtype = management.unet_dtype(device, parameters, COMPUTE_DTYPES)
    config = HostConfig(model)
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, COMPUTE_DTYPES))
    host = HostModel(config, management.unet_inital_load_device(parameters, dtype))
    host.load_model_weights({key: value.to(dtype) for key, value in model.dit.state_dict().items()}, "")
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)  # of newer hosts
    return patcher(host, device, offload)


# ---- CLIP


class HostTokenizer:
    """Text to ids under the host's calling convention. Every word has weight 1: brackets are read as they stand."""

    def __init__(self, embedding_directory: str | None = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        assert tokenizer_data is not None
        self.tokenizer: Tokenizer = tokenizer_data["tokenizer"]
        self.max_tokens: int = tokenizer_data["max_tokens"]

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list]:
        ids = tokenize(self.tokenizer, [text], self.max_tokens)[0].tolist()
        row = [(token, 1.0, i) for i, token in enumerate(ids)] if return_word_ids else [(token, 1.0) for token in ids]
        return {"sora": [row]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple]:
        return [(pair, self.tokenizer.id_to_token(pair[0])) for pair in pairs]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class HostTextEncoder(nn.Module):
    """The text encoder under the host's calling convention."""

    def __init__(self, config: TextConfig, dtype: torch.dtype, device: Any, model_options: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = TextEncoder(config).to(device)
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """There is nothing to set: no layer to stop at, no pooled output."""

    def reset_clip_options(self) -> None:
        pass

    def encode_token_weights(self, tokens: dict[str, list]) -> tuple[Tensor, None]:
        """Features (1, max_tokens, D)."""
        ids = torch.tensor([[pair[0] for pair in row] for row in tokens["sora"]])
        features = self.encoder(ids.to(self.encoder.token.weight.device))
        return features.to(comfy.model_management.intermediate_device()), None

    def load_sd(self, state: dict[str, Tensor]) -> Any:
        return self.encoder.load_state_dict(state)


def _clip(model: Model) -> comfy.sd.CLIP:
    target = comfy.supported_models_base.ClipTarget(HostTokenizer, HostTextEncoder)
    target.params = {"config": model.text.config}
    data = {"tokenizer": model.tokenizer, "max_tokens": model.text.config.max_tokens}
    parameters = sum(p.numel() for p in model.text.parameters())
    clip = comfy.sd.CLIP(target, tokenizer_data=data, parameters=parameters)
    clip.load_sd(model.text.state_dict())
    return clip


def encode_text(clip: comfy.sd.CLIP, text: str) -> list:
    """A text as CONDITIONING."""
    clip = _present(clip)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def _present(clip: comfy.sd.CLIP | None) -> comfy.sd.CLIP:
    if clip is None:
        raise ValueError("clip is missing: the checkpoint that was loaded has no text encoder")
    return clip


# ---- VAE


def _vae(model: Model) -> comfy.sd.VAE:
    network = model.vae
    management = comfy.model_management
    time, space = network.config.time_factor, network.config.space_factor
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})  # gives every attribute that this host's VAE has
    vae.first_stage_model = network
    vae.latent_dim, vae.latent_channels, vae.output_channels = 3, network.config.z_dim, 3
    vae.upscale_ratio = (lambda t: max(0, (t - 1) * time + 1), space, space)
    vae.upscale_index_formula = (time, space, space)
    vae.downscale_ratio = (lambda t: max(0, (t - 1) // time + 1), space, space)
    vae.downscale_index_formula = (time, space, space)
    vae.crop_input = False  # a clip that does not fit is an error that says so
    vae.process_input = lambda frames: frames * 2 - 1
    vae.process_output = lambda video: video.add_(1).div_(2).clamp_(0, 1)  # some hosts discard what it returns
    vae.disable_offload = True  # its layers are not the host's and cannot be loaded in part
    vae.working_dtypes = COMPUTE_DTYPES
    vae.vae_dtype = management.vae_dtype(vae.device, COMPUTE_DTYPES)
    network.to(vae.vae_dtype)
    vae.patcher = comfy.model_patcher.ModelPatcher(network, vae.device, management.vae_offload_device())
    vae.size = None
    widest = max(*network.config.widths, *network.config.decoder_widths)
    pixels = network.config.pixel_patch**2

    def memory(frames: int, height: int, width: int, dtype: torch.dtype) -> float:
        """Bytes: the clip itself, and a piece of 4 latent frames at the level nearest the pixels."""
        piece = 4 * time * height * width / pixels * widest * 4
        return (piece + 3 * frames * height * width) * management.dtype_size(dtype)

    vae.memory_used_encode = lambda shape, dtype: memory(shape[2], shape[3], shape[4], dtype)
    vae.memory_used_decode = lambda shape, dtype: memory(shape[2] * time, shape[3] * space, shape[4] * space, dtype)
    return vae


def encode(vae: comfy.sd.VAE, frames: Tensor) -> Tensor:
    """Frames (T, H, W, 3 or 4) in 0..1 to latents (1, C, T', H', W')."""
    frames = frames[..., :3]
    network = _network(vae)
    if network is None:
        latents = vae.encode(frames)
        return latents if latents.ndim == 5 else latents.movedim(0, 1)[None]
    network.latent_shape(*frames.shape[:3])
    progress = comfy.utils.ProgressBar(frames.shape[0])
    video = frames.movedim(-1, 0)[None] * 2 - 1
    _load_vae(vae, vae.memory_used_encode(video.shape, vae.vae_dtype))
    return _or_in_tiles(lambda tile: network.encode(video, tile=tile, on_frames=progress.update_absolute)).float()


def decode(vae: comfy.sd.VAE, latents: Tensor) -> Tensor:
    """Latents (B, C, T, H, W) to frames (B * T', H', W', 3) in 0..1, one clip after the other."""
    network = _network(vae)
    if network is None:
        frames = vae.decode(latents)
        return frames.flatten(0, 1) if frames.ndim == 5 else frames
    if latents.ndim != 5:
        raise ValueError(f"latents of shape {tuple(latents.shape)}: this VAE decodes video latents (B, C, T, H, W)")
    length, height, width = (ratio(n) if callable(ratio) else ratio * n
                             for ratio, n in zip(vae.upscale_ratio, latents.shape[2:], strict=True))  # fmt: skip
    frames = torch.empty(len(latents) * length, height, width, 3)
    progress = comfy.utils.ProgressBar(len(frames))
    _load_vae(vae, vae.memory_used_decode(latents[:1].shape, vae.vae_dtype))
    for clip, out in zip(latents.float(), frames.split(length), strict=True):
        place = out.movedim(-1, 0)[None]
        before = progress.current
        _or_in_tiles(
            lambda tile, clip=clip[None], place=place, before=before: network.decode(
                clip, tile=tile, out=place, on_frames=lambda done, _: progress.update_absolute(before + done)
            )
        )
    return frames.add_(1).div_(2)


def _load_vae(vae: comfy.sd.VAE, memory: float) -> None:
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=memory, force_full_load=True)


def _or_in_tiles(run: Callable[[int | None], Tensor]) -> Tensor:
    """run(None), or, where memory does not suffice, run(a tile's side in pixels)."""
    try:
        return run(None)
    except comfy.model_management.OOM_EXCEPTION as error:
        if not isinstance(error, torch.OutOfMemoryError):
            raise  # a device without an error of its own catches everything
    # outside of the handler, which holds on to the tensors of the failed run
    logging.warning("the VAE ran out of memory on whole frames and goes on with tiles of %d pixels", TILE)
    comfy.model_management.soft_empty_cache()
    return run(TILE)


def decoder(vae: comfy.sd.VAE) -> Callable[[Tensor], Tensor]:
    """A function from the next latents (1, C, T, H, W) of one clip to its next frames (T', H', W', 3), on the CPU.

    A VAE without a stream sees the last latents again; so does ours once memory asks for tiles, which have none.
    """
    network, time = _network(vae), latent_layout(vae)[1]
    stream: Stream = {}
    seen = torch.empty(0)

    def following(latents: Tensor) -> Tensor:
        nonlocal seen
        begins = not seen.numel()
        seen = latents if begins else torch.cat([seen[:, :, -3:], latents], dim=2)

        def run(tile: int | None) -> Tensor:
            nonlocal network
            if tile is not None:
                network = None
            if network is None:
                frames = decode(vae, seen).cpu()
                return frames if begins else frames[-latents.shape[2] * time :]
            _load_vae(vae, vae.memory_used_decode(latents.shape, vae.vae_dtype))
            return video_to_frames(network.decode(latents.float(), stream=stream))

        return _or_in_tiles(run)

    return following


def latent_layout(vae: comfy.sd.VAE) -> tuple[int, int, int]:
    """Channels of a video VAE's latents, and the frames and pixels that one covers."""
    vae.throw_exception_if_invalid()
    time = vae.temporal_compression_decode() if vae.latent_dim == 3 else None
    if time is None:
        raise ValueError("vae: this is not a video VAE; connect the VAE of the model that samples")
    return vae.latent_channels, time, vae.spacial_compression_decode()


def _network(vae: comfy.sd.VAE) -> VAE | None:
    """Our VAE behind the host's, or None where it is another one."""
    vae.throw_exception_if_invalid()
    return vae.first_stage_model if isinstance(vae.first_stage_model, VAE) else None


def keeping_folder(name: str) -> Path:
    """Folder of the host's output for work that must outlive a crash."""
    return Path(folder_paths.get_output_directory()) / "sora_long" / name


def interrupted() -> None:
    """Raises where the artist has cancelled."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def to_host(model: Model) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """A checkpoint's networks as the host's MODEL, CLIP and VAE."""
    return _model(model), _clip(model), _vae(model)


# ---- sampling


def sample(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    *,
    seed: int,
    steps: int,
    cfg: float,
    solver: str,
    stop: int = 0,
    node_id: str | None,
) -> dict[str, Any]:
    """A LATENT (B, C, T, H, W) sampled from a LATENT, whose noise_mask is its strength map.

    A rectified-flow MODEL of any make. Ours is told the level of every token; another one gets the same semantics by
    replacement. stop: steps after which the run stops on its way, 0 for none; the LATENT then shows what the result is
    taken for and brings its progress along, from which another call goes on. Raises ValueError that names what does not
    fit before the first step.
    """
    run = {"seed": seed, "steps": steps, "solver": solver}
    halted = latent.get(PROGRESS)
    if halted is not None and halted["run"] != run:
        wanted = ", ".join(f"{key} {value}" for key, value in halted["run"].items())
        raise ValueError(f"latent: its run was begun with {wanted}; go on with the same")
    progress = None if halted is None else halted["progress"]
    known = _latents(model, latent if halted is None else latent | {"samples": halted["known"]})
    model, shift = _scheduled(model, known)
    ours = isinstance(model.model, HostModel)
    patch = model.model.diffusion_model.config.patch if ours else (1, 1, 1)
    strength = _strength(latent, known, Grid.of(tuple(known.shape[2:]), patch))
    start = 1.0 if strength is None else float(strength.max())
    if start == 0:
        return latent | {"samples": known.clone()}
    if strength is not None and bool((strength == 1).all()):
        strength = None
    if ours and strength is not None:
        positive, negative = ([[c, o | {STRENGTH: strength}] for c, o in conds] for conds in (positive, negative))

    def sampler(
        wrapped: Any, x: Tensor, sigmas: Tensor, extra_args: dict, callback: Callable, disable: bool | None
    ) -> Tensor:
        nonlocal progress
        denoise = wrapped
        if strength is not None:
            task = StrengthMap(strength.to(x), wrapped.latent_image, wrapped.noise, per_token=ours)

            def denoise(x: Tensor, sigma: Tensor, **args: Any) -> Tensor:
                now = float(sigma[0])
                return task.leave(wrapped(task.enter(x, now), sigma, **args), now)

        progress = solve(
            solver, denoise, x, sigmas, extra_args, callback, disable, stop=stop or None, progress=progress
        )
        return progress.x if progress.steps == steps else progress.denoised

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    samples = guider.sample(
        _noise(latent, known, seed), known, comfy.samplers.KSAMPLER(sampler), schedule(steps, shift, start), seed=seed,
        callback=_callback(model, steps, node_id), disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    ).to(comfy.model_management.intermediate_device())  # fmt: skip
    if strength is not None:  # kept places come back bit for bit
        samples = torch.where(strength.to(samples) == 0, known.to(samples), samples)
    out = {key: value for key, value in latent.items() if key != PROGRESS} | {"samples": samples}
    if progress.steps == steps:
        return out
    progress = Progress(progress.x.cpu(), progress.denoised.cpu(), progress.steps)
    return out | {PROGRESS: {"run": run, "known": known, "progress": progress}}


def latent_channels(model: comfy.model_patcher.ModelPatcher) -> int:
    return model.get_model_object("latent_format").latent_channels


def _latents(model: comfy.model_patcher.ModelPatcher, latent: dict[str, Any]) -> Tensor:
    """A LATENT's samples in the MODEL's channels. Raises ValueError where they are not for this MODEL."""
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("latent: this sampler takes one clip's latents, not video and audio together; use KSampler")
    known = comfy.sample.fix_empty_latent_channels(model, samples)
    channels = latent_channels(model)
    if known.ndim != 5:
        raise ValueError(f"latent of shape {tuple(known.shape)}: a video latent has (B, C, T, H, W)")
    if known.shape[1] != channels:
        raise ValueError(f"latent has {known.shape[1]} channels, this model makes {channels}: use its own VAE")
    return known


def _scheduled(
    model: comfy.model_patcher.ModelPatcher, known: Tensor
) -> tuple[comfy.model_patcher.ModelPatcher, float]:
    """The MODEL and the shift of its schedule; ours takes the shift of the clip's size, unless one was chosen."""
    path = model.get_model_object("model_sampling")
    if not isinstance(path, comfy.model_sampling.CONST):
        raise ValueError("model: this sampler is for rectified-flow models (sora, Wan, LTX, ...); use KSampler instead")
    if isinstance(model.model, HostModel) and "model_sampling" not in model.object_patches:
        tokens = Grid.of(tuple(known.shape[2:]), model.model.diffusion_model.config.patch).length
        path = type(path)(model.model.model_config)
        path.set_parameters(shift=shift_for(tokens, model.model.defaults.shift), multiplier=TIMESTEPS)
        model = model.clone()
        model.add_object_patch("model_sampling", path)
    half = float(path.percent_to_sigma(0.5))  # the one thing that schedules of all makes tell
    return model, half / (1 - half)


def _noise(latent: dict[str, Any], known: Tensor, seed: int) -> Tensor:
    """The host's noise: one stream for the batch; of a clip that was picked from a batch, its part of that stream."""
    generator = torch.Generator().manual_seed(seed)
    if (picked := latent.get("batch_index")) is None:
        return torch.randn(known.shape, generator=generator)
    clips = [torch.randn(1, *known.shape[1:], generator=generator) for _ in range(max(picked) + 1)]
    return torch.cat([clips[i] for i in picked])


def _strength(latent: dict[str, Any], known: Tensor, grid: Grid) -> Tensor | None:
    """A LATENT's strength map (B, 1, T, H, W), constant in every patch of the grid."""
    strength = latent.get("noise_mask")
    if strength is None:
        return None
    expected = (1, *known.shape[2:])
    if strength.ndim != 5 or tuple(strength.shape[1:]) != expected or strength.shape[0] not in (1, len(known)):
        raise ValueError(
            f"noise_mask of shape {tuple(strength.shape)}: a strength map has (B, {', '.join(map(str, expected))}); "
            "set it with Sora Patch Strength, which takes a MASK"
        )
    strength = strength.to("cpu", torch.float32).clamp(0, 1).expand(len(known), -1, -1, -1, -1)
    return tokens_to_map(map_to_tokens(strength, grid), grid)


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in what a LoRA loader has put on a MODEL, in its order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value if isinstance(value, (list, tuple)) else getattr(value, "weights", ())
    return [tensor for part in parts for tensor in _tensors(part)]


def _weights(patcher: comfy.model_patcher.ModelPatcher) -> Iterator[tuple[str, Tensor]]:
    """A network's weights as they were loaded, and what LoRAs add. While a network is in use the host has worked the
    LoRAs into its weights, and keeps what they were in `backup`."""
    for name, weight in patcher.model.named_parameters():
        yield name, patcher.backup[name].weight if name in patcher.backup else weight
    for name, patches in patcher.patches.items():
        for strength, patch, strength_of_model, *_ in patches:
            for tensor in _tensors(patch):
                yield f"{name} {strength} {strength_of_model}", tensor


def identity(model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP | None, vae: comfy.sd.VAE) -> dict[str, Any]:
    """What tells a MODEL and a CLIP with their LoRAs and patches, and a VAE, from others, also in another session."""
    clip = _present(clip)
    patchers = {"model": model, "clip": clip.patcher, "vae": vae.patcher}
    patched = {name: str(getattr(value, "shift", "")) for name, value in model.object_patches.items()}
    weights = {name: fingerprint(_weights(patcher)) for name, patcher in patchers.items()}
    return weights | {"patched": patched, "clip_layer": clip.layer_idx}


def _callback(model: comfy.model_patcher.ModelPatcher, steps: int, node_id: str | None) -> Callable:
    """Progress, cancelling (the progress bar raises) and a preview of all frames after every step."""
    progress = comfy.utils.ProgressBar(steps)
    latent_format = model.model.latent_format
    previews = comfy.cli_args.args.preview_method != comfy.cli_args.LatentPreviewMethod.NoPreviews
    factors, bias = latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias

    def callback(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        progress.update_absolute(step + 1, total)
        if previews and factors and node_id is not None and PromptServer.instance is not None:
            frames = latents_to_rgb(denoised[0], [*factors, bias or [0.0, 0.0, 0.0]])
            event = {"node": node_id, "image": _animation(frames)}
            PromptServer.instance.send_sync("sora.preview", event, PromptServer.instance.client_id)

    return callback


def _animation(frames: Tensor) -> str:
    """Small frames (T, H, W, 3) as an animated WebP in a data URL."""
    scale = max(1, PREVIEW_SIDE // max(frames.shape[1:3]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    images = [Image.fromarray(f).resize(size) for f in (frames * 255).round().byte().cpu().numpy()]
    file = bytes_io.BytesIO()
    images[0].save(
        file, "webp", save_all=True, append_images=images[1:], duration=1000 // PREVIEW_FPS, loop=0, quality=80
    )
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
