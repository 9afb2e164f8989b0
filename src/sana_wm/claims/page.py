"""docs/claims.md from the results: claim, what the paper found, what was found here, verdict."""

from __future__ import annotations

import json
from pathlib import Path

from sana_wm.claims.claim import Results
from sana_wm.claims.judge_camera import judge_camera
from sana_wm.claims.judge_key_scale import judge_key_scale
from sana_wm.claims.judge_long import judge_minute, judge_state
from sana_wm.claims.judge_schedule import judge_schedule
from sana_wm.errors import InputError

JUDGES = (judge_key_scale, judge_schedule, judge_camera, judge_minute, judge_state)

INTRODUCTION = """\
# Do the claims hold at nano scale?

Small world models that differ in one thing each, trained alike on procedural clips (codec of nano, recipe
[`claims.yaml`](../src/sana_wm/training/recipes/claims.yaml)) and measured on held-out scenes. They are far smaller
and were trained far shorter than the paper's models: what does not show here may still hold there.

`sana-wm evaluate claims --page docs/claims.md` trains, measures and writes this page. Numbers with ± are means and
standard deviations over runs with different seeds.
"""


def read_results(directory: Path) -> Results:
    """What `sana-wm evaluate claims` has left in `directory`.

    Raises:
        InputError: there is nothing.
    """
    files = sorted((directory / "results").glob("*.json"))
    if not files:
        raise InputError(f"{directory} holds no results; run `sana-wm evaluate claims` with this --output_dir first.")
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def write_page(path: Path, results: Results) -> None:
    """Write Markdown to `path`; a claim whose results are not all there is left out."""
    claims = [claim for judge in JUDGES if (claim := judge(results)) is not None]
    machines = {f"{r['environment']['device_name']}, PyTorch {r['environment']['torch']}" for r in results.values()}
    lines = [INTRODUCTION, f"Measured on: {'; '.join(sorted(machines))}.", ""]
    lines += ["| claim | paper | here | verdict |", "|---|---|---|---|"]
    lines += [f"| {claim.text} | {claim.paper} | {claim.ours} | {claim.verdict} |" for claim in claims]
    for claim in claims:
        lines += ["", f"## {claim.text}", "", claim.details]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
