"""Working with prompts in API format: what the tests on the host share."""

from __future__ import annotations

from pathlib import Path
from typing import Any


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
