"""Is the key scale (D S)^-1/2 needed?"""

from __future__ import annotations

from sana_wm.claims.claim import FAILS, HOLDS, OPEN, Claim, Results, table
from sana_wm.claims.variants import KEY_SCALES

NAMES = {"frame": "1/sqrt(D S)", "head": "1/sqrt(D)", "none": "none"}
NOTE = (
    "Eigenvalues are those of a frame's write matrix K^T b K, the largest of heads, blocks and branches; growth is\n"
    "the largest factor by which a frame multiplies a state, g (eigenvalue - 1). Above 1, frames let the state grow."
)


def judge_key_scale(results: Results) -> Claim | None:
    """It holds if the run with it stays finite and both others do not."""
    if any(f"key_{scale}" not in results for scale in KEY_SCALES):
        return None
    rows, words, bad = [], [], {}
    for scale in KEY_SCALES:
        run = results[f"key_{scale}"]
        bad[scale] = run["first_bad_step"]
        words.append(f"{NAMES[scale]}: " + ("finite" if bad[scale] is None else f"not finite at step {bad[scale]}"))
        seen = [value for value in run["eigenvalue"] if value is not None]
        growth = [value for value in run["growth"] if value is not None]
        rows.append(
            [
                NAMES[scale],
                f"none in {run['steps']}" if bad[scale] is None else f"{bad[scale]}",
                f"{seen[0]:.3g}" if seen else "infinite",
                f"{max(seen):.3g}" if seen else "infinite",
                f"{max(growth):.3g}" if growth else "infinite",
                f"{run['loss'][-1]:.3g}" if run["loss"] else "",
            ]
        )
    head = [
        "key scale",
        "first step not finite",
        "eigenvalue at the start",
        "largest seen",
        "largest growth",
        "last loss",
    ]
    needed = bad["head"] is not None and bad["none"] is not None
    verdict = FAILS if bad["frame"] is not None else HOLDS if needed else OPEN
    return Claim(
        "1/sqrt(D S) key scaling is needed",
        "1/sqrt(D): NaN at step 16; none: at step 1",
        "; ".join(words),
        verdict,
        f"{table(head, rows)}\n\n{NOTE}",
    )
