"""Whose latents are whose: where channels are equal, a wrong VAE gives wrong pictures and no error."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd

ORIGIN = "sora_vae"  # key of a LATENT: what tells the VAE that its latents are of
ELSEWHERE = "elsewhere"  # the origin of all that is not of a checkpoint of ours, which is not told apart


def origin(part: comfy.sd.VAE | comfy.model_patcher.ModelPatcher) -> str:
    """Of a VAE's latents, or of those that a MODEL makes: the fingerprint of their VAE."""
    network = part.model if isinstance(part, comfy.model_patcher.ModelPatcher) else part.first_stage_model
    return getattr(network, ORIGIN, ELSEWHERE)


def strange(latent: dict[str, Any], part: comfy.sd.VAE | comfy.model_patcher.ModelPatcher) -> str | None:
    """A note where latents are known to be of another VAE than this one or this MODEL's own."""
    if latent.get(ORIGIN, origin(part)) == origin(part):
        return None
    whose = "this model's own" if isinstance(part, comfy.model_patcher.ModelPatcher) else "this one"
    return (
        f"The latents are of another VAE than {whose}, so colours and shapes will be wrong: take the VAE of the loader "
        "that the MODEL is of. (One that was trained to stay near, with `train vae --near`, does as well.)"
    )
