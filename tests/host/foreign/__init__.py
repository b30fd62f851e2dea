"""What only the tests use: a video model of the host's own, small and random, a text for it, and a UMT5 of the shape
that the host's loader expects, but thin."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.sd
import comfy.text_encoders.wan
import folder_paths
import sentencepiece
import torch
from comfy.sd1_clip import SDClipModel
from comfy.text_encoders.t5 import T5
from safetensors.torch import save_file

WIDTH, FFN, LAYERS, TEXT = 128, 256, 2, 4096


def _weights() -> dict[str, torch.Tensor]:
    """A Wan 2.1 text-to-video transformer of one head and two layers, as the host's loader expects its keys."""
    generator = torch.Generator().manual_seed(0)

    def linear(name: str, out: int, ins: int) -> dict[str, torch.Tensor]:
        weight = torch.randn(out, ins, generator=generator) * ins**-0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(out)}

    weights = {
        "patch_embedding.weight": torch.randn(WIDTH, 16, 1, 2, 2, generator=generator) * 0.1,
        "patch_embedding.bias": torch.zeros(WIDTH),
        **linear("text_embedding.0", WIDTH, TEXT), **linear("text_embedding.2", WIDTH, WIDTH),
        **linear("time_embedding.0", WIDTH, 256), **linear("time_embedding.2", WIDTH, WIDTH),
        **linear("time_projection.1", 6 * WIDTH, WIDTH), **linear("head.head", 64, WIDTH),
        "head.modulation": torch.randn(1, 2, WIDTH, generator=generator) * 0.1,
    }  # fmt: skip
    for i in range(LAYERS):
        block = f"blocks.{i}"
        for attention in ("self_attn", "cross_attn"):
            for part in ("q", "k", "v", "o"):
                weights |= linear(f"{block}.{attention}.{part}", WIDTH, WIDTH)
            weights |= {f"{block}.{attention}.norm_{part}.weight": torch.ones(WIDTH) for part in ("q", "k")}
        weights |= {f"{block}.norm3.weight": torch.ones(WIDTH), f"{block}.norm3.bias": torch.zeros(WIDTH)}
        weights |= linear(f"{block}.ffn.0", FFN, WIDTH) | linear(f"{block}.ffn.2", WIDTH, FFN)
        weights[f"{block}.modulation"] = torch.randn(1, 6, WIDTH, generator=generator) * 0.1
    return weights


class TinyWan:
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    FUNCTION = "make"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        return {"required": {}}

    def make(self) -> tuple:
        model = comfy.sd.load_diffusion_model_state_dict(_weights())
        texts = torch.zeros(2, 1, 512, TEXT)  # padded, as the host's own encoder does
        texts[:, :, :8] = torch.randn(2, 1, 8, TEXT, generator=torch.Generator().manual_seed(1))
        return model, [[texts[0], {}]], [[texts[1], {}]]


THIN = {"d_ff": 8, "d_kv": 8, "num_heads": 1}  # the host has one UMT5, whose width and depth tell it from others


def _thin_umt5() -> dict[str, Any]:
    """Write a UMT5 of random weights with a tokenizer of its own to the text encoders; returns its config."""
    words = ["a red circle moves left on a sky background", "a cat walks along the beach, waves behind it"]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 8), model_writer=written, vocab_size=64, hard_vocab_limit=False, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    own = Path(comfy.text_encoders.wan.__file__).with_name("umt5_config_xxl.json")
    config = json.loads(own.read_text(encoding="utf-8")) | THIN | {"vocab_size": 64}
    state, generator = T5(config, torch.float32, "cpu", comfy.ops.manual_cast).state_dict(), torch.Generator()
    generator.manual_seed(2)
    for name, value in state.items():
        spread = value.shape[-1] ** -0.5 if value.ndim > 1 else 0.1
        state[name] = torch.randn(value.shape, generator=generator) * spread + float(value.ndim == 1)
    state["spiece_model"] = torch.frombuffer(bytearray(written.getvalue()), dtype=torch.uint8)
    folder = Path(folder_paths.models_dir) / "text_encoders"
    folder.mkdir(exist_ok=True)
    save_file(state, folder / "umt5.safetensors")
    return config


CONFIG = _thin_umt5()


def _init_thin(
    self: SDClipModel, device: Any = "cpu", layer: str = "last", layer_idx: Any = None, dtype: Any = None,
    model_options: Any = None,
) -> None:  # fmt: skip
    SDClipModel.__init__(
        self, device=device, layer=layer, layer_idx=layer_idx, textmodel_json_config=dict(CONFIG), dtype=dtype,
        special_tokens={"end": 1, "pad": 0}, model_class=T5, enable_attention_masks=True, zero_out_masked=True,
        model_options=model_options or {},
    )  # fmt: skip


comfy.text_encoders.wan.UMT5XXlModel.__init__ = _init_thin


class _OfModels:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        return {"required": {"model": ("MODEL",)}}


class SofterAttention(_OfModels):
    """Another product of attention, put there as nodes for sage attention and the like do."""

    def patch(self, model: Any) -> tuple:
        patched = model.clone()
        options = patched.model_options["transformer_options"]
        options["optimized_attention_override"] = lambda run, q, *rest, **given: run(q * 0.5, *rest, **given)
        return (patched,)


class MovedPositions(_OfModels):
    """A block in the place of another, which exchanges what it is given besides the tokens."""

    def patch(self, model: Any) -> tuple:
        def moved(given: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            places = given["pe"]  # (L, D) here, (1, L, ...) of the host's own
            return extra["original_block"](given | {"pe": places.roll(3, 0 if places.is_complex() else 1)})

        patched = model.clone()
        patched.set_model_patch_replace(moved, "dit", "double_block", 1)
        return (patched,)


NODE_CLASS_MAPPINGS = {"TinyWan": TinyWan, "SofterAttention": SofterAttention, "MovedPositions": MovedPositions}
