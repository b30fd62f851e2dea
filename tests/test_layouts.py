"""Public weights: the same numbers come out as from diffusers' classes, every layout is read and written, and what is
something else is refused with a sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from wan_models import relative, wan_dit, wan_vae, written

from sora_core import layouts
from sora_core.config import PRESETS
from sora_core.convert import convert
from sora_core.dit import DiT
from sora_core.layouts import dit_names, load_dit, load_vae, read_dit, vae_names
from sora_core.tensors import TensorFile
from sora_core.vae import VAE


@pytest.mark.parametrize("channels", [16, 48])
def test_the_transformer_is_diffusers(tmp_path: Path, generator: torch.Generator, channels: int) -> None:
    theirs = wan_dit(channels)
    theirs.save_pretrained(tmp_path, max_shard_size="2MB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load_dit(tmp_path)
    assert ours.config.in_dim == channels and ours.config.text_len == 512
    for batch, shape, words in ((1, (1, 4, 6), 1), (2, (3, 6, 4), 17), (1, (5, 2, 8), 512)):
        x = torch.randn(batch, channels, *shape, generator=generator)
        text = torch.randn(batch, words, 96, generator=generator)
        padded = torch.nn.functional.pad(text, (0, 0, 0, 512 - words))
        frames = torch.rand(batch, shape[0], generator=generator) * 1000
        frames[0, 0] = 0
        tokens = frames.repeat_interleave(shape[1] * shape[2] // 4, dim=1)
        for timestep in (torch.rand(batch, generator=generator) * 1000, tokens):
            with torch.no_grad():
                expected = theirs(x, timestep, padded, return_dict=False)[0]
                assert relative(ours(x, timestep, text), expected) < 1e-4


@pytest.mark.parametrize("name", ["wan2.1-1.3b", "wan2.2-5b"])
def test_a_block_of_true_size_is_diffusers(
    tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = PRESETS[name].dit
    theirs = WanTransformer3DModel(
        num_attention_heads=config.heads, attention_head_dim=config.dim // config.heads, in_channels=config.in_dim,
        out_channels=config.out_dim, text_dim=config.text_dim, freq_dim=config.freq_dim, ffn_dim=config.ffn_dim,
        num_layers=1, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"has 1 blocks and the public Wan of this width {config.layers}"):
        load_dit(tmp_path)
    monkeypatch.setattr(layouts, "DEPTHS", {})
    ours = load_dit(tmp_path)
    assert replace(ours.config, layers=config.layers) == config
    x = torch.randn(1, config.in_dim, 2, 6, 4, generator=generator)
    text = torch.randn(1, 512, config.text_dim, generator=generator)
    tokens = torch.tensor([[0.0, 700.0]]).repeat_interleave(6, dim=1)
    for timestep in (torch.tensor([400.0]), tokens):
        with torch.no_grad():
            assert relative(ours(x, timestep, text), theirs(x, timestep, text, return_dict=False)[0]) < 1e-4


@pytest.mark.parametrize("residual", [False, True], ids=["2.1", "2.2"])
def test_the_vae_is_diffusers(tmp_path: Path, generator: torch.Generator, residual: bool) -> None:
    theirs = wan_vae(residual)
    theirs.save_pretrained(tmp_path)
    ours = load_vae(tmp_path)
    side = 32 if residual else 24
    for frames in (1, 5, 17):
        video = torch.rand(1, 3, frames, side, 32, generator=generator) * 2 - 1
        with torch.no_grad():
            latents = theirs.encode(video).latent_dist.mean
            back = theirs.decode(latents).sample
            whole = ours.normalise(ours.moments(video)[0])
        assert relative(ours.encode(video), latents) < 1e-4 and relative(whole, latents) < 1e-4
        assert relative(ours.decode(latents), back) < 1e-4 and relative(ours.decode(latents, chunk=99), back) < 1e-4


def unscaled(state: dict[str, Tensor], marks: dict[str, Tensor]) -> None:
    for key in [key for key in state if "scale" in key]:
        del state[key]
    state |= marks


def quantised(words: str) -> dict[str, Tensor]:
    return {f"{FFN}.comfy_quant": torch.tensor(list(words.encode()), dtype=torch.uint8)}


FFN, EIGHT = "blocks.0.ffn.0", torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(f"{FFN}.scale_weight"), f"lacks the scale of {FFN}.weight"),
        (lambda s: unscaled(s, quantised('{"format": "float8_e4m3fn"}')), "lacks the scale of blocks"),
        (lambda s: unscaled(s, {f"{FFN}.input_scale": torch.ones(())}), "lacks the scale of blocks"),
        (lambda s: s.update(quantised('{"format": "mxfp8"}')), "says {'format': 'mxfp8'}, which is not read"),
        (lambda s: s.update(quantised("{")), "says something that cannot be read"),
        (lambda s: s.update({f"{FFN}.scale_weight": torch.tensor(float("nan"))}), "is not above 0 everywhere"),
        (lambda s: s.update({f"{FFN}.scale_weight": torch.ones(320, 2)}), r"scale_weight is F32 of shape \(320, 2\)"),
        (lambda s: s.update({f"{FFN}.scale_weight": torch.ones(256)}), r"scale_weight is F32 of shape \(256,\)"),
        (lambda s: s.update({f"{FFN}.scale_weight": torch.ones(1, dtype=torch.uint8)}), "scale_weight is U8"),
        (lambda s: s.update({"blocks.7.ffn.0.scale_weight": torch.ones(1)}), "1 weights too many.* blocks.7.ffn.0"),
        (lambda s: [s.pop(key) for key in list(s) if "scale_w" in key], r"lacks the scale of blocks\.0\."),
    ],
)
def test_scales_that_do_not_fit_are_refused(tmp_path: Path, change: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_dit(written(tmp_path, change, EIGHT))


def test_scales_are_one_for_all_or_one_a_row(tmp_path: Path, generator: torch.Generator) -> None:
    rows = torch.rand(320, generator=generator) + 0.5
    for shape in ((320,), (320, 1)):
        path = written(tmp_path, lambda s, to=shape: s.update({f"{FFN}.scale_weight": rows.view(to)}), EIGHT)
        expected = load_file(path)[f"{FFN}.weight"].float() * rows[:, None]
        assert relative(load_dit(path).blocks[0].ffn[0].weight.float(), expected) < 4e-3

    def all_in_one(state: dict[str, Tensor]) -> None:
        """Eight bits as they were cast, beside another network that is scaled."""
        unscaled(state, {})
        both = {f"model.diffusion_model.{key}": value for key, value in state.items()}
        state.clear()
        state |= both | {"text_encoders.t5.scaled_fp8": torch.ones(1)}

    weight = load_dit(written(tmp_path, all_in_one, EIGHT)).blocks[0].ffn[0].weight
    assert torch.equal(
        weight.float(), load_file(tmp_path / "changed.safetensors")[f"model.diffusion_model.{FFN}.weight"].float()
    )


def test_a_file_s_precision_is_kept(tmp_path: Path) -> None:
    wan_dit().to(torch.bfloat16).save_pretrained(tmp_path)
    ours = load_dit(tmp_path)
    assert {value.dtype for value in ours.state_dict().values()} == {torch.bfloat16}
    assert load_dit(tmp_path, torch.float32).head.head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("blocks.1.ffn.0.bias"), "lacks 1 weights, the first is blocks.1.ffn.0.bias"),
        (lambda s: s.update({"blocks.1.extra": torch.ones(1)}), "1 weights too many, the first is blocks.1.extra"),
        (lambda s: s.update({"head.head.bias": torch.ones(3)}), r"head.head.bias has shape \(3,\)"),
        (lambda s: s.pop("blocks.0.self_attn.norm_q.weight"), "lacks 1 weights, .* blocks.0.self_attn.norm_q.weight"),
        (lambda s: s.update({"patch_embedding.weight": torch.ones(256)}), r"patch_embedding.weight has shape \(256,\)"),
        (
            lambda s: s.update({"patch_embedding.weight": torch.ones(256, 16, 0, 2, 2)}),
            r"has shape \(256, 16, 0, 2, 2\)",
        ),
        (lambda s: s.update({"time_embedding.0.weight": torch.ones(256, 255)}), "an odd number of frequencies"),
        (lambda s: s.update({"text_embedding.0.weight": torch.ones(())}), r"text_embedding.0.weight has shape \(\)"),
        (
            lambda s: s.update({f"other.{key}": value.clone() for key, value in s.items()}),
            "holds more than one such network, at '' and 'other.'",
        ),
        (lambda s: s.update({"img_emb.proj.0.weight": torch.ones(1)}), "image-to-video model"),
        (
            lambda s: s.update({"patch_embedding.weight": torch.ones(256, 36, 1, 2, 2)}),
            "takes 36 channels",
        ),
        (  # nvfp4: two values a byte, with two scales
            lambda s: s.update(
                {
                    "blocks.0.ffn.0.weight": torch.ones(512, 128, dtype=torch.uint8),
                    "blocks.0.ffn.0.weight_scale": torch.ones(512, 16),
                    "blocks.0.ffn.0.weight_scale_2": torch.ones(()),
                }
            ),
            "holds weights of U8, packed in a way",
        ),
    ],
)
def test_a_wrong_transformer_is_refused(tmp_path: Path, change: Callable, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_dit(written(tmp_path, change))


@pytest.mark.parametrize("residual", [False, True], ids=["2.1", "2.2"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("decoder.head.0.gamma"), "lacks decoder.head.0.gamma"),
        (lambda s: s.update({"conv2.weight": torch.ones(3)}), r"conv2.weight has shape \(3,\)"),
        (lambda s: s.pop("decoder.middle.0.residual.2.bias"), "lacks 1 weights, the first is decoder.middle.0"),
        (lambda s: s.update({"encoder.extra": torch.ones(1)}), "1 weights too many, the first is encoder.extra"),
        (lambda s: s.update({"conv1.bias": torch.ones(3)}), r"conv1.bias has shape \(3,\)"),
        (lambda s: s.update({"conv1.bias": s["conv1.bias"].to(torch.int8)}), "holds weights of I8, packed in a way"),
    ],
)
def test_a_wrong_vae_is_refused(tmp_path: Path, residual: bool, change: Callable, words: str) -> None:
    wan_vae(residual).save_pretrained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "wan.safetensors", "wan", torch.float32)
    state = load_file(tmp_path / "wan.safetensors")
    change(state)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "changed.safetensors")
    with pytest.raises(ValueError, match=words):
        load_vae(tmp_path / "changed.safetensors")


def test_one_shard_stands_for_all(tmp_path: Path) -> None:
    wan_dit().save_pretrained(tmp_path, max_shard_size="2MB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    whole = load_dit(tmp_path).state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in load_dit(shards[-1]).state_dict().items())
    shards[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"is one of .* shards, of which .* are beside it"):
        load_dit(shards[-1])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["first_stage_model.encoder.conv_in.weight", "first_stage_model.decoder.norm_out.weight"], "it is a VAE"),
        (["input_blocks.0.0.weight"], "it is a Stable Diffusion checkpoint"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "of the Flux or Hunyuan family"),
        (["vace_blocks.0.before_proj.weight"], "Wan's VACE model"),
        (["blocks.0.self_attn.q_proj.weight"], "its first weight is blocks.0.self_attn.q_proj"),
        (["blocks.3.self_attn.q.weight"], "it is a transformer of the Wan family, or a part of one"),
        (["encoder.conv_in.weight", "decoder.norm_out.weight"], "it is a VAE"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "it is a Stable Diffusion checkpoint"),
        (["diffusion_model.blocks.0.mlp.lora_A.weight"], "it is a LoRA"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "it is a T5 text encoder"),
        (["diffusion_model.blocks.0.self_attn.norm_q.diff", "blocks.0.self_attn.norm_q.weight"], "it is a LoRA"),
        (["lora_unet_blocks_0_self_attn_q.lora_down.weight"], "it is a LoRA"),
        (["diffusion_model.blocks.0.ffn.0.lokr_w1"], "it is a LoRA"),
        (["blocks.0.attn.q.weight", "token_embedding.weight"], "T5 text encoder in Wan's own layout"),
        (["vision_model.encoder.layers.0.self_attn.q_proj.weight"], "it is a CLIP vision encoder"),
        (["transformer_blocks.0.attn1.norm_q.weight"], "it is a transformer of another architecture"),
        (["transformer.blocks.0.attn1.to_q.lora_magnitude_vector"], "it is a LoRA"),
        (["encoder.embed_tokens.weight"], "its first weight is encoder.embed_tokens"),
        (["text_model.encoder.layers.0.self_attn.q_proj.weight"], "it is a CLIP text encoder"),
        (["something"], "its first weight is something"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, keys: list[str], words: str) -> None:
    save_file({key: torch.ones(2) for key in keys}, tmp_path / "a.safetensors")
    for load in (load_dit, load_vae):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "a.safetensors")
    expected = "is a LoRA (with|under)" if "LoRA" in words else f"neither a Wan transformer.*: .*{words}"
    with pytest.raises(ValueError, match=expected):
        convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "wan", torch.float32)


@pytest.mark.parametrize(
    ("form", "words"), [("1", "Sora Load Model"), ("draft/1", "Sora Load Draft"), ("latents/1", "sora_core decode")]
)
def test_this_package_s_own_files_go_elsewhere(tmp_path: Path, form: str, words: str) -> None:
    weights = {"dit.blocks.0.self_attn.norm_q.weight": torch.ones(2)}
    save_file(weights, tmp_path / "a.safetensors", {"format": f"sora_core/{form}"})
    for load in (load_dit, load_vae):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "a.safetensors")


def test_broken_files_are_refused(tmp_path: Path) -> None:
    wan_dit().save_pretrained(tmp_path, max_shard_size="2MB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    data = shards[0].read_bytes()
    shards[0].write_bytes(data[:-100])
    with pytest.raises(ValueError, match="truncated"):
        load_dit(tmp_path)
    shards[0].unlink()
    with pytest.raises(FileNotFoundError, match="which is not beside it"):
        load_dit(tmp_path)
    shards[0].write_bytes(data)
    shards[-1].write_bytes(shards[-1].read_bytes()[:-100_000] + bytes(100_000))
    with pytest.raises(ValueError, match="ends in nothing but zeros: its download was not finished"):
        TensorFile(tmp_path)
    shards[0].unlink()
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match="is a pickle"):
        load_dit(tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_vae(tmp_path / "none.safetensors")
    index = next(tmp_path.glob("*.index.json"))
    for text in ("{}", "[]", "3", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}', "{", "\xff"):
        index.write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match="no index"):
            TensorFile(index)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"GGUF\x03\x00", "it is GGUF"),
        (b"PK\x03\x04" + b"\x00" * 40, "it is a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer of Git LFS"),
        (b"\n<!DOCTYPE html>", "it is a web page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "truncated or of another format"),
    ],
)
def test_what_is_no_safetensors_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    for load in (load_dit, load_vae):
        with pytest.raises(ValueError, match=words):
            load(tmp_path / "model.safetensors")


def write_headers(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A model of bfloat16 in eight files with nothing in them: the space is a hole."""
    keys = list(shapes)
    for number in range(8):
        header, place = {}, 0
        for key in keys[number::8]:
            size = 2 * torch.Size(shapes[key]).numel()
            header[key] = {"dtype": "BF16", "shape": list(shapes[key]), "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(header).encode()
        with (folder / f"model-{number + 1:05}-of-00008.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + place)
            file.seek(-1, os.SEEK_END)
            file.write(b"\x01")  # not cut short


@pytest.mark.skipif(os.name == "nt", reason="files with holes")
@pytest.mark.parametrize("layout", ["wan", "diffusers"])
@pytest.mark.parametrize("name", ["wan2.1-1.3b", "wan2.1-14b", "wan2.2-5b"])
def test_public_models_are_known_from_their_headers(tmp_path: Path, name: str, layout: str) -> None:
    config, path = PRESETS[name].dit, tmp_path / "model-00003-of-00008.safetensors"
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in DiT(config).state_dict().items()}
    shapes = {theirs: shapes[ours] for ours, theirs in dit_names(config, layout).items()}
    write_headers(tmp_path, shapes)
    assert read_dit(TensorFile(path))[0] == config
    last = f"blocks.{config.layers - 1}."
    write_headers(tmp_path, {key: shape for key, shape in shapes.items() if not key.startswith(last)})
    with pytest.raises(ValueError, match=f"the public Wan of this width {config.layers}: it lacks {last[:-1]}"):
        read_dit(TensorFile(path))


def test_shards_that_overlap_are_refused(tmp_path: Path) -> None:
    wan_dit().save_pretrained(tmp_path, max_shard_size="2MB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    twice = next(iter(load_file(shards[0])))
    save_file(load_file(shards[1]) | {twice: torch.ones(1)}, shards[1])
    with pytest.raises(ValueError, match=f"holds {twice}, which another file"):
        load_dit(tmp_path)


def test_maps_are_one_to_one() -> None:
    for preset in ("wan2.1-1.3b", "wan2.2-5b"):
        for layout in ("wan", "diffusers"):
            for names, network in ((dit_names, DiT), (vae_names, VAE)):
                config = PRESETS[preset].dit if network is DiT else PRESETS[preset].vae
                found = names(config, layout)
                assert len(set(found.values())) == len(found)
