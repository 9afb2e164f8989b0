"""Does the hybrid beat all GDN, and does all softmax cost more?"""

from __future__ import annotations

import statistics
from typing import Any

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, clip_means, gain, runs_of, spread, table
from sana_wm.claims.variants import SCHEDULES

COSTS = ("forward_cost_cpu", "forward_cost")
NOTE = """\
What a GPU takes for models this small is mostly the time in which their kernels are launched, whatever the length; what
the arithmetic costs is seen on a CPU. `sana-wm bench forward` has the full-size model."""
NAMES = {"hybrid": "hybrid", "gdn": "all GDN", "softmax": "all softmax"}


def judge_schedule(results: Results) -> Claim | None:
    """It holds if every hybrid run has a lower loss than every all-GDN run, and the longest pass of all softmax takes
    longer on a CPU, where nothing but the arithmetic counts."""
    runs = {name: runs_of(results, name) for name in SCHEDULES}
    if not all(runs.values()) or any(name not in results for name in COSTS):
        return None
    cost = results[COSTS[0]]["cost"]
    losses = {name: [run["loss"] for run in found] for name, found in runs.items()}
    rows = [
        [NAMES[name], spread(losses[name]), spread(clip_means(found, "psnr")), _millions(found[0]), str(len(found))]
        for name, found in runs.items()
    ]
    learned = table(["blocks", "training loss", "PSNR to the truth, dB", "parameters", "runs"], rows)
    lengths = [f"{entry['seconds']} s" for entry in cost["hybrid"]]
    paid = [_paid(results[name], lengths) for name in COSTS]
    better, error = gain(runs["gdn"], runs["hybrid"], "psnr")
    factor = cost["softmax"][-1]["ms"] / cost["hybrid"][-1]["ms"]
    worse = statistics.mean(losses["hybrid"]) >= statistics.mean(losses["gdn"])
    apart = max(losses["hybrid"]) < min(losses["gdn"])
    return Claim(
        "The hybrid beats all GDN, and all softmax costs more",
        "VBench total 0.8390 to 0.8530; all softmax runs out of memory at 60 s",
        f"loss {spread(losses['hybrid'])} against {spread(losses['gdn'])} (all GDN) and {spread(losses['softmax'])} "
        f"(all softmax); PSNR to the truth {better:+.2f} ± {error:.2f} dB over all GDN; on a CPU a pass over "
        f"{lengths[-1]} of all softmax takes {factor:.2f} times as long as one of the hybrid",
        FAILS if worse or factor <= 1 else HOLDS if apart else OPEN,
        "\n\n".join([learned, "One forward pass against the length of the clip.", *paid, NOTE]),
    )


def _paid(result: dict[str, Any], lengths: list[str]) -> str:
    rows = [[NAMES[name], *map(_cost, result["cost"][name])] for name in SCHEDULES]
    return table([result["environment"]["device_name"], *lengths], rows)


def _millions(run: dict[str, Any]) -> str:
    return f"{run['parameters'] / 1e6:.1f} M"


def _cost(entry: dict[str, Any]) -> str:
    memory = "" if entry["peak_gb"] is None else f", {entry['peak_gb']:.2f} GB"
    return f"{entry['ms']:.1f} ms{memory}"
