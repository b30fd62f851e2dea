"""The bundled model's own text side: a byte-level BPE tokenizer and a small transformer encoder.

No word is an error: what the vocabulary lacks is spelt in bytes. Public models bring their own encoder (UMT5) instead.
Shapes: B batch, S tokens, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from .config import TextConfig

PAD, END = 0, 1


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE over lower-cased texts; every text ends in one end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", END)])
    return tokenizer


def unread(tokenizer: Tokenizer, text: str, max_tokens: int) -> str | None:
    """What is said of a text that is longer than what is read of it, else None."""
    ids = _ids(tokenizer, text)
    if len(ids) <= max_tokens:
        return None
    return f"the text is cut after {max_tokens - 1} tokens; not read: {tokenizer.decode(ids[max_tokens - 1 :]).strip()}"


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    tokenizer.encode_special_tokens = True  # a typed "<end>" is five letters, not the end
    return tokenizer.encode(text).ids


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int, warn: bool = True) -> Tensor:
    """Token ids (B, max_tokens), padded. Longer texts are cut, their end token kept; a warning says where."""
    for cut in [unread(tokenizer, text, max_tokens) for text in texts if warn]:
        if cut is not None:
            logging.getLogger(__name__).warning(cut)
    rows = [_ids(tokenizer, text) for text in texts]
    rows = [row if len(row) <= max_tokens else [*row[: max_tokens - 1], END] for row in rows]
    out = torch.full((len(rows), max_tokens), PAD)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return out


class EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b s (three n d) -> three b n s d", three=3, n=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(rearrange(attended, "b n s d -> b s (n d)"))
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    """Token ids (B, S) to features (B, S, D). Behind the text stands its end token's feature, a summary of it: so a
    transformer that does not know yet where to look sees what the whole text says."""

    def __init__(self, cfg: TextConfig) -> None:
        super().__init__()
        self.config = cfg
        self.token = nn.Embedding(cfg.vocab_size, cfg.dim)
        self.position = nn.Embedding(cfg.max_tokens, cfg.dim)
        self.layers = nn.ModuleList(EncoderLayer(cfg.dim, cfg.heads) for _ in range(cfg.layers))
        self.norm = nn.LayerNorm(cfg.dim)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Random weights to start training from. Tokens are large and layers small, so that the features of different
        words stay apart from the first step on."""
        for name, parameter in self.named_parameters():
            if name == "token.weight":
                nn.init.normal_(parameter, generator=generator)
            elif name == "position.weight":
                nn.init.normal_(parameter, std=0.2, generator=generator)
            elif parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > self.config.max_tokens:
            raise ValueError(f"{ids.shape[1]} text tokens: this encoder reads at most {self.config.max_tokens}")
        real = ids != PAD
        x = self.token(ids) + self.position.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, real[:, None, None, :])
        x = self.norm(x)
        end = real.sum(1) - 1
        return torch.where(real[..., None], x, x[torch.arange(len(x), device=x.device), end][:, None])
