"""The VAE's networks: encoder and decoder, of convolutions that look back in time only.

What a convolution needs of the frames before is kept in a `Stream`, one entry per module, so that a clip may be fed in
pieces that give what the whole gives. Structure after Wan 2.1 and 2.2 (arXiv 2503.20314); shortcuts after DC-AE (arXiv
2410.10733).

Letters: B batch, C channels, T frames, H W rows and columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from .config import VAEConfig

Stream = dict[nn.Module, Tensor]  # what each module remembers of the frames before


class ChannelRMSNorm(nn.Module):
    """RMS norm over the channel axis of (B, C, ...)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.movedim(1, -1), self.weight.shape, self.weight, 1e-12).movedim(-1, 1)


class CausalConv3d(nn.Conv3d):
    """3D convolution that pads time in front only: with what the stream remembers, else with zeros."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int | tuple[int, int, int]) -> None:
        super().__init__(in_dim, out_dim, kernel)
        _, height, width = self.kernel_size
        self.space_padding = (height // 2, width // 2)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        context = self.kernel_size[0] - 1
        if context == 0:
            return F.conv3d(x, self.weight, self.bias, padding=(0, *self.space_padding))
        past = stream.get(self) if stream is not None else None
        if past is None and x.shape[2] == 1:  # a lone first frame meets only the last temporal tap: 4x faster as 2D
            if stream is not None:
                stream[self] = F.pad(x, (0, 0, 0, 0, context - 1, 0))
            return F.conv2d(x[:, :, 0], self.weight[:, :, -1], self.bias, padding=self.space_padding).unsqueeze(2)
        x = F.pad(x, (0, 0, 0, 0, context, 0)) if past is None else torch.cat([past, x], dim=2)
        if stream is not None:
            stream[self] = x[:, :, -context:].clone()
        return F.conv3d(x, self.weight, self.bias, padding=(0, *self.space_padding))


class ResBlock(nn.Module):
    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm1 = ChannelRMSNorm(in_dim)
        self.conv1 = CausalConv3d(in_dim, out_dim, 3)
        self.norm2 = ChannelRMSNorm(out_dim)
        self.conv2 = CausalConv3d(out_dim, out_dim, 3)
        self.skip = CausalConv3d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), stream)
        h = self.conv2(F.silu(self.norm2(h)), stream)
        return self.skip(x) + h


class FrameAttention(nn.Module):
    """Single-head self-attention among the positions of each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelRMSNorm(dim)
        self.to_qkv = nn.Conv2d(dim, dim * 3, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, _, height, _ = x.shape
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        q, k, v = rearrange(self.to_qkv(self.norm(frames)), "n (qkv c) h w -> qkv n 1 (h w) c", qkv=3).contiguous()
        out = rearrange(F.scaled_dot_product_attention(q, k, v), "n 1 (h w) c -> n c h w", h=height)
        return x + rearrange(self.proj(out), "(b t) c h w -> b c t h w", b=batch)


class Downsample(nn.Module):
    """Halves space and / or time with strided convolutions; the clip's first frame is left alone in time."""

    def __init__(self, dim: int, space: bool, time: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, stride=2) if space else None
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), stride=(2, 1, 1)) if time else None

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        if self.conv is not None:
            frames = F.pad(rearrange(x, "b c t h w -> (b t) c h w"), (0, 1, 0, 1))
            x = rearrange(self.conv(frames), "(b t) c h w -> b c t h w", b=x.shape[0])  # H/2 W/2
        if self.time_conv is None:
            return x
        past = stream.get(self) if stream is not None else None
        if stream is not None:
            stream[self] = x[:, :, -1:].clone()
        if past is not None:
            return self.time_conv(torch.cat([past, x], dim=2))  # T/2
        if x.shape[2] == 1:
            return x
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)  # (T - 1)/2 + 1


class Upsample(nn.Module):
    """Doubles time and / or space; the clip's first frame is left alone in time."""

    def __init__(self, dim: int, out_dim: int, space: bool, time: bool) -> None:
        super().__init__()
        self.time_conv = CausalConv3d(dim, dim * 2, (3, 1, 1)) if time else None
        self.conv = nn.Conv2d(dim, out_dim, 3, padding=1) if space else None

    def _double_time(self, x: Tensor, stream: Stream | None) -> Tensor:
        assert self.time_conv is not None
        first = None
        if stream is None or self not in stream:
            first, x = x[:, :, :1], x[:, :, 1:]
            if stream is not None:
                stream[self] = x.new_empty(0)  # the first frame has passed
            if x.shape[2] == 0:
                return first
        x = rearrange(self.time_conv(x, stream), "b (two c) t h w -> b c (t two) h w", two=2)
        return x if first is None else torch.cat([first, x], dim=2)

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        if self.time_conv is not None:
            x = self._double_time(x, stream)  # 2T - 1, or 2T behind the first piece
        if self.conv is not None:
            frames = F.interpolate(rearrange(x, "b c t h w -> (b t) c h w"), scale_factor=2.0, mode="nearest-exact")
            x = rearrange(self.conv(frames), "(b t) c h w -> b c t h w", b=x.shape[0])  # 2H 2W
        return x


class AverageDown(nn.Module):
    """Shortcut without weights: folds space and time into channels and averages them down to `out_dim`."""

    def __init__(self, out_dim: int, space: bool, time: bool) -> None:
        super().__init__()
        self.out_dim, self.space, self.time = out_dim, 1 + space, 1 + time

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.time, 0))
        x = rearrange(x, "b c (t k) (h p) (w q) -> b (c k p q) t h w", k=self.time, p=self.space, q=self.space)
        return reduce(x, "b (c group) t h w -> b c t h w", "mean", c=self.out_dim)


class DuplicateUp(nn.Module):
    """Shortcut without weights: repeats channels and unfolds them into space and time."""

    def __init__(self, in_dim: int, out_dim: int, space: bool, time: bool) -> None:
        super().__init__()
        self.space, self.time = 1 + space, 1 + time
        self.repeats = out_dim * self.time * self.space**2 // in_dim

    def forward(self, x: Tensor, first: bool) -> Tensor:
        x = repeat(x, "b c t h w -> b (c r) t h w", r=self.repeats)
        x = rearrange(x, "b (c k p q) t h w -> b c (t k) (h p) (w q)", k=self.time, p=self.space, q=self.space)
        return x[:, :, self.time - 1 :] if first else x


class EncoderLevel(nn.Module):
    def __init__(self, in_dim: int, dim: int, blocks: int, down: tuple[bool, bool], shortcut: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(in_dim if i == 0 else dim, dim) for i in range(blocks))
        self.down = Downsample(dim, *down) if any(down) else None
        self.shortcut = AverageDown(dim, *down) if shortcut else None

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        h = x
        for block in self.blocks:
            h = block(h, stream)
        if self.down is not None:
            h = self.down(h, stream)
        return h if self.shortcut is None else h + self.shortcut(x)


class DecoderLevel(nn.Module):
    def __init__(self, in_dim: int, dim: int, out_dim: int, blocks: int, up: tuple[bool, bool], shortcut: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(in_dim if i == 0 else dim, dim) for i in range(blocks))
        self.up = Upsample(dim, out_dim, *up) if any(up) else None
        self.shortcut = DuplicateUp(in_dim, out_dim, *up) if shortcut and any(up) else None

    def forward(self, x: Tensor, stream: Stream | None, first: bool) -> Tensor:
        h = x
        for block in self.blocks:
            h = block(h, stream)
        if self.up is not None:
            h = self.up(h, stream)
        return h if self.shortcut is None else h + self.shortcut(x, first)


class Middle(nn.Module):
    def __init__(self, dim: int, attention: bool) -> None:
        super().__init__()
        self.block1 = ResBlock(dim, dim)
        self.attention = FrameAttention(dim) if attention else None
        self.block2 = ResBlock(dim, dim) if attention else None

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        x = self.block1(x, stream)
        if self.attention is not None and self.block2 is not None:
            x = self.block2(self.attention(x), stream)
        return x


class Encoder(nn.Module):
    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(3 * cfg.pixel_patch**2, cfg.widths[0], 3)
        downs = [*zip(cfg.space_down, cfg.time_down, strict=True), (False, False)]
        ins = (cfg.widths[0], *cfg.widths[:-1])
        self.levels = nn.ModuleList(
            EncoderLevel(in_dim, dim, cfg.encoder_blocks, down, cfg.shortcut)
            for in_dim, dim, down in zip(ins, cfg.widths, downs, strict=True)
        )
        self.middle = Middle(cfg.widths[-1], cfg.middle_attention)
        self.norm_out = ChannelRMSNorm(cfg.widths[-1])
        self.conv_out = CausalConv3d(cfg.widths[-1], 2 * cfg.z_dim, 3)

    def down(self, x: Tensor, stream: Stream | None) -> Tensor:
        """From pixels to the latents' resolution: all that looks at a neighbourhood only."""
        x = self.conv_in(x, stream)
        for level in self.levels:
            x = level(x, stream)
        return x

    def finish(self, x: Tensor, stream: Stream | None) -> Tensor:
        """From there to moments, with the attention over whole frames."""
        return self.conv_out(F.silu(self.norm_out(self.middle(x, stream))), stream)

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        return self.finish(self.down(x, stream), stream)


class Decoder(nn.Module):
    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        widths = cfg.decoder_widths[::-1]
        ups = [*zip(cfg.space_down[::-1], cfg.time_down[::-1], strict=True), (False, False)]
        self.conv_in = CausalConv3d(cfg.z_dim, widths[0], 3)
        self.middle = Middle(widths[0], cfg.middle_attention)
        levels, in_dim = [], widths[0]
        for dim, up in zip(widths, ups, strict=True):
            out_dim = dim // 2 if any(up) and not cfg.shortcut else dim
            levels.append(DecoderLevel(in_dim, dim, out_dim, cfg.decoder_blocks, up, cfg.shortcut))
            in_dim = out_dim
        self.levels = nn.ModuleList(levels)
        self.norm_out = ChannelRMSNorm(in_dim)
        self.conv_out = CausalConv3d(in_dim, 3 * cfg.pixel_patch**2, 3)

    def begin(self, x: Tensor, stream: Stream | None) -> Tensor:
        """At the latents' resolution, with the attention over whole frames."""
        return self.middle(self.conv_in(x, stream), stream)

    def up(self, x: Tensor, stream: Stream | None, first: bool) -> Tensor:
        """From there to pixels: all that looks at a neighbourhood only. first: this is the beginning of a clip."""
        for level in self.levels:
            x = level(x, stream, first)
        return self.conv_out(F.silu(self.norm_out(x)), stream)

    def forward(self, x: Tensor, stream: Stream | None) -> Tensor:
        first = stream is None or not stream
        return self.up(self.begin(x, stream), stream, first)
