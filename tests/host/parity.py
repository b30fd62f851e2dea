# ruff: noqa: E402 - the host's modules ask for the device as they are imported
"""Our networks against the host's own classes, with the same random weights, in float32. Run by the host's Python:

    python parity.py HOST

prints one line of JSON a case: its name and its largest relative error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path[:0] = [sys.argv[1], str(Path(__file__).parents[2])]
import comfy.cli_args

comfy.cli_args.args.cpu = True
import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.ops

from sora_core.config import PRESETS, DiTConfig, VAEConfig
from sora_core.dit import DiT
from sora_core.layouts import vae_names
from sora_core.vae import VAE

SMALL = DiTConfig(dim=256, ffn_dim=320, heads=2, layers=3, text_dim=96, text_len=512)
GRIDS = ((1, 2, 2), (1, 4, 6), (3, 6, 4), (5, 2, 8))  # frames, height and width of latents


def worst(found: Tensor, expected: Tensor) -> float:
    """The larger of the errors in the mean and in the worst place, each relative."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    mean = (found - expected).norm() / expected.norm()
    return float(max(mean, (found - expected).abs().max() / expected.abs().max()))


def randomise(network: nn.Module) -> None:
    """Every weight drawn anew, norms too, small enough for activations to stay near 1."""
    for name, parameter in network.named_parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn(parameter.shape) * spread + float(parameter.ndim == 1 and "norm" in name)


def transformers(name: str, config: DiTConfig, grids: tuple) -> Iterator[tuple[str, float]]:
    theirs = comfy.ldm.wan.model.WanModel(
        in_dim=config.in_dim, out_dim=config.out_dim, dim=config.dim, ffn_dim=config.ffn_dim,
        freq_dim=config.freq_dim, text_dim=config.text_dim, num_heads=config.heads, num_layers=config.layers,
        operations=comfy.ops.disable_weight_init, dtype=torch.float32,
    ).eval()  # fmt: skip
    ours = DiT(config).eval()
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    for grid in grids:
        for batch in (1, 2):
            for words in (1, 77, 512):
                x, text = torch.randn(batch, config.in_dim, *grid), torch.randn(batch, words, config.text_dim)
                padded = torch.nn.functional.pad(text, (0, 0, 0, 512 - words))
                frames = torch.rand(batch, grid[0]) * 1000
                frames[0, 0] = 0
                tokens = frames.repeat_interleave(grid[1] * grid[2] // 4, dim=1)
                for kind, time, of_theirs in (
                    ("one level", frames[:, -1], frames[:, -1]),
                    ("a level per frame", tokens, frames),
                ):
                    error = worst(ours(x, time, text), theirs(x, of_theirs, padded))
                    yield f"{name}, {batch} of {grid}, {words} words, {kind}", error


def vaes(name: str, config: VAEConfig, lengths: tuple[int, ...]) -> Iterator[tuple[str, float]]:
    common = {"z_dim": config.z_dim, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [],
              "temperal_downsample": [False, True, True], "dropout": 0.0}  # fmt: skip
    theirs = (
        comfy.ldm.wan.vae2_2.WanVAE(dim=config.widths[0], dec_dim=config.decoder_widths[0], **common)
        if config.shortcut else comfy.ldm.wan.vae.WanVAE(dim=config.widths[0], **common)
    ).eval()  # fmt: skip
    ours = VAE(config).eval()
    randomise(ours)
    shapes, names = theirs.state_dict(), vae_names(config, "wan")
    theirs.load_state_dict(
        {names[key]: value.reshape(shapes[names[key]].shape) for key, value in ours.state_dict().items()}
    )
    height, width = 2 * config.space_factor, 3 * config.space_factor
    for frames in lengths:
        video = torch.rand(1, 3, frames, height, width) * 2 - 1
        latents = theirs.encode(video)
        clip = theirs.decode(latents).clamp(-1, 1)
        for chunk in (1, 2, 99):  # streamed and whole
            case = f"{name}, {frames} frames, {chunk} latents at a time"
            yield f"{case}, encode", worst(ours.encode(video, chunk=chunk), latents)
            yield f"{case}, decode", worst(ours.decode(latents, chunk=chunk), clip)


def cases() -> Iterator[tuple[str, float]]:
    yield from transformers("small", SMALL, GRIDS)
    yield from transformers("small, 48 channels", replace(SMALL, in_dim=48, out_dim=48), GRIDS[2:3])
    for preset in ("wan2.1-1.3b", "wan2.2-5b"):
        yield from transformers(f"a block of {preset}", replace(PRESETS[preset].dit, layers=1), GRIDS[2:3])
        config = PRESETS[preset].vae
        widths = {
            "widths": (8, 16, 32, 32),
            "decoder_widths": ((12, 24, 48, 48) if config.shortcut else (8, 16, 32, 32)),
        }
        yield from vaes(f"small VAE of {preset}", replace(config, **widths), (1, 5, 17))
    yield from vaes("VAE of wan2.1-1.3b", PRESETS["wan2.1-1.3b"].vae, (5,))


torch.manual_seed(0)
with torch.no_grad():
    for case, error in cases():
        print(json.dumps({"case": case, "error": error}), flush=True)
