"""The only part of the pack that touches ComfyUI: our networks as its MODEL, CLIP and VAE, its sampling with our
solvers, progress, cancelling, previews and folders.

Written against hosts 0.3.64 to 0.8.0; nothing of the host is patched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

from ...sora_core.checkpoint import Model
from ...sora_core.layouts import load_vae
from .folders import (
    accepts,
    check_draft_name,
    checkpoint_names,
    checkpoint_path,
    draft_names,
    draft_path,
    keeping_folder,
    new_draft,
    stamp,
    weight_names,
    weight_path,
)
from .identity import identity
from .model import join_experts, native_model, public_model
from .notes import noted, tell
from .origin import ORIGIN, origin, strange
from .regions import with_region
from .sampling import beyond, interrupted, latent_channels, sample, strength_map, without_strength
from .text import encode_text, native_clip, takes_apart, unread_of
from .vae import decode, decoder, encode, latent_layout, native_vae

__all__ = [
    "ORIGIN", "ComfyExtension", "accepts", "beyond", "check_draft_name", "checkpoint_names", "checkpoint_path",
    "decode", "decoder", "draft_names", "draft_path", "encode", "encode_text", "identity", "interrupted", "io",
    "join_experts", "keeping_folder", "latent_channels", "latent_layout", "new_draft", "noted", "origin",
    "public_model", "public_vae", "sample", "stamp", "strange", "strength_map", "takes_apart", "tell", "to_host",
    "ui", "unread_of", "weight_names", "weight_path", "with_region", "without_strength",
]  # fmt: skip


def to_host(model: Model) -> tuple[Any, Any, Any]:
    """A checkpoint's networks as the host's MODEL, CLIP and VAE."""
    native, vae, mark = native_model(model), native_vae(model.vae), model.vae.fingerprint()
    for network in (native.model, vae.first_stage_model):
        setattr(network, ORIGIN, mark)
    return native, native_clip(model), vae


def public_vae(path: Path) -> Any:
    """A public Wan VAE as a VAE of ours; its latents are those of the host's own loader."""
    return native_vae(load_vae(path))
