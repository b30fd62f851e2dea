"""Working with prompts in API format: what the tests on the host share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from sora_core.config import SamplingDefaults

SHIPPED = SamplingDefaults().width  # pixels, of the workflows as they are shipped
SIDE = 128  # and as the tests run them


def by_class(prompt: dict[str, Any], name: str) -> list[str]:
    return [node for node, content in prompt.items() if content["class_type"] == name]


def saved(server: Any, outcome: Any, node: str, folder: Path) -> Path:
    assert outcome.error is None, outcome.error
    files = [entry for entries in outcome.outputs[node].values() if isinstance(entries, list) for entry in entries
             if isinstance(entry, dict)]  # fmt: skip
    return server.view(files[0], folder)


def wan(api: Any, name: str) -> tuple[dict[str, Any], str]:
    """A shipped workflow with a small random Wan of the host's own class in place of our transformer."""
    prompt = api(name)
    sampler = by_class(prompt, "SoraSampler")[0]
    prompt["wan"] = {"class_type": "TinyWan", "inputs": {}}
    prompt[sampler]["inputs"] |= {
        "model": ["wan", 0], "positive": ["wan", 1], "negative": ["wan", 2], "solver": "euler", "steps": 8,
    }  # fmt: skip
    return prompt, sampler


def assert_it_still_works(server: Any, api: Any) -> None:
    prompt = api("text_to_image")
    prompt[by_class(prompt, "SoraSampler")[0]]["inputs"]["steps"] = 1
    assert server.run(prompt).error is None


def with_latent_saved(prompt: dict[str, Any], source: str) -> dict[str, Any]:
    """Only what leads to a latent, and that saved."""
    wanted, rest = set(), [source]
    while rest:
        node = rest.pop()
        wanted.add(node)
        rest += [value[0] for value in prompt[node]["inputs"].values() if isinstance(value, list)]
    save = {"class_type": "SaveLatent", "inputs": {"samples": [source, 0], "filename_prefix": "latent"}}
    return {node: prompt[node] for node in prompt if node in wanted} | {"save": save}


def latents(server: Any, prompt: dict[str, Any], source: str, folder: Path) -> Tensor:
    outcome = server.run(with_latent_saved(prompt, source))
    assert outcome.error is None, outcome.error
    return load_file(server.view(outcome.outputs["save"]["latents"][0], folder))["latent_tensor"]
