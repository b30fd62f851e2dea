"""Real tiny models, and the bundled one where a law is about it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sora_core.checkpoint import BUNDLED, Model, load_checkpoint, save_checkpoint
from sora_core.config import PRESETS, SamplingDefaults
from sora_core.dit import DiT
from sora_core.pipeline import Pipeline
from sora_core.text import TextEncoder, train_tokenizer
from sora_core.train.vae import measure_latents, random_crop
from sora_core.vae import VAE

TEXTS = ["a red circle moves left on a sky background", "a blue square spins over the sea, neon style"]

if "PYTEST_XDIST_WORKER" in os.environ:  # two workers share the cores; one thread each is faster than two that wait
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights that make every path matter: none is zero, none dominates."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 25
        noise = torch.randn(parameter.shape, generator=generator) / fan**0.5
        parameter.data = noise + 1 if parameter.ndim == 1 and float(parameter.data.mean()) == 1 else noise


@pytest.fixture(scope="session")
def tiny() -> Model:
    preset = PRESETS["tiny"]
    assert preset.text is not None
    model = Model(
        DiT(preset.dit),
        VAE(preset.vae),
        TextEncoder(preset.text),
        train_tokenizer(TEXTS, preset.text.vocab_size),
        SamplingDefaults(width=64, height=64, frames=5, steps=3),
        {"recipe": "random weights"},
    )
    for seed, network in enumerate(model.networks().values()):
        randomise(network, seed)
        network.eval().requires_grad_(False)
    return model


@pytest.fixture(scope="session")
def untrained() -> VAE:
    """A VAE whose latents are normalised, and tell at least the colours."""
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        vae = VAE(PRESETS["tiny"].vae)
    rng = np.random.default_rng(0)
    measured = VAE(measure_latents(vae, [random_crop(rng, 1, 32) for _ in range(50)]))
    measured.load_state_dict(vae.state_dict())
    return measured


@pytest.fixture(scope="session")
def bundled() -> Model:
    """sora-mini itself."""
    if not BUNDLED.exists():
        pytest.skip("NO BUNDLED MODEL: sora_core/weights/sora-mini.safetensors is missing")
    return load_checkpoint()


@pytest.fixture(scope="session")
def pipeline(tiny: Model) -> Pipeline:
    return Pipeline(tiny)


@pytest.fixture(scope="session")
def tiny_file(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, tiny, torch.float32)
    return path


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
