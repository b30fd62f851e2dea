"""Our VAE as the host's, and the host's VAEs as frames in, frames out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ...sora_core.pipeline import video_to_frames
from ...sora_core.vae import VAE
from ...sora_core.vae_layers import Stream

COMPUTE_DTYPES = [torch.bfloat16, torch.float32]
ENCODED, DECODED = 4, 2  # latents of a piece on the device, of `VAE.encode` and `VAE.decode`; clips stay on the CPU
TILES = (384, 256)  # pixels; no seam shows, even in random weights of Wan's


def native_vae(network: VAE) -> comfy.sd.VAE:
    """A VAE of ours as the host's."""
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
    network = network.to(vae.vae_dtype)
    vae.patcher = comfy.model_patcher.ModelPatcher(network, vae.device, management.vae_offload_device())
    vae.size = None
    config = network.config

    def memory(
        widths: tuple[int, ...], latents: int, frames: int, height: int, width: int, dtype: torch.dtype
    ) -> float:
        """Bytes: the clip itself, and, four times, a piece of so many latents at the level where it is largest."""
        sizes, per_pixel = [], latents * time / config.pixel_patch**2
        for channels, down, less in zip(widths, (*config.space_down, 0), (*config.time_down, 0), strict=True):
            sizes.append(channels * per_pixel)
            per_pixel /= 4**down * 2**less
        return (4 * max(sizes) + 3 * frames) * height * width * management.dtype_size(dtype)

    vae.memory_used_encode = lambda shape, dtype: memory(config.widths, ENCODED, *shape[2:5], dtype)
    vae.memory_used_decode = lambda shape, dtype: memory(
        config.decoder_widths, DECODED, shape[2] * time, shape[3] * space, shape[4] * space, dtype
    )
    return vae


def encode(vae: comfy.sd.VAE, frames: Tensor, *, bar: bool = True) -> Tensor:
    """Frames (T, H, W, 3 or 4) in 0..1 to latents (1, C, T', H', W'). bar: show how far it is."""
    frames = frames[..., :3]
    network = _network(vae)
    if network is None:
        latent_layout(vae)
        return vae.encode(frames)
    network.latent_shape(*frames.shape[:3])
    on_frames = comfy.utils.ProgressBar(frames.shape[0]).update_absolute if bar else None
    video = frames.movedim(-1, 0)[None]
    _load_vae(vae, vae.memory_used_encode(video[:, :, : ENCODED * network.config.time_factor].shape, vae.vae_dtype))
    return _or_in_tiles(lambda tile: network.encode(video, tile=tile, on_frames=on_frames, from_zero=True)).float()


def decode(vae: comfy.sd.VAE, latents: Tensor) -> Tensor:
    """Latents (B, C, T, H, W) to frames (B * T', H', W', 3) in 0..1, one clip after the other."""
    network = _network(vae)
    if network is None:
        latent_layout(vae)
        frames = vae.decode(latents)
        return frames.flatten(0, 1) if frames.ndim == 5 else frames
    if latents.ndim != 5:
        raise ValueError(f"latents of shape {tuple(latents.shape)}: this VAE decodes video latents (B, C, T, H, W)")
    length, height, width = (ratio(n) if callable(ratio) else ratio * n
                             for ratio, n in zip(vae.upscale_ratio, latents.shape[2:], strict=True))  # fmt: skip
    frames = torch.empty(len(latents) * length, height, width, 3)
    progress = comfy.utils.ProgressBar(len(frames))
    _load_vae(vae, vae.memory_used_decode(latents[:1, :, :DECODED].shape, vae.vae_dtype))
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
    for tile, smaller in pairwise((None, *TILES)):
        try:
            return run(tile)
        except comfy.model_management.OOM_EXCEPTION as error:
            if not isinstance(error, torch.OutOfMemoryError):
                raise  # a device without an error of its own catches everything
        # outside of the handler, which holds on to the tensors of the failed run
        logging.warning("the VAE ran out of memory and goes on with tiles of %d pixels", smaller)
        comfy.model_management.soft_empty_cache()
    return run(TILES[-1])


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
