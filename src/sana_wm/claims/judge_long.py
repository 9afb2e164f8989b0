"""Does training on minutes hold a minute, and is the state constant in length?"""

from __future__ import annotations

import math
import statistics
from typing import Any

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, mean_and_error, table
from sana_wm.claims.variants import MINUTES

NOTE = """\
Revisits: PSNR between two frames
that the camera sees from one place; {} dB in the true render, and most in a video that no longer moves.

The factor is a mean of logarithms over scenes: half and twice the true sharpness are both off by 2."""
NAMES = {"short": "5 s", "long": "5 s to a minute"}


def judge_minute(results: Results) -> Claim | None:
    """It holds if the last ten seconds are nearer to the truth, in PSNR and in sharpness.

    Less than the truth's sharpness is blur and more is noise, so what counts is how far it is off, as a factor.
    """
    if any(f"{name}_1" not in results for name in MINUTES):
        return None
    rows, last, off = [], {}, {}
    for name in MINUTES:
        clips = results[f"{name}_1"]["long"]
        psnr, sharp = _curve(clips, "psnr"), _curve(clips, "sharpness")
        factors = _curve([{"off": [_factor(value) for value in clip["sharpness"]]} for clip in clips], "off")
        last[name], off[name] = psnr[-1], factors[-1]
        rows.append(
            [NAMES[name], "PSNR to the truth, dB", *(f"{value:.1f}" for value in psnr), _back(clips, "revisit_psnr")]
        )
        rows.append([NAMES[name], "sharpness over the truth's", *(f"{value:.2f}" for value in sharp), ""])
        rows.append([NAMES[name], "sharpness off by a factor of", *(f"{2**value:.2f}" for value in factors), ""])
    truth = _back(results["short_1"]["long"], "revisit_psnr_of_truth")
    head = ["trained on", "in each 10 s", *(str(window + 1) for window in range(len(psnr))), "revisits, dB"]
    gained = [b["psnr"][-1] - a["psnr"][-1] for a, b in zip(*(results[f"{n}_1"]["long"] for n in MINUTES), strict=True)]
    mean, error = mean_and_error(gained)
    better = (last["long"] > last["short"], off["long"] < off["short"])
    return Claim(
        "Training on minutes holds a minute",
        "Delta IQ 3.79 (simple paths) after training on 60 s",
        f"last 10 s: PSNR {last['long']:.1f} against {last['short']:.1f} dB ({mean:+.1f} ± {error:.1f} clip by clip), "
        f"sharpness off by a factor of {2 ** off['long']:.2f} against {2 ** off['short']:.2f}",
        HOLDS if all(better) else OPEN if any(better) else FAILS,
        f"{table(head, rows)}\n\n{len(clips)} held-out scenes along random held keys. {NOTE.format(truth)}",
    )


def judge_state(results: Results) -> Claim | None:
    """It holds if what a GDN block carries does not grow, nor its time by half, while softmax's memory does."""
    if "chunk_cost" not in results:
        return None
    cost = results["chunk_cost"]["cost"]
    rows = [
        [name, *(f"{entry[key]['ms']:.2f} ms, {entry[key]['mb']:.2f} MB" for entry in cost)]
        for name, key in (("GDN block", "gdn"), ("softmax block", "softmax"))
    ]
    first, last = cost[0], cost[-1]
    times = {kind: last[kind]["ms"] / first[kind]["ms"] for kind in ("gdn", "softmax")}
    constant = last["gdn"]["mb"] == first["gdn"]["mb"] and times["gdn"] < 1.5
    return Claim(
        "The state is constant in length",
        "constant memory and time of a chunk",
        f"after {last['before']} chunks {last['gdn']['mb']:.2f} MB and {times['gdn']:.2f} times the first chunk's "
        f"time; softmax {last['softmax']['mb']:.1f} MB and {times['softmax']:.1f} times",
        HOLDS if constant and last["softmax"]["mb"] > first["softmax"]["mb"] else FAILS,
        table(["one more chunk", *(f"after {entry['before']}" for entry in cost)], rows)
        + "\n\nOne block's operation over a chunk of three latent frames, given what it carries: a state, or all keys\n"
        "and values.",
    )


def _factor(ratio: float) -> float:
    """How far a ratio is from 1, in powers of two."""
    return abs(math.log2(max(ratio, 1e-6)))


def _curve(clips: list[dict[str, Any]], key: str) -> list[float]:
    return [statistics.mean(values) for values in zip(*(clip[key] for clip in clips), strict=True)]


def _back(clips: list[dict[str, Any]], key: str) -> str:
    found = [clip[key] for clip in clips if clip[key] is not None]
    return f"{statistics.mean(found):.1f}" if found else ""
