"""What a forward pass has to do at least, counted from its shapes: arithmetic and memory traffic, part by part.

Arithmetic is that of products, attention and filters (1 multiply-add = 2 FLOPs; spec 10, section 14.1), as the code
does it: Plücker maps go through one small product, caption tokens that are masked are dropped (section 14.2). What is
done to every number by itself, norms and rotations among it, costs its traffic and counts no FLOPs.

Traffic is what an operation reads and writes if every operand passes once: tokens and weights, nothing that stays
inside a kernel, no tables. Operations are cut as the kernels are; one kernel for two of them would lower the floor.

Shapes: B batch, T latent frames, S tokens a frame, N = B*T*S tokens, C width, h heads, D head width, L caption tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sana_wm.models.config import TransformerConfig
from sana_wm.models.embeddings import TimestepEmbedder

PARTS = (
    "attention", "gated delta rule", "features", "feed-forward middle", "norms, gates, residuals", "products", "other"
)  # fmt: skip


@dataclass(frozen=True)
class Peaks:
    """What a card can do at best: FLOPs and bytes a second."""

    flops: float
    bytes: float


H100 = Peaks(989e12, 3.35e12)
"""Data sheet of the H100 SXM, bfloat16 without sparsity. Measured on one: 800e12 in its best product, 520e12 in its
best attention of head width 112, 2.99e12 in a copy on the device."""


@dataclass(frozen=True)
class Work:
    """`count` equal operations of one part; `flops` and `bytes` of each."""

    part: str
    what: str
    flops: float
    bytes: float
    count: int = 1

    def seconds(self, peaks: Peaks) -> float:
        """Of all together; arithmetic and traffic of one operation overlap, those of two do not."""
        return self.count * max(self.flops / peaks.flops, self.bytes / peaks.bytes)


def forward_work(
    config: TransformerConfig, size: tuple[int, int, int], *, batch: int = 1, caption_tokens: int, itemsize: int = 2
) -> list[Work]:
    """All operations of `denoise` with both camera inputs and a timestep for every frame.

    Args:
        size: (T, H, W) of the latents.
        caption_tokens: that count.
        itemsize: bytes of a number.
    """
    sizes = _Sizes(config, size, batch, caption_tokens, itemsize)
    softmax = sum(config.is_softmax(i) for i in range(config.depth))
    every, delta = _every_block(sizes), _delta_block(sizes)
    return [
        *_ends(sizes),
        *_times(every, config.depth),
        *_times(delta, config.depth - softmax),
        *_times(_softmax_block(sizes), softmax),
    ]


def totals(work: Iterable[Work], peaks: Peaks = H100) -> dict[str, dict[str, float]]:
    """By part: TFLOP, GB, and the seconds that a card of these peaks needs at least; "all" is the sum."""
    found = {part: {"tflop": 0.0, "gb": 0.0, "floor_seconds": 0.0} for part in (*PARTS, "all")}
    for one in work:
        for part in (one.part, "all"):
            found[part]["tflop"] += one.count * one.flops / 1e12
            found[part]["gb"] += one.count * one.bytes / 1e9
            found[part]["floor_seconds"] += one.seconds(peaks)
    return found


def compared(work: Iterable[Work], measured: Mapping[str, float], peaks: Peaks) -> dict[str, Any]:
    """The totals beside the measured device seconds of the parts, and how many times the floor those are."""
    parts: dict[str, dict[str, float | None]] = {}
    for part, floor in totals(work, peaks).items():
        seconds = sum(measured.values()) if part == "all" else measured.get(part, 0.0)
        least = floor["floor_seconds"]
        parts[part] = {**floor, "seconds": seconds, "times_floor": seconds / least if least else None}
    return {"peak_tflops": peaks.flops / 1e12, "peak_tbs": peaks.bytes / 1e12, "parts": parts}


MATRIX_FLOPS = 4
"""What turning a head by a camera costs a number: 8 in its first half, by a row of four, and none in its second."""


class _Sizes:
    """The numbers that everything is counted from, and the two kinds of operation there are most of."""

    def __init__(
        self, config: TransformerConfig, size: tuple[int, int, int], batch: int, caption_tokens: int, itemsize: int
    ) -> None:
        self.config, self.batch, self.caption_tokens, self.itemsize = config, batch, caption_tokens, itemsize
        self.frames, self.frame_tokens = size[0], size[1] * size[2]
        self.tokens = batch * self.frames * self.frame_tokens
        self.width, self.heads, self.head_dim = config.width, config.num_heads, config.head_dim

    def product(self, what: str, rows: int, inner: int, outer: int) -> Work:
        """(rows, inner) by a weight (outer, inner)."""
        numbers = rows * inner + inner * outer + rows * outer
        return Work("products", what, 2.0 * rows * inner * outer, float(self.itemsize * numbers))

    def passes(self, part: str, what: str, tensors: int, flops_a_number: int = 0) -> Work:
        """`tensors` tensors (N, C) read or written."""
        numbers = self.tokens * self.width
        return Work(part, what, float(flops_a_number * numbers), float(self.itemsize * tensors * numbers))


def _times(work: Iterable[Work], count: int) -> Iterator[Work]:
    for one in work:
        yield Work(one.part, one.what, one.flops, one.bytes, one.count * count)


def _ends(s: _Sizes) -> list[Work]:
    """What comes before the blocks and after them."""
    c, rows = s.config, s.batch * s.frames
    return [
        s.product("x_embedder", s.tokens, c.in_channels, s.width),
        s.product("t_embedder", rows, TimestepEmbedder.FEATURES, s.width),
        s.product("t_embedder", rows, s.width, s.width),
        s.product("t_block", rows, s.width, 6 * s.width),
        s.passes("norms, gates, residuals", "final modulation", 2),
        s.product("final_layer", s.tokens, s.width, c.in_channels),
    ]


def _every_block(s: _Sizes) -> list[Work]:
    n, w, e, hidden = s.tokens, s.width, s.itemsize, s.config.mlp_hidden
    norms = "norms, gates, residuals"
    # The taps of the frames before the first and after the last one are left out; all three share what they read.
    taps = s.batch * (3 * s.frames - 2) * s.frame_tokens
    temporal = Work("products", "t_conv", 2.0 * taps * w * w, float(e * (2 * n * w + 3 * w * w)))
    maps = s.config.plucker_channels
    fold = Work("products", "plucker fold", 2.0 * w * w * (maps + 1), float(e * w * (w + 2 * (maps + 1))))
    caption = s.batch * s.caption_tokens
    cross = 2 * n * w + 2 * caption * w
    return [
        s.product("qkv", n, w, 3 * w),
        *_times([s.product("camera q, k, v, out; output_gate; proj; cross q, proj", n, w, w)], 8),
        fold,
        s.product("plucker", n, maps, w),
        s.product("cross k, v", caption, w, 2 * w),
        s.product("inverted_conv", n, w, 2 * hidden),
        s.product("point_conv", n, hidden, w),
        temporal,
        Work("attention", "cross-attention", 4.0 * n * s.caption_tokens * w, float(e * cross)),
        s.passes("features", "cross q norm", 2),
        s.passes("features", "camera output", 2, flops_a_number=MATRIX_FLOPS),
        Work("feed-forward middle", "SiLU, filter, gate", 18.0 * n * 2 * hidden, float(e * 3 * n * hidden)),
        s.passes(norms, "modulation", 2),
        s.passes(norms, "residual of self-attention and maps", 4),
        s.passes(norms, "residual of cross-attention, modulation", 4),
        s.passes(norms, "residual of feed-forward", 3),
        s.passes(norms, "output gate", 4),
    ]


def _softmax_block(s: _Sizes) -> list[Work]:
    core = 4.0 * s.tokens * s.frames * s.frame_tokens * s.width
    tensors = s.passes("attention", "", 4).bytes
    return [
        *_times([Work("attention", "main or camera", core, tensors)], 2),
        s.passes("features", "main q, k", 4),
        s.passes("features", "camera q, k, v", 6, flops_a_number=3 * MATRIX_FLOPS),
    ]


def _delta_block(s: _Sizes) -> list[Work]:
    n, w, h, d = s.tokens, s.width, s.heads, s.head_dim
    part, streams = "gated delta rule", s.batch * h * s.frames
    token = 2.0 * n * w * d  # one product of all tokens with a square of a head's width
    beta = 4 * n * h
    scan = 2 * 2.0 * streams * d * d  # both directions, for one column of the state
    main = Work(
        part, "main", 4 * token + 2 * 2.0 * n * w + scan * (d + 1), s.passes(part, "", 6).bytes + beta
    )  # writes of the state and of the denominator, reads of both
    camera = Work(part, "camera", 3 * token + scan * d, s.passes(part, "", 4).bytes + beta)
    # A frame reaches as many frames as there are taps on either side, unless the clip ends before.
    reach = min(s.config.conv_kernel, s.frames) - 1
    filtered = 2 * (2 * reach + 1)
    return [
        s.product("beta_proj", n, w, h),
        s.product("gate_proj", s.batch * s.frames, w, h),
        main,
        camera,
        s.passes("features", "main q, two results", 3),
        s.passes("features", "main k, two results", 3, flops_a_number=filtered),
        s.passes("features", "camera q, v", 4, flops_a_number=2 * MATRIX_FLOPS),
        s.passes("features", "camera k", 2, flops_a_number=MATRIX_FLOPS + filtered),
        s.passes("other", "mean of a frame", 1),
    ]
