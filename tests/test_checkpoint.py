"""Laws of the checkpoint file, and what is said of files that are none."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sora_core.checkpoint import BUNDLED, Model, load_checkpoint, read_metadata, save_checkpoint
from sora_core.config import PRESETS, DiTConfig, SamplingDefaults, TextConfig, VAEConfig
from sora_core.files import replacing
from sora_core.pipeline import Pipeline


def test_round_trip_is_exact(tiny: Model, tiny_file: Path) -> None:
    again = load_checkpoint(tiny_file)
    for name, network in tiny.networks().items():
        state = again.networks()[name].state_dict()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert again.networks()[name].config == network.config
    assert (again.defaults, again.provenance) == (tiny.defaults, tiny.provenance)
    assert again.tokenizer.to_str() == tiny.tokenizer.to_str()
    prompt = ["a red circle"]
    made = [Pipeline(m).sample(prompt, (2, 4, 4), seeds=[0]) for m in (tiny, again)]
    torch.testing.assert_close(*made, atol=1e-5, rtol=1e-5)  # mapped weights are aligned otherwise: other rounding


def test_stored_as_bfloat16_computed_as_float32(tiny: Model, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.safetensors", tiny)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    again = load_checkpoint(tmp_path / "m.safetensors")
    assert next(again.dit.parameters()).dtype == torch.float32
    assert next(load_checkpoint(tmp_path / "m.safetensors", None).dit.parameters()).dtype == torch.bfloat16


def test_metadata_is_read_without_weights(tiny: Model, tiny_file: Path) -> None:
    info = read_metadata(tiny_file)
    assert info["parameters"]["dit"] == sum(p.numel() for p in tiny.dit.parameters())
    assert info["provenance"] == {"recipe": "random weights"}


@pytest.mark.parametrize("config", [c for p in PRESETS.values() for c in (p.dit, p.vae, p.text) if c is not None])
def test_configs_survive_json(config: DiTConfig | VAEConfig | TextConfig) -> None:
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_bundled_file_is_small_and_tells_where_it_comes_from(bundled: Model) -> None:
    assert BUNDLED.stat().st_size <= 48e6
    assert bundled.provenance and bundled.scores


def rewrite(source: Path, target: Path, edit) -> Path:
    with safe_open(source, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    edit(tensors, metadata)
    save_file(tensors, target, metadata)
    return target


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "full.safetensors"
    with pytest.raises(OSError, match=r"full\.safetensors could not be written"), replacing(path) as partial:
        save_file({"a": torch.ones(1)}, partial / "of a file")  # what a full disk raises, too
    assert not any(tmp_path.iterdir())


def test_merges_are_read_as_any_version_writes_them(tiny_file: Path, tmp_path: Path) -> None:
    def written(join: Callable[[str, str], Any]) -> Callable[..., None]:
        def edit(_: dict, metadata: dict[str, str]) -> None:
            described = json.loads(metadata["tokenizer"])
            pairs = [m.split(" ") if isinstance(m, str) else m for m in described["model"]["merges"]]
            assert pairs and all(len(pair) == 2 for pair in pairs)
            described["model"]["merges"] = [join(*pair) for pair in pairs]
            metadata["tokenizer"] = json.dumps(described)

        return edit

    old = load_checkpoint(rewrite(tiny_file, tmp_path / "old.safetensors", written("{} {}".format)))
    new = load_checkpoint(rewrite(tiny_file, tmp_path / "new.safetensors", written(lambda a, b: [a, b])))
    assert old.tokenizer.to_str() == new.tokenizer.to_str() == load_checkpoint(tiny_file).tokenizer.to_str()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, m: t.pop("dit.head.head.weight"), "lacks 1 weights, the first is dit.head.head.weight"),
        (lambda t, m: t.update({"dit.extra": torch.ones(1)}), "1 weights too many, the first is dit.extra"),
        (lambda t, m: t.update({"text.norm.bias": torch.ones(3)}), r"text.norm.bias has shape \(3,\), its config says"),
        (lambda t, m: m.pop("format"), "not a checkpoint of this package"),
        (lambda t, m: m.update(format="sora_core/99"), "format sora_core/99, this version reads sora_core/1"),
        (
            lambda t, m: m.update(config=m["config"].replace('"ffn_dim"', '"ffn_size"')),
            "DiTConfig has no setting ffn_size",
        ),
        (lambda t, m: m.pop("config"), "its metadata lacks config"),
        (lambda t, m: m.update(scores="{"), "its metadata lacks scores or garbles it"),
        (lambda t, m: m.update(tokenizer="{}"), "its tokenizer cannot be read"),
        (lambda t, m: m.update(config='{"dit": {}}'), "its config does not fit this version"),
    ],
)
def test_damaged_checkpoints_are_named(tiny_file: Path, tmp_path: Path, edit, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_checkpoint(rewrite(tiny_file, tmp_path / "bad.safetensors", edit))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight"], "Stable Diffusion checkpoint"),
        (["blocks.0.self_attn.q.lora_A.weight"], "it is a LoRA"),
        (["blocks.0.self_attn.norm_q.weight"], "transformer of the Wan family"),
        (["something"], "its first weight is something"),
    ],
)
def test_foreign_files_are_recognised(tmp_path: Path, keys: list[str], message: str) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({key: torch.ones(1) for key in keys}, path)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)


def test_truncated_missing_and_pickled_files_are_refused(tiny_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut.safetensors cannot be read as safetensors: it is truncated"):
        load_checkpoint(cut)
    with pytest.raises(FileNotFoundError, match=r"none.safetensors does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"model.ckpt is a pickle"):
        load_checkpoint(tmp_path / "model.ckpt")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((130, 128, 17), "width 130.*the nearest is 128"),
        ((128, 30, 17), "height 30.*the nearest is 64"),
        ((512, 256, 17), "width 512.*the nearest is 256"),
        ((256, 64, 17), "256x64.*beside 64 the longer side can be at most 128"),
        ((128, 128, 16), "16 frames.*the nearest is 17"),
        ((128, 128, 0), "0 frames.*the nearest is 1"),
        ((128, 128, 65), "65 frames.*the nearest is 33"),
    ],
)
def test_sizes_a_model_does_not_make_are_named(size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingDefaults().check(*size, time_factor=4)


def test_every_size_in_the_promised_range_is_accepted() -> None:
    for width in range(64, 257, 16):
        for height in range(64, 257, 16):
            if max(width, height) <= 2 * min(width, height):
                for frames in range(1, 34, 4):
                    SamplingDefaults().check(width, height, frames, time_factor=4)
