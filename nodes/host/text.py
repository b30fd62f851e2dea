"""Our text encoder as the host's CLIP."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.sd
import comfy.supported_models_base
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ...sora_core.checkpoint import Model
from ...sora_core.config import TextConfig
from ...sora_core.text import TextEncoder, tokenize, unread


class HostTokenizer:
    """Text to ids under the host's calling convention. Every word has weight 1: brackets are read as they stand."""

    def __init__(self, embedding_directory: str | None = None, tokenizer_data: dict[str, Any] | None = None) -> None:
        assert tokenizer_data is not None
        self.tokenizer: Tokenizer = tokenizer_data["tokenizer"]
        self.max_tokens: int = tokenizer_data["max_tokens"]
        self.apart: bool = tokenizer_data["apart"]

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, list]:
        ids = tokenize(self.tokenizer, [text], self.max_tokens)[0].tolist()
        row = [(token, 1.0, i) for i, token in enumerate(ids)] if return_word_ids else [(token, 1.0) for token in ids]
        return {"sora": [row]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple]:
        return [(pair, self.tokenizer.id_to_token(pair[0])) for pair in pairs]

    def state_dict(self) -> dict[str, Tensor]:
        return {}


class HostTextEncoder(nn.Module):
    """The text encoder under the host's calling convention."""

    def __init__(self, config: TextConfig, dtype: torch.dtype, device: Any, model_options: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = TextEncoder(config).to(device)
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """There is nothing to set: no layer to stop at, no pooled output."""

    def reset_clip_options(self) -> None:
        pass

    def encode_token_weights(self, tokens: dict[str, list]) -> tuple[Tensor, None]:
        """Features (1, max_tokens, D)."""
        ids = torch.tensor([[pair[0] for pair in row] for row in tokens["sora"]])
        features = self.encoder(ids.to(self.encoder.token.weight.device))
        return features.to(comfy.model_management.intermediate_device()), None

    def load_sd(self, state: dict[str, Tensor]) -> Any:
        return self.encoder.load_state_dict(state)


def native_clip(model: Model) -> comfy.sd.CLIP:
    target = comfy.supported_models_base.ClipTarget(HostTokenizer, HostTextEncoder)
    target.params = {"config": model.text.config}
    data = {"tokenizer": model.tokenizer, "max_tokens": model.text.config.max_tokens, "apart": model.defaults.apart}
    parameters = sum(p.numel() for p in model.text.parameters())
    clip = comfy.sd.CLIP(target, tokenizer_data=data, parameters=parameters)
    clip.load_sd(model.text.state_dict())
    return clip


def encode_text(clip: comfy.sd.CLIP, text: str) -> list:
    """A text as CONDITIONING."""
    clip = present(clip)
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def unread_of(clip: comfy.sd.CLIP, text: str) -> str | None:
    """What is said where an encoder of ours cuts a text; others say for themselves."""
    tokenizer = present(clip).tokenizer
    return unread(tokenizer.tokenizer, text, tokenizer.max_tokens) if isinstance(tokenizer, HostTokenizer) else None


def takes_apart(clip: comfy.sd.CLIP) -> bool:
    """Whether its model makes two things of one text better from a text each."""
    return getattr(present(clip).tokenizer, "apart", False)


def present(clip: comfy.sd.CLIP | None) -> comfy.sd.CLIP:
    if clip is None:
        raise ValueError("clip is missing: the checkpoint that was loaded has no text encoder")
    return clip
