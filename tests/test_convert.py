"""Every layout becomes every other, what would lose or overwrite is refused, and LoRAs keep their strength."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from wan_models import relative, small, wan_dit, wan_vae

from sora_core.cli import main
from sora_core.convert import convert
from sora_core.layouts import load_dit, load_vae
from sora_core.tensors import TensorFile


@pytest.mark.parametrize("kind", ["dit", "vae 2.1", "vae 2.2"])
def test_layouts_convert_into_each_other(tmp_path: Path, kind: str) -> None:
    load, theirs = small(kind)
    theirs.save_pretrained(tmp_path / "diffusers")
    first = load(tmp_path / "diffusers").state_dict()
    convert(tmp_path / "diffusers", tmp_path / "wan.safetensors", "wan", torch.float32)
    convert(tmp_path / "wan.safetensors", tmp_path / "again.safetensors", "diffusers", torch.float32)
    for path in ("wan.safetensors", "again.safetensors"):
        state = load(tmp_path / path).state_dict()
        assert all(torch.equal(state[key], first[key]) for key in first)
    if kind == "dit":  # its shapes are the same everywhere, so the file is diffusers' own
        again, original = load_file(tmp_path / "again.safetensors"), theirs.state_dict()
        assert again.keys() == original.keys() and all(torch.equal(again[key], original[key]) for key in original)
    prefixed = {f"model.diffusion_model.{key}": value for key, value in load_file(tmp_path / "wan.safetensors").items()}
    save_file(prefixed | {"vae.decoder.conv1.weight": torch.ones(1)}, tmp_path / "comfy.safetensors")
    state = load(tmp_path / "comfy.safetensors").state_dict()
    assert all(torch.equal(state[key], first[key]) for key in first)


def test_eight_bits_keep_their_scale(tmp_path: Path) -> None:
    theirs = wan_dit()
    theirs.blocks[0].attn1.to_q.weight.data *= 3000  # out of the range of eight bits without a scale
    theirs.save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "half.safetensors", "wan", torch.bfloat16)
    convert(tmp_path / "model", tmp_path / "eight.safetensors", "wan", torch.float8_e4m3fn)
    assert (tmp_path / "eight.safetensors").stat().st_size < 0.7 * (tmp_path / "half.safetensors").stat().st_size
    whole, half, eight = (
        load_dit(path).state_dict()
        for path in (tmp_path / "model", tmp_path / "half.safetensors", tmp_path / "eight.safetensors")
    )
    for key, expected in whole.items():
        assert half[key].dtype == eight[key].dtype == torch.bfloat16
        assert relative(half[key].float(), expected) < 4e-3
        assert relative(eight[key].float(), expected) < (4e-2 if expected.ndim == 2 and key.startswith("b") else 4e-3)


def test_pickles_are_converted_without_running_them(tmp_path: Path) -> None:
    """Wan's own VAEs are published as .pth only."""
    wan_vae(False).save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "wan.safetensors", "wan", torch.float32)
    torch.save(load_file(tmp_path / "wan.safetensors"), tmp_path / "wan.PTH")
    with pytest.raises(ValueError, match=r"python -m sora_core convert .*wan.PTH"):
        load_vae(tmp_path / "wan.PTH")
    convert(tmp_path / "wan.PTH", tmp_path / "again.safetensors", "wan", torch.float32)
    first, again = load_vae(tmp_path / "wan.safetensors"), load_vae(tmp_path / "again.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    state = load_file(tmp_path / "wan.safetensors")
    torch.save({"step": 3, "generator": {"state_dict": state}}, tmp_path / "nested.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    for name in ("nested.pth", "legacy.pth"):
        convert(tmp_path / name, tmp_path / "again.safetensors", "wan", torch.float32, overwrite=True)
        assert torch.equal(load_vae(tmp_path / "again.safetensors").quant.weight, first.quant.weight)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"run": print}, "is a pickle of more than weights"),
        ({"state_dict": 3}, "without weights by name"),
        ({0: torch.ones(2)}, "without weights by name"),
        ([torch.ones(2)], "without weights by name"),
        ({"a": torch.ones(2, device="meta")}, "without weights by name"),
        ({"a": torch.ones(2).to_sparse()}, "without weights by name"),
        (b"", "is empty"),
        (b"PK\x03\x04 and no more", "is cut short"),
    ],
)
def test_pickles_of_something_else_are_refused(tmp_path: Path, content: object, words: str) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=words):
        convert(tmp_path / "bad.pth", tmp_path / "x.safetensors", "wan", torch.float32)


@pytest.mark.parametrize(
    ("content", "layout", "dtype", "words"),
    [
        ("dit", "diffusers", torch.float8_e4m3fn, "diffusers reads no scaled fp8"),
        ("vae", "wan", torch.float8_e4m3fn, "is a VAE, which nothing reads in fp8"),
        ("large", "wan", torch.float16, "blocks.1.ffn.net.2.weight is too large for torch.float16; use --dtype bf16"),
        ("infinite", "wan", torch.float8_e4m3fn, "blocks.1.ffn.net.2.weight has values that are not finite"),
        ("lora", "diffusers", torch.bfloat16, "is a LoRA; use --layout wan"),
        ("lora twice", "wan", torch.bfloat16, "self_attn.q.lora_A.weight comes twice"),
        ("lora of PEFT", "wan", torch.bfloat16, "whose strength is in adapter_config.json"),
        ("kohya's lora", "wan", torch.bfloat16, "is a LoRA under names that ComfyUI reads"),
        ("strange lora", "wan", torch.bfloat16, "is a LoRA with blocks.0.mlp.lora_A.weight, which is no part"),
    ],
)
def test_conversions_that_lose_are_refused(
    tmp_path: Path, content: str, layout: str, dtype: torch.dtype, words: str
) -> None:
    """And leave nothing behind."""
    source = tmp_path / "a.safetensors"
    if "lora" in content:
        layer = {
            "strange lora": "blocks.0.mlp", "lora of PEFT": "base_model.model.blocks.0.attn1.to_q",
            "kohya's lora": "lora_unet_blocks_0_self_attn_q",
        }.get(content, "blocks.0.attn1.to_q")  # fmt: skip
        state = {f"{layer}.lora_A.weight": torch.ones(2, 4)}
        twice = {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 4)} if "twice" in content else {}
        save_file(state | twice, source)
    else:
        network = wan_vae(False) if content == "vae" else wan_dit()
        if content in ("large", "infinite"):
            network.blocks[1].ffn.net[2].weight.data[0, 0] = 1e6 if content == "large" else float("inf")
        network.save_pretrained(tmp_path / "model")
        source = tmp_path / "model"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=words):
        convert(source, tmp_path / "out.safetensors", layout, dtype)
    assert sorted(tmp_path.iterdir()) == before


def test_a_source_is_never_its_own_target(tmp_path: Path) -> None:
    wan_dit().save_pretrained(tmp_path, max_shard_size="2MB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    kept = [shard.read_bytes() for shard in shards]
    arguments = ["convert", str(tmp_path), "--out", str(shards[1]), "--overwrite"]
    assert main(arguments) == 1 and [shard.read_bytes() for shard in shards] == kept


@pytest.mark.parametrize("kept_in", ["header", "file"])
def test_loras_keep_their_strength(tmp_path: Path, kept_in: str) -> None:
    """Diffusers writes it into the header, PEFT into a file beside; ComfyUI reads one number a layer."""
    settings = {"r": 4, "lora_alpha": 64, "alpha_pattern": {"ffn.net.0.proj": 6}, "use_rslora": False}
    prefix = "transformer." if kept_in == "header" else "base_model.model."
    layers = ("blocks.0.attn1.to_q", "blocks.1.ffn.net.0.proj")
    state = {f"{prefix}{layer}.lora_{side}.weight": torch.ones(4, 4).half() for layer in layers for side in "AB"}
    header = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in settings.items()})}
    save_file(state, tmp_path / "lora.safetensors", header if kept_in == "header" else None)
    if kept_in == "file":
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings | {"use_rslora": True}))
    convert(tmp_path / "lora.safetensors", tmp_path / "out.safetensors", "wan")
    out = load_file(tmp_path / "out.safetensors")
    times = 1 if kept_in == "header" else 2  # the root of the rank
    assert float(out["diffusion_model.blocks.0.self_attn.q.alpha"]) == 64 * times
    assert float(out["diffusion_model.blocks.1.ffn.0.alpha"]) == 6 * times
    assert out["diffusion_model.blocks.1.ffn.0.lora_A.weight"].dtype == torch.float16  # its own precision


@pytest.mark.parametrize("own", ["wan", "diffusers"])
def test_loras_with_layers_that_learned_nothing_are_whole(tmp_path: Path, own: str) -> None:
    """`up` begins at zero, and an alpha may be a whole number."""
    layer = "blocks.0.attn2.to_out.0" if own == "diffusers" else "blocks.0.cross_attn.o"
    state = {
        f"transformer.{layer}.alpha": torch.tensor(4),
        f"transformer.{layer}.lora_A.weight": torch.ones(4, 8),
        f"transformer.{layer}.lora_B.weight": torch.zeros(8192, 4),
    }
    save_file(state, tmp_path / "lora.safetensors")
    assert (tmp_path / "lora.safetensors").read_bytes()[-100_000:] == bytes(100_000)
    convert(tmp_path / "lora.safetensors", tmp_path / "out.safetensors", "wan")
    out = load_file(tmp_path / "out.safetensors")
    assert out["diffusion_model.blocks.0.cross_attn.o.alpha"].dtype == torch.float32
    for part in ("alpha", "lora_A.weight", "lora_B.weight"):
        assert torch.equal(
            out[f"diffusion_model.blocks.0.cross_attn.o.{part}"], state[f"transformer.{layer}.{part}"].float()
        )


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wan_dit().save_pretrained(tmp_path / "model")
    out = tmp_path / "out.safetensors"
    get = TensorFile.get

    def slow(self: TensorFile, *words: object) -> Tensor:
        out.write_text("mine")
        return get(self, *words)

    monkeypatch.setattr(TensorFile, "get", slow)
    with pytest.raises(FileExistsError):
        convert(tmp_path / "model", out, "wan")
    assert out.read_text() == "mine"
    out.unlink()
    assert main(["convert", str(tmp_path / "model"), "--out", str(out)]) == 0
    assert f"{tmp_path / 'out-2.safetensors'}: transformer" in capsys.readouterr().out
    names = {"model", "out.safetensors", "out-2.safetensors"}
    assert out.read_text() == "mine" and {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("prefix", ["transformer.", "unet.", ""])
def test_loras_of_diffusers_get_the_names_that_hosts_read(tmp_path: Path, prefix: str) -> None:
    layers = {
        "blocks.1.attn1.to_q": "blocks.1.self_attn.q", "blocks.0.attn2.to_out.0": "blocks.0.cross_attn.o",
        "blocks.11.ffn.net.0.proj": "blocks.11.ffn.0", "blocks.0.ffn.net.2": "blocks.0.ffn.2",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2", "proj_out": "head.head",
        "blocks.3.self_attn.v": "blocks.3.self_attn.v",
    }  # fmt: skip
    kinds = {"lora_A.weight": (4, 8), "lora_B.weight": (8, 4), "alpha": ()}
    state = {f"{prefix}{layer}.{kind}": torch.randn(shape) for layer in layers for kind, shape in kinds.items()}
    save_file(state, tmp_path / "lora.safetensors")
    _, kind = convert(tmp_path / "lora.safetensors", tmp_path / "out.safetensors", "wan", torch.float32)
    assert "7 layers" in kind
    out = load_file(tmp_path / "out.safetensors")
    assert len(out) == len(state)
    for theirs, ours in layers.items():
        for kind in kinds:
            assert torch.equal(out[f"diffusion_model.{ours}.{kind}"], state[f"{prefix}{theirs}.{kind}"])


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    wan_vae(True).save_pretrained(tmp_path / "vae")
    out = tmp_path / "vae.safetensors"
    arguments = ["convert", str(tmp_path / "vae"), "--dtype", "fp16", "--out", str(out)]
    assert main(arguments) == 0 and main(arguments) == 0
    assert "VAE of 48 channels" in capsys.readouterr().out
    assert torch.equal(
        load_vae(out).quant.weight, load_vae(tmp_path / "vae-2.safetensors").quant.weight
    )  # nothing is overwritten
    assert main(["convert", str(tmp_path / "none"), "--out", str(tmp_path / "x.safetensors")]) == 1
    assert "does not exist" in capsys.readouterr().err
