"""Public weights of the Wan family: what a file is, what its network looks like, and where each weight stands.

The transformer bears Wan's own names, so only diffusers' need a map; the VAE has names of ours and two maps. A map is a
dictionary from our names to theirs, made for one config: missing and surplus weights are found by comparing keys.
Sources of the names: github.com/Wan-Video/Wan2.1 and Wan2.2, github.com/huggingface/diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import DiTConfig, VAEConfig
from .dit import DiT
from .tensors import LORA, OWN, TensorFile, describe
from .vae import VAE

LAYOUTS = ("wan", "diffusers")
HEAD = 128  # width of a head in every Wan model; weights do not tell
TEXT_LEN = 512
DEPTHS = {(1536, 8960): 30, (3072, 14336): 30, (5120, 13824): 40}  # blocks of the public models of a width
# Weights that only such a network has; two of each, so that a file that lacks one is still known.
DIT_MARKS = {
    "wan": ("blocks.0.self_attn.norm_q.weight", "blocks.0.cross_attn.norm_q.weight"),
    "diffusers": ("blocks.0.attn1.norm_q.weight", "blocks.0.attn2.norm_q.weight"),
}
VAE_MARKS = {  # other VAEs have no gamma there
    "wan": ("decoder.head.0.gamma", "encoder.head.0.gamma"),
    "diffusers": ("decoder.norm_out.gamma", "encoder.norm_out.gamma"),
}
KINDS = {"F32", "F16", "BF16", "F64", "F8_E4M3", "F8_E5M2"}  # of safetensors

_DIT = {  # ours and Wan's, diffusers'
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
_BLOCK = {
    "modulation": "scale_shift_table", "self_attn": "attn1", "cross_attn": "attn2", "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2",
}  # fmt: skip
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}


# ---- transformer


def dit_names(config: DiTConfig, layout: str) -> dict[str, str]:
    """Our name of every weight to the layout's."""
    with torch.device("meta"):
        ours = DiT(config).state_dict()
    return {key: key if layout == "wan" else diffusers_name(key) for key in ours}


def diffusers_name(key: str) -> str:
    """Diffusers' name of a transformer's weight, or of a layer, from ours."""
    block = re.fullmatch(r"(blocks\.\d+)\.(modulation|self_attn|cross_attn|norm3|ffn\.[02])(?:\.(.+))?", key)
    if block is None:
        stem = next((stem for stem in _DIT if key.startswith(stem)), None)
        return key if stem is None else _DIT[stem] + key.removeprefix(stem)
    place, part, rest = block.groups()
    if rest is not None and part.endswith("attn"):
        layer, _, kind = rest.rpartition(".")
        rest = f"{_ATTENTION.get(layer, layer)}.{kind}"
    return ".".join(filter(None, (place, _BLOCK[part], rest)))


def read_dit(tensors: TensorFile) -> tuple[DiTConfig, dict[str, str]]:
    """Config of the transformer in a file, and our name of every weight to the file's.

    Raises ValueError that says what the file holds instead, or names a missing, surplus or misshapen weight.
    """
    prefix, layout = _find(tensors, DIT_MARKS, "a Wan transformer")
    own = [key.removeprefix(prefix) for key in tensors if key.startswith(prefix)]
    for part, kind in (("img_emb", "image-to-video"), ("image_embedder", "image-to-video"), ("vace", "VACE"),
                       ("face_adapter", "animation"), ("casual_audio_encoder", "sound-to-video")):  # fmt: skip
        if any(part in key for key in own):
            raise ValueError(
                f"{tensors.path.name} is Wan's {kind} model, which has parts of its own; load a text-to-video one here"
            )

    def shape(key: str, ndim: int = 2) -> tuple[int, ...]:
        return _shape(tensors, prefix + (key if layout == "wan" else diffusers_name(key)), ndim)

    dim, in_dim, *patch = shape("patch_embedding.weight", 5)
    if dim % HEAD:
        raise ValueError(f"{tensors.path.name} is {dim} wide, which does not divide into heads of {HEAD}")
    if shape("time_embedding.0.weight")[1] % 2:
        raise ValueError(f"{tensors.path.name} has an odd number of frequencies, which no Wan model has; get it again")
    if in_dim not in (16, 48):
        raise ValueError(
            f"{tensors.path.name} takes {in_dim} channels: it is made to be shown images beside the latents; load a "
            "text-to-video model (16 channels) or Wan 2.2's 5B (48)"
        )
    config = DiTConfig(
        in_dim=in_dim,
        out_dim=shape("head.head.weight")[0] // (patch[0] * patch[1] * patch[2]),
        dim=dim,
        ffn_dim=shape("blocks.0.ffn.0.weight")[0],
        heads=dim // HEAD,
        layers=1 + max(int(found[1]) for key in own if (found := re.match(r"blocks\.(\d+)\.", key))),
        patch=(patch[0], patch[1], patch[2]),
        text_dim=shape("text_embedding.0.weight")[1],
        text_len=TEXT_LEN,
        freq_dim=shape("time_embedding.0.weight")[1],
    )
    if config.out_dim != in_dim:
        raise ValueError(
            f"{tensors.path.name} takes {in_dim} channels and makes {config.out_dim}: a variant not known here"
        )
    if config.layers < (depth := DEPTHS.get((dim, config.ffn_dim), 0)):
        raise ValueError(
            f"{tensors.path.name} has {config.layers} blocks and the public Wan of this width {depth}: it lacks "
            f"{prefix}blocks.{config.layers} and what follows; get the file again"
        )
    names = {ours: prefix + theirs for ours, theirs in dit_names(config, layout).items()}
    with torch.device("meta"):
        _check(tensors, names, DiT(config), prefix)
    return config, names


# ---- VAE


def vae_names(config: VAEConfig, layout: str) -> dict[str, str]:
    """Our name of every weight to the layout's."""
    with torch.device("meta"):
        ours = VAE(config).state_dict()
    return {key: _vae_name(key, config, layout) for key in ours}


_TOP = {
    "wan": {
        "quant": "conv1", "post_quant": "conv2", "conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2",
        "middle.block1": "middle.0", "middle.attention": "middle.1", "middle.block2": "middle.2",
    },
    "diffusers": {
        "quant": "quant_conv", "post_quant": "post_quant_conv", "conv_in": "conv_in", "norm_out": "norm_out",
        "conv_out": "conv_out", "middle.block1": "mid_block.resnets.0", "middle.attention": "mid_block.attentions.0",
        "middle.block2": "mid_block.resnets.1",
    },
}  # fmt: skip
_RESIDUAL = {
    "wan": {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6",
            "skip": "shortcut"},
    "diffusers": {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "skip": "conv_shortcut"},
}  # fmt: skip


def _vae_name(key: str, config: VAEConfig, layout: str) -> str:
    stem, _, kind = key.rpartition(".")
    if "norm" in stem.rpartition(".")[2]:
        kind = "gamma"
    side, _, rest = stem.partition(".")
    if not rest:
        return f"{_TOP[layout][side]}.{kind}"
    level = re.fullmatch(r"levels\.(\d+)\.(?:blocks\.(\d+)\.(\w+)|(?:down|up)\.(\w+))", rest)
    if level is None:
        part = next(part for part in _TOP[layout] if rest == part or rest.startswith(part + "."))
        inner = rest.removeprefix(part).lstrip(".")
        inner = _RESIDUAL[layout].get(inner, inner) if "block" in part else inner
        return ".".join(filter(None, (side, _TOP[layout][part], inner, kind)))
    number, block = int(level[1]), None if level[2] is None else int(level[2])
    blocks = config.encoder_blocks if side == "encoder" else config.decoder_blocks
    place = _level_place(side, number, block, blocks, layout, config.shortcut)
    inner = _RESIDUAL[layout][level[3]] if block is not None else {"conv": "resample.1"}.get(level[4], level[4])
    return f"{side}.{place}.{inner}.{kind}"


def _level_place(side: str, level: int, block: int | None, blocks: int, layout: str, shortcut: bool) -> str:
    """Where a level's residual block stands, or, for None, what halves or doubles behind its blocks. Wan 2.1 counts
    blocks through all levels; Wan 2.2, whose levels have shortcuts, counts levels first; diffusers' decoder always."""
    down = side == "encoder"
    if layout == "wan":
        name = "downsamples" if down else "upsamples"
        inside = blocks if block is None else block
        return f"{name}.{level}.{name}.{inside}" if shortcut else f"{name}.{level * (blocks + 1) + inside}"
    name = "down_blocks" if down else "up_blocks"
    if down and not shortcut:
        return f"{name}.{level * (blocks + 1) + (blocks if block is None else block)}"
    if block is not None:
        return f"{name}.{level}.resnets.{block}"
    if shortcut:
        return f"{name}.{level}.{'downsampler' if down else 'upsampler'}"
    return f"{name}.{level}.upsamplers.0"


def read_vae(tensors: TensorFile) -> tuple[VAEConfig, dict[str, str]]:
    """As `read_dit`, for a VAE. Its statistics are 0 and 1: latents are handed out as the public VAEs do, and a host's
    latent format brings them to unit variance."""
    prefix, layout = _find(tensors, VAE_MARKS, "a Wan VAE")

    first, last, quant = (
        ("encoder.conv1", "decoder.head.0", "conv2") if layout == "wan"
        else ("encoder.conv_in", "decoder.norm_out", "post_quant_conv")
    )  # fmt: skip
    width, pixels = _shape(tensors, f"{prefix}{first}.weight", 5)[:2]
    out = _shape(tensors, f"{prefix}{last}.gamma")[0]
    z = _shape(tensors, f"{prefix}{quant}.weight", 5)[0]
    config = VAEConfig(
        z_dim=z,
        pixel_patch=round((pixels / 3) ** 0.5),
        widths=(width, 2 * width, 4 * width, 4 * width),
        decoder_widths=(out, 2 * out, 4 * out, 4 * out),
        space_down=(True, True, True),
        time_down=(False, True, True),
        encoder_blocks=2,
        decoder_blocks=3,
        shortcut=pixels > 3,
        middle_attention=True,
        latent_mean=(0.0,) * z,
        latent_std=(1.0,) * z,
    )
    names = {ours: prefix + theirs for ours, theirs in vae_names(config, layout).items()}
    with torch.device("meta"):
        _check(tensors, names, VAE(config), prefix)
    return config, names


# ---- loading


def load_dit(path: Path | str, dtype: torch.dtype | None = None, operations: Any = nn) -> DiT:
    """A transformer from public weights, in the file's precision or in `dtype`. Weights of the file's own precision
    stay where they are, mapped into memory."""
    tensors = TensorFile(path)
    config, names = read_dit(tensors)
    with torch.device("meta"):
        return _filled(DiT(config, operations), tensors, names, dtype)


def load_vae(path: Path | str, dtype: torch.dtype | None = None) -> VAE:
    """A VAE from public weights."""
    tensors = TensorFile(path)
    config, names = read_vae(tensors)
    with torch.device("meta"):
        return _filled(VAE(config), tensors, names, dtype)


def _filled(network: Any, tensors: TensorFile, names: Mapping[str, str], dtype: torch.dtype | None) -> Any:
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    state = {ours: tensors.get(theirs, dtype).reshape(shapes[ours]) for ours, theirs in names.items()}
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def holds(tensors: TensorFile, marks: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a file has one of the marks."""
    return bool(_marked(tensors, marks))


def _marked(tensors: TensorFile, marks: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Prefix and layout of every network in a file that has one of the marks."""
    ends = {mark: layout for layout, names in marks.items() for mark in names}
    found = {
        (key.removesuffix(mark), layout)
        for key in tensors
        for mark, layout in ends.items()
        if key == mark or key.endswith("." + mark)
    }
    return sorted(found)


def _find(tensors: TensorFile, marks: Mapping[str, tuple[str, ...]], wanted: str) -> tuple[str, str]:
    """Prefix and layout of the one network that has one of the marks."""
    own = tensors.metadata.get("format", "").startswith(OWN)
    if own or any(re.search(LORA, key) for key in tensors) or not (found := _marked(tensors, marks)):
        raise ValueError(f"{tensors.path.name} is not {wanted}: {describe(tensors.metadata, tensors)}")
    if len(found) > 1:
        places = " and ".join(repr(prefix) for prefix, _ in found)
        raise ValueError(f"{tensors.path.name} holds more than one such network, at {places}; give one alone")
    return found[0]


def _shape(tensors: TensorFile, name: str, ndim: int | None = None) -> tuple[int, ...]:
    """Raises ValueError that names the weight where it is missing or has another number of dimensions."""
    if name not in tensors:
        raise ValueError(f"{tensors.path.name} lacks {name}; get the file again")
    shape = tensors.shape(name)
    if not shape or 0 in shape or len(shape) != (ndim or len(shape)):
        raise ValueError(f"{tensors.path.name}: {name} has shape {shape}, which no Wan model has; get the file again")
    return shape


def _check(tensors: TensorFile, names: Mapping[str, str], network: nn.Module, prefix: str) -> None:
    """Raises ValueError that names the first weight that is missing, surplus or of another shape or kind."""
    found, wanted = set(tensors), set(names.values())
    for key in sorted(wanted & found):
        if (kind := tensors.kind(key)) not in KINDS:
            raise ValueError(
                f"{tensors.path.name} holds weights of {kind}, packed in a way (nvfp4, int8 ...) not read here; get "
                "one of 16 or 32 bits, or of scaled fp8"
            )
    if missing := sorted(wanted - found):
        raise ValueError(f"{tensors.path.name} lacks {len(missing)} weights, the first is {missing[0]}; get it again")
    found |= set(tensors.scales())  # a scale's weight counts as found, there or not
    surplus = sorted(key for key in found - wanted if key.startswith(prefix))
    if surplus:
        raise ValueError(f"{tensors.path.name} has {len(surplus)} weights too many, the first is {surplus[0]}")
    for key, value in network.state_dict().items():
        shape = tensors.shape(names[key])
        if torch.Size(shape).numel() != value.numel() or tuple(shape[: value.ndim]) != tuple(value.shape):
            wanted_shape = tuple(value.shape)
            raise ValueError(f"{tensors.path.name}: {names[key]} has shape {shape}, the rest asks for {wanted_shape}")
    tensors.check_scales(wanted, prefix)
