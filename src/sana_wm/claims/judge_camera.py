"""No control > Plücker > UCPE > UCPE + Plücker in camera error?"""

from __future__ import annotations

import statistics
from itertools import pairwise

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, clip_means, runs_of, spread, table
from sana_wm.claims.follow import ENGINE
from sana_wm.claims.variants import BASE, CAMERAS

NAMES = {"none": "no camera", "plucker": "Plücker", "ucpe": "UCPE", "both": "UCPE + Plücker"}
COLUMNS = {
    "rot_err": "RotErr, degrees",
    "trans_err": "TransErr, m",
    "cam_mc": "CamMC",
    "registered": "frames with a pose",
    "psnr": "PSNR, dB",
}


def judge_camera(results: Results) -> Claim | None:
    """It holds if the mean CamMC falls from each to the next; undecided if only having none is the worst."""
    runs = {name: runs_of(results, name if overrides else BASE) for name, overrides in CAMERAS.items()}
    if not all(runs.values()):
        return None
    rows, errors = [], []
    for name, found in runs.items():
        means = {key: clip_means(found, key) for key in COLUMNS}
        clips = [clip for run in found for clip in run["follow"]]
        failed = sum(clip["rot_err"] is None for clip in clips)
        cells = [spread(values) if values else "" for values in means.values()]
        rows.append([NAMES[name], *cells, f"{failed} of {len(clips)}"])
        errors.append(statistics.mean(means["cam_mc"]) if means["cam_mc"] else float("inf"))
    falling = all(before > after for before, after in pairwise(errors))
    return Claim(
        "No control > Plücker > UCPE > UCPE + Plücker",
        "CamMC 0.494 > 0.474 > 0.245 > 0.205",
        "CamMC " + ", ".join(f"{error:.3g}" for error in errors),
        HOLDS if falling else OPEN if errors[0] > max(errors[1:]) else FAILS,
        table(["camera", *COLUMNS.values(), "failed clips"], rows)
        + f"\n\nPoses recovered by `{ENGINE}` from every fourth frame. A clip with poses for fewer than half of them\n"
        "has failed: it has no errors and is counted in the last column.",
    )
