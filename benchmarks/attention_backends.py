"""Which attention is fastest at the shapes of the softmax blocks: the library's backends, and flash-attn-4 if there.

Run: ``python benchmarks/attention_backends.py [--latent_frames 21,41,121] [--runs 5]`` on a CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sana_wm.ops.attention import flash_attention_4

HEADS, TOKENS = 20, 880
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def library(backend: SDPBackend) -> Attention:
    """One of PyTorch's own, of tensors (B, N, h, D)."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    return attend


def candidates() -> dict[str, Attention]:
    """By name; flash-attn-4 where that package is installed."""
    found = {"cudnn": library(SDPBackend.CUDNN_ATTENTION), "flash": library(SDPBackend.FLASH_ATTENTION)}
    try:
        from flash_attn.cute import flash_attn_func  # type: ignore[import-not-found]
    except ImportError:
        return found

    def tiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_attention_4(q, k, v, q.shape[-1] ** -0.5)

    return {**found, "flash-attn-4, its own tiles": lambda q, k, v: flash_attn_func(q, k, v)[0], "flash-attn-4": tiled}


def measure(attend: Attention, frames: int, width: int, runs: int) -> tuple[float, float] | None:
    """Median milliseconds of one attention over all tokens, laid out as a block has them, and how far its first 1024
    rows are from those in float32 (relative RMS); None where it cannot."""
    generator = torch.Generator("cuda").manual_seed(0)
    shape = (3, 1, frames * TOKENS, HEADS, width)
    q, k, v = torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16)
    times = []
    for _ in range(runs + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        try:
            out = attend(q, k, v)
        except (RuntimeError, AssertionError):
            return None
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    exact = library(SDPBackend.MATH)(q[:, :1024, :2].float(), k[:, :, :2].float(), v[:, :, :2].float())
    error = (out[:, :1024, :2].float() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    return statistics.median(times[2:]), float(error)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent_frames", default="21,41,121")
    parser.add_argument("--widths", default="112,128")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, {HEADS} heads\n")
    found = candidates()
    print("| latent frames | head width | " + " | ".join(f"{name}, ms (TFLOP/s; off by)" for name in found) + " |")
    print("|---" * (2 + len(found)) + "|")
    for frames in map(int, options.latent_frames.split(",")):
        for width in map(int, options.widths.split(",")):
            cells = []
            for attend in found.values():
                measured = measure(attend, frames, width, options.runs)
                if measured is None:
                    cells.append("not supported")
                    continue
                ms, error = measured
                flops = 4 * (frames * TOKENS) ** 2 * HEADS * width
                cells.append(f"{ms:.2f} ({flops / ms / 1e9:.0f}; {error:.1e})")
            print(f"| {frames} | {width} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
