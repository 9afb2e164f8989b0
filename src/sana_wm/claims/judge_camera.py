"""No control > Plücker > UCPE > UCPE + Plücker in camera error?"""

from __future__ import annotations

import statistics
from itertools import pairwise

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, clip_means, gain, runs_of, spread, table
from sana_wm.claims.follow import ENGINE
from sana_wm.claims.variants import BASE, CAMERAS

NOTE = f"""\
Poses recovered by `{ENGINE}` from every fourth frame. A clip with poses for fewer than half of them has failed: it has
no errors and is counted in the last column, so that the errors of two variants are not of the same clips. PSNR is, of
all of them; its steps from each variant to the next, with standard errors over clips, are in the table at the top."""
NAMES = {"none": "no camera", "plucker": "Plücker", "ucpe": "UCPE", "both": "UCPE + Plücker"}
COLUMNS = {
    "rot_err": "RotErr, degrees",
    "trans_err": "TransErr, m",
    "cam_mc": "CamMC",
    "registered": "frames with a pose",
    "psnr": "PSNR, dB",
}


def judge_camera(results: Results) -> Claim | None:
    """It holds if the mean CamMC falls from each to the next; undecided if only having none is the worst.

    CamMC leaves lost clips out, other ones for every variant. The distance to the truth has all clips, so it stands
    beside it, clip by clip.
    """
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
    steps = [gain(before, after, "psnr") for before, after in pairwise(runs.values())]
    falling = all(before > after for before, after in pairwise(errors))
    return Claim(
        "No control > Plücker > UCPE > UCPE + Plücker",
        "CamMC 0.494 > 0.474 > 0.245 > 0.205",
        "CamMC " + ", ".join(f"{error:.3g}" for error in errors) + ", without the clips that were lost; "
        "PSNR to the truth, all clips: "
        + ", ".join(f"{mean:+.2f} ± {error:.2f}" for mean, error in steps)
        + " dB from each to the next",
        HOLDS if falling else OPEN if errors[0] > max(errors[1:]) else FAILS,
        table(["camera", *COLUMNS.values(), "failed clips"], rows) + "\n\n" + NOTE,
    )
