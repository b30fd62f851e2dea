"""One safetensors file for a whole model: three networks, with configs, provenance and scores in its metadata.

Weights are memory-mapped and reach the networks without a second copy; every key must match.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn

from .config import DiTConfig, SamplingDefaults, TextConfig, VAEConfig
from .dit import DiT
from .files import replacing
from .tensors import describe, open_safetensors
from .text import TextEncoder
from .vae import VAE

FORMAT = "sora_core/1"
BUNDLED = Path(__file__).parent / "weights" / "sora-mini.safetensors"


@dataclass
class Model:
    """The networks of one checkpoint with what is known of them."""

    dit: DiT
    vae: VAE
    text: TextEncoder
    tokenizer: Tokenizer
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    def networks(self) -> dict[str, nn.Module]:
        return {"dit": self.dit, "vae": self.vae, "text": self.text}


def save_checkpoint(path: Path | str, model: Model, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model. The file appears whole or not at all."""
    path = Path(path)
    tensors = {
        f"{name}.{key}": value.detach().to(dtype).contiguous()
        for name, network in model.networks().items()
        for key, value in network.state_dict().items()
    }
    config = {name: network.config.to_dict() for name, network in model.networks().items()} | {
        "defaults": model.defaults.to_dict()
    }
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config),
        "tokenizer": model.tokenizer.to_str(),
        "provenance": json.dumps(model.provenance),
        "scores": json.dumps(model.scores),
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Config, provenance, scores and size of a checkpoint, without its weights.

    Raises FileNotFoundError, or ValueError that says what the file is instead of a checkpoint of this package.
    """
    path = Path(path)
    with open_safetensors(path) as file:
        metadata = file.metadata() or {}
        keys = list(file.keys())
        if (found := metadata.get("format", "")) != FORMAT:
            if found.removeprefix("sora_core/").isdecimal():
                raise ValueError(f"{path.name} has format {found}, this version reads {FORMAT}; update the pack")
            raise ValueError(f"{path.name} is not a checkpoint of this package: {describe(metadata, keys)}")
        parameters: dict[str, int] = {}
        for key in keys:
            network = key.partition(".")[0]
            count = int(torch.Size(file.get_slice(key).get_shape()).numel())
            parameters[network] = parameters.get(network, 0) + count
    out: dict[str, Any] = {"parameters": parameters}
    for key in ("config", "provenance", "scores", "tokenizer"):
        try:
            out[key] = json.loads(metadata[key])
        except (KeyError, json.JSONDecodeError):
            raise ValueError(f"{path.name}: its metadata lacks {key} or garbles it; get the file again") from None
    return out


def _tokenizer_of(described: dict[str, Any]) -> Tokenizer:
    """Versions of the library before 0.20 write merges as `a b`, and read no others; later ones read both."""
    model = described["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return Tokenizer.from_str(json.dumps(described | {"model": model | {"merges": merges}}))


def load_checkpoint(path: Path | str = BUNDLED, dtype: torch.dtype | None = torch.float32) -> Model:
    """Read a model. dtype: of the weights in memory, None for the file's own.

    Raises FileNotFoundError, or ValueError that names a truncated file, a foreign architecture or the wrong key.
    """
    path = Path(path)
    info = read_metadata(path)
    config = info["config"]
    try:
        configs = (
            DiTConfig.from_dict(config["dit"]),
            VAEConfig.from_dict(config["vae"]),
            TextConfig.from_dict(config["text"]),
            SamplingDefaults.from_dict(config["defaults"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: its config does not fit this version ({error}); get the file again") from None
    try:
        tokenizer = _tokenizer_of(info["tokenizer"])
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(
            f"{path.name}: its tokenizer cannot be read by tokenizers {tokenizers.__version__} ({error}); update that "
            "library, or get the file again"
        ) from None
    with torch.device("meta"):
        networks = DiT(configs[0]), VAE(configs[1]), TextEncoder(configs[2])
    model = Model(*networks, tokenizer, configs[3], info["provenance"], info["scores"])
    with open_safetensors(path) as file:
        keys = set(file.keys())
        expected = {
            f"{name}.{key}": value for name, net in model.networks().items() for key, value in net.state_dict().items()
        }
        if missing := sorted(set(expected) - keys):
            raise ValueError(f"{path.name} lacks {len(missing)} weights, the first is {missing[0]}; get the file again")
        if surplus := sorted(keys - set(expected)):
            raise ValueError(f"{path.name} has {len(surplus)} weights too many, the first is {surplus[0]}")
        for name, network in model.networks().items():
            state = {}
            for key in network.state_dict():
                tensor = file.get_tensor(f"{name}.{key}")
                if tensor.shape != expected[f"{name}.{key}"].shape:
                    raise ValueError(
                        f"{path.name}: {name}.{key} has shape {tuple(tensor.shape)}, its config says "
                        f"{tuple(expected[f'{name}.{key}'].shape)}"
                    )
                state[key] = tensor.to(dtype) if dtype is not None else tensor
            network.load_state_dict(state, assign=True)
            network.eval().requires_grad_(False)
    return model
