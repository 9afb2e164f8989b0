"""Does the hybrid beat all GDN, and does all softmax cost more?"""

from __future__ import annotations

import statistics
from typing import Any

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, clip_means, runs_of, spread, table
from sana_wm.claims.variants import SCHEDULES

NAMES = {"hybrid": "hybrid", "gdn": "all GDN", "softmax": "all softmax"}


def judge_schedule(results: Results) -> Claim | None:
    """It holds if every hybrid run has a lower loss than every all-GDN run, and the longest pass of all softmax is
    slower."""
    runs = {name: runs_of(results, name) for name in SCHEDULES}
    if not all(runs.values()) or "forward_cost" not in results:
        return None
    cost = results["forward_cost"]["cost"]
    losses = {name: [run["loss"] for run in found] for name, found in runs.items()}
    rows = [
        [NAMES[name], spread(losses[name]), spread(clip_means(found, "psnr")), _millions(found[0]), str(len(found))]
        for name, found in runs.items()
    ]
    learned = table(["blocks", "training loss", "PSNR to the truth, dB", "parameters", "runs"], rows)
    lengths = [f"{entry['seconds']} s" for entry in cost["hybrid"]]
    paid = table(["blocks", *lengths], [[NAMES[name], *map(_cost, cost[name])] for name in SCHEDULES])
    factor = cost["softmax"][-1]["ms"] / cost["hybrid"][-1]["ms"]
    worse = statistics.mean(losses["hybrid"]) >= statistics.mean(losses["gdn"])
    apart = max(losses["hybrid"]) < min(losses["gdn"])
    return Claim(
        "The hybrid beats all GDN, and all softmax costs more",
        "VBench total 0.8390 to 0.8530; all softmax runs out of memory at 60 s",
        f"loss {spread(losses['hybrid'])} against {spread(losses['gdn'])} (all GDN) and {spread(losses['softmax'])} "
        f"(all softmax); a pass over {lengths[-1]} of all softmax takes {factor:.2f} times as long",
        FAILS if worse or factor <= 1 else HOLDS if apart else OPEN,
        f"{learned}\n\nOne forward pass against the length of the clip:\n\n{paid}",
    )


def _millions(run: dict[str, Any]) -> str:
    return f"{run['parameters'] / 1e6:.1f} M"


def _cost(entry: dict[str, Any]) -> str:
    memory = "" if entry["peak_gb"] is None else f", {entry['peak_gb']:.2f} GB"
    return f"{entry['ms']:.1f} ms{memory}"
