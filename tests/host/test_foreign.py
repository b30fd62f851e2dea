"""The pack's nodes on a model of the host's own: a randomly initialised small Wan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from prompts import by_class, latents, wan


def test_a_foreign_model_runs_its_own_schedule(server: Any, api: Any, tmp_path: Path) -> None:
    prompt, sampler = wan(api, "text_to_video")
    ours = latents(server, prompt, sampler, tmp_path)
    inputs = dict(prompt[sampler]["inputs"])
    inputs["latent_image"] = inputs.pop("latent")
    inputs.pop("solver")
    inputs |= {"sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    prompt[sampler] = {"class_type": "KSampler", "inputs": inputs}
    assert (latents(server, prompt, sampler, tmp_path) - ours).abs().max() < 1e-3 * ours.abs().max()


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_foreign_model_keeps_what_the_map_keeps(server: Any, api: Any, tmp_path: Path, strength: float) -> None:
    prompt, sampler = wan(api, "patches")
    prompt[by_class(prompt, "SoraPatchStrength")[0]]["inputs"]["strength"] = strength
    sampled = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    assert torch.equal(sampled[:, :, :3], known[:, :, :3]) and sampled.isfinite().all()
    assert (sampled - known)[:, :, 3:].abs().mean() > 0.01


def test_steps_taken_again_keep_what_the_map_keeps(server: Any, api: Any, tmp_path: Path) -> None:
    prompt, sampler = wan(api, "patches")
    once = latents(server, prompt, sampler, tmp_path)
    prompt[sampler]["inputs"]["resample"] = 2
    again = latents(server, prompt, sampler, tmp_path)
    known = latents(server, prompt, by_class(prompt, "SoraVAEEncode")[0], tmp_path)
    assert torch.equal(again[:, :, :3], known[:, :, :3])
    assert again.isfinite().all() and (again - once)[:, :, 3:].abs().mean() > 0.01
