"""Causal 3D VAE: video to latents and back, for the bundled model and, by config, the public Wan VAEs.

Shapes: B batch, C channels, T frames, H W rows and columns. Pixels are in -1..1, (B, 3, T, H, W) with T = k*n + 1 for
a time factor k. Latents are (B, z, n + 1, H/s, W/s) and normalised per channel: the first latent frame covers one
frame of video, each later one covers k.

Every convolution over time looks back only. What it needs of the frames before is kept in a `Stream`, one entry per
module, so that a clip may be fed in pieces: working memory does not grow with its length, and the pieces give what the
whole gives. Structure after Wan 2.1 and 2.2 (arXiv 2503.20314); shortcuts after DC-AE (arXiv 2410.10733).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from .config import VAEConfig, nearest
from .tiling import blend_tiles

Stream = dict[nn.Module, Tensor]  # what each module remembers of the frames before
OnFrames = Callable[[int, int], None]  # frames done, and all of them


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


class VAE(nn.Module):
    """Causal 3D VAE. `encode` and `decode` stream over time; `tile` bounds the working memory of large frames too."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        self.config = cfg
        self.encoder = Encoder(cfg)
        self.quant = nn.Conv3d(2 * cfg.z_dim, 2 * cfg.z_dim, 1)
        self.post_quant = nn.Conv3d(cfg.z_dim, cfg.z_dim, 1)
        self.decoder = Decoder(cfg)

    # ---- one piece of a clip

    def moments(self, video: Tensor, stream: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, not normalised, of a clip (B, 3, T, H, W) in -1..1, or of its next piece."""
        mean, logvar = self.quant(self.encoder(self._fold(video), stream)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def reconstruct(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Pixels, not clamped, of latents that are not normalised, or of their next piece."""
        return self._unfold(self.decoder(self.post_quant(z), stream))

    def _fold(self, video: Tensor) -> Tensor:
        p = self.config.pixel_patch
        return rearrange(video, "b c t (h q) (w r) -> b (c r q) t h w", q=p, r=p)

    def _unfold(self, x: Tensor) -> Tensor:
        p = self.config.pixel_patch
        return rearrange(x, "b (c r q) t h w -> b c t (h q) (w r)", q=p, r=p)

    # ---- whole clips

    def fingerprint(self) -> str:
        """Tells one trained VAE's latents from another's: 16 hexadecimal digits."""
        weight = self.encoder.conv_out.weight.detach().to("cpu", torch.float32).contiguous()
        config = {key: value for key, value in self.config.to_dict().items() if key != "latent_rgb"}
        digest = sha256(json.dumps(config).encode())
        digest.update(weight.numpy().tobytes())
        return digest.hexdigest()[:16]

    def normalise(self, z: Tensor) -> Tensor:
        """Latents (B, z, T, H, W) to zero mean and unit variance per channel."""
        return (z - self._statistic(self.config.latent_mean, z)) / self._statistic(self.config.latent_std, z)

    def denormalise(self, z: Tensor) -> Tensor:
        return z * self._statistic(self.config.latent_std, z) + self._statistic(self.config.latent_mean, z)

    def _near(self, x: Tensor) -> Tensor:
        """On the device and in the precision of the weights."""
        return x.to(self.quant.weight)

    @staticmethod
    def _statistic(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(T, H, W) of the latents of a clip. Raises ValueError that names the nearest size that fits."""
        k, s = self.config.time_factor, self.config.space_factor
        if num_frames < 1 or (num_frames - 1) % k:
            below = max(0, num_frames - 1) // k * k + 1
            raise ValueError(f"{num_frames} frames: the VAE takes {k}n + 1; use {below} or {below + k}")
        for name, side in (("height", height), ("width", width)):
            if side < s or side % s:
                raise ValueError(f"{name} {side}: the VAE takes multiples of {s}; use {nearest(side, s, s)}")
        return (num_frames - 1) // k + 1, height // s, width // s

    @torch.no_grad()
    def encode(
        self,
        video: Tensor,
        *,
        chunk: int = 4,
        tile: int | None = None,
        on_frames: OnFrames | None = None,
    ) -> Tensor:
        """Clip (B, 3, T, H, W) in -1..1 to normalised latents (B, z, T', H', W').

        The clip stays on its device; pieces of it go to where the weights are. chunk: latent frames encoded at a time.
        tile: side, in pixels, of the square tiles a larger frame is cut into, for all but the innermost layers, which
        see whole frames. on_frames(done, total): called after each piece, of every tile anew.
        """
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"video of shape {tuple(video.shape)}: the VAE encodes (B, 3, T, H, W)")
        shape = self.latent_shape(*video.shape[2:])
        if tile is not None and max(video.shape[3:]) > tile:
            return self._encode_tiles(video, shape, tile, chunk, on_frames)
        out = video.new_empty(video.shape[0], self.config.z_dim, *shape)
        stream: Stream = {}
        for begin, end in _pieces(shape[0], chunk):
            frames = self._frames(begin, end)
            out[:, :, begin:end] = self.moments(self._near(video[:, :, frames]), stream)[0]
            if on_frames is not None:
                on_frames(frames.stop, video.shape[2])
        return self.normalise(out)

    def _frames(self, begin: int, end: int) -> slice:
        """Frames of a clip that latents begin..end cover."""
        k = self.config.time_factor
        return slice(max(0, begin * k - k + 1), end * k - k + 1)

    def _encode_tiles(
        self, video: Tensor, shape: tuple[int, int, int], tile: int, chunk: int, on_frames: OnFrames | None
    ) -> Tensor:
        width, factor = self.config.widths[-1], self.config.space_factor

        def down(part: Tensor) -> Tensor:
            out = part.new_empty(part.shape[0], width, shape[0], *(side // factor for side in part.shape[3:]))
            stream: Stream = {}
            for begin, end in _pieces(shape[0], chunk):
                frames = self._frames(begin, end)
                out[:, :, begin:end] = self.encoder.down(self._fold(self._near(part[:, :, frames])), stream)
                if on_frames is not None:
                    on_frames(frames.stop, video.shape[2])
            return out

        small = blend_tiles(down, video, (width, *shape), tile, 1 / factor, factor)
        out = video.new_empty(video.shape[0], self.config.z_dim, *shape)
        stream: Stream = {}
        for begin, end in _pieces(shape[0], chunk):
            moments = self.quant(self.encoder.finish(self._near(small[:, :, begin:end]), stream))
            out[:, :, begin:end] = moments[:, : self.config.z_dim]
        return self.normalise(out)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        *,
        chunk: int = 2,
        tile: int | None = None,
        on_frames: OnFrames | None = None,
        out: Tensor | None = None,
        stream: Stream | None = None,
    ) -> Tensor:
        """Normalised latents (B, z, T', H', W') to a clip (B, 3, T, H, W) clamped to -1..1.

        The clip lies in `out`, or else on the latents' device; pieces of it go to where the weights are. chunk: latent
        frames decoded at a time. tile: side, in pixels, of the tiles a larger frame is cut into, for all but the
        innermost layers, which see whole frames. on_frames(done, total): called after each piece, of every tile anew.
        stream: an empty one for the beginning of a clip that comes in parts, and the same for each part that follows,
        which has T'*k frames; not with tiles.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.z_dim:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)}: this VAE decodes (B, {self.config.z_dim}, T, H, W)"
            )
        k, s = self.config.time_factor, self.config.space_factor
        batch, _, length, height, width = latents.shape
        if tile is not None and stream is not None:
            raise ValueError("tile and stream: a stream remembers whole frames; decode in tiles without one")
        stream = {} if stream is None else stream
        missing = 0 if stream else k - 1  # frames that the first latent of a clip lacks
        shape = (3, length * k - missing, height * s, width * s)
        out = latents.new_empty(batch, *shape) if out is None else out
        z = self.denormalise(latents)
        if tile is not None and max(shape[2:]) > tile:
            return self._decode_tiles(z, out, tile, chunk, on_frames)
        for begin, end in _pieces(length, chunk):
            frames = slice(max(0, begin * k - missing), end * k - missing)
            out[:, :, frames] = self.reconstruct(self._near(z[:, :, begin:end]), stream)
            if on_frames is not None:
                on_frames(frames.stop, shape[1])
        return out.clamp_(-1, 1)

    def _decode_tiles(self, z: Tensor, out: Tensor, tile: int, chunk: int, on_frames: OnFrames | None) -> Tensor:
        length, factor = z.shape[2], self.config.space_factor
        small = z.new_empty(z.shape[0], self.config.decoder_widths[-1], *z.shape[2:])
        stream: Stream = {}
        for begin, end in _pieces(length, chunk):
            small[:, :, begin:end] = self.decoder.begin(self.post_quant(self._near(z[:, :, begin:end])), stream)

        def up(part: Tensor) -> Tensor:
            pixels = part.new_empty(part.shape[0], 3, out.shape[2], *(side * factor for side in part.shape[3:]))
            stream: Stream = {}
            for begin, end in _pieces(length, chunk):
                frames = self._frames(begin, end)
                x = self.decoder.up(self._near(part[:, :, begin:end]), stream, first=begin == 0)
                pixels[:, :, frames] = self._unfold(x)
                if on_frames is not None:
                    on_frames(frames.stop, out.shape[2])
            return pixels

        return out.copy_(blend_tiles(up, small, tuple(out.shape[1:]), max(tile // factor, 1), factor, 1)).clamp_(-1, 1)


def _pieces(length: int, chunk: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + chunk, length)) for begin in range(0, length, chunk)]
