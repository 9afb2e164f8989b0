"""The frame-wise gated delta rule by its kernels against its plain twin, forward and with its gradients.

Run: ``python benchmarks/gated_delta.py [--latent_frames 21,41,121] [--runs 5]`` on a CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from sana_wm.ops.dispatch import plain_only
from sana_wm.ops.gated_delta_fused import gated_delta

HEADS, WIDTH, TOKENS = 20, 112, 880
WARM_UPS = 2
POSITIONAL = ("q_rotated", "k_rotated", "v", "beta", "decay")


def inputs(frames: int, main: bool, grad: bool) -> dict[str, Tensor]:
    """As a block has them: heads of tokens (B,T,S,h,D) seen as (B,h,T,S,D); the main branch has a denominator."""
    generator = torch.Generator("cuda").manual_seed(0)

    def tokens(scale: float = 1.0) -> Tensor:
        size = (1, frames, TOKENS, HEADS, WIDTH)
        x = scale * torch.randn(size, generator=generator, device="cuda").relu()
        return x.bfloat16().permute(0, 3, 1, 2, 4).requires_grad_(grad)

    key = (WIDTH * TOKENS) ** -0.5
    given = {"q_rotated": tokens(), "k_rotated": tokens(key), "v": tokens()}
    if main:
        given |= {"q": tokens(), "k": tokens(key)}
    beta = torch.rand(1, HEADS, frames, TOKENS, generator=generator, device="cuda").requires_grad_(grad)
    decay = (0.9 + 0.1 * torch.rand(1, HEADS, frames, generator=generator, device="cuda")).requires_grad_(grad)
    return given | {"beta": beta, "decay": decay}


def milliseconds(work: Callable[[], object], runs: int) -> tuple[float, float, float]:
    """Median, least and most."""
    times = []
    for _ in range(WARM_UPS + runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    times = sorted(times[WARM_UPS:])
    return statistics.median(times), times[0], times[-1]


def apart(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative RMS of a pair."""
    return max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in zip(found, expected, strict=True))


def compare(frames: int, main: bool, grad: bool, runs: int) -> str:
    """A line of the table."""
    given = inputs(frames, main, grad)

    def work() -> list[Tensor]:
        return run(given, grad)

    fast = milliseconds(work, runs)
    found = work()
    # As in a block without kernels, where norms and rotations give float32.
    given = {name: x.detach().float().requires_grad_(grad) for name, x in given.items()}
    with plain_only():
        plain = milliseconds(work, runs)
        error = apart(found, work())
    name = f"| {frames} | {'main' if main else 'camera'} | {'forward and backward' if grad else 'forward'} |"
    cells = (f" {median:.2f} ms ({least:.2f} to {most:.2f}) |" for median, least, most in (fast, plain))
    return name + "".join(cells) + f" {plain[0] / fast[0]:.1f} | {error:.1e} |"


def run(given: dict[str, Tensor], grad: bool) -> list[Tensor]:
    """What is read, or all gradients."""
    with torch.set_grad_enabled(grad):
        out = gated_delta(*(given[name] for name in POSITIONAL), q=given.get("q"), k=given.get("k"))[0]
        return list(torch.autograd.grad(out.float().square().mean(), list(given.values()))) if grad else [out]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent_frames", default="21,41,121")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16, {HEADS} heads of {WIDTH}\n")
    print("| latent frames | branch | pass | kernels | plain twin | ratio | apart by |\n" + "|---" * 7 + "|")
    for frames in map(int, options.latent_frames.split(",")):
        for branch in (True, False):
            for grad in (False, True):
                print(compare(frames, branch, grad, options.runs), flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
