"""Which backend of the library's attention is fastest at the shapes of the softmax blocks.

Run: ``python benchmarks/attention_backends.py [--latent_frames 21,41,121] [--runs 5]`` on a CUDA device.
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
HEADS, TOKENS = 20, 880


def milliseconds(backend: SDPBackend, frames: int, width: int, runs: int) -> float | None:
    """Median of one attention over all tokens, laid out as a block has them; None where the backend cannot."""
    q, k, v = torch.randn(3, 1, frames * TOKENS, HEADS, width, device="cuda", dtype=torch.bfloat16).transpose(2, 3)
    times = []
    for _ in range(runs + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        try:
            with sdpa_kernel(backend):
                F.scaled_dot_product_attention(q, k, v)
        except RuntimeError:
            return None
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[1:])


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent_frames", default="21,41,121")
    parser.add_argument("--widths", default="112,128")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, {HEADS} heads\n")
    print("| latent frames | head width | " + " | ".join(f"{name}, ms (TFLOP/s)" for name in BACKENDS) + " |")
    print("|---" * (2 + len(BACKENDS)) + "|")
    for frames in map(int, options.latent_frames.split(",")):
        for width in map(int, options.widths.split(",")):
            cells = []
            for backend in BACKENDS.values():
                ms = milliseconds(backend, frames, width, options.runs)
                flops = 4 * (frames * TOKENS) ** 2 * HEADS * width
                cells.append("not supported" if ms is None else f"{ms:.2f} ({flops / ms / 1e9:.0f})")
            print(f"| {frames} | {width} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
