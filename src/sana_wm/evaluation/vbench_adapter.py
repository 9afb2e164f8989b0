"""The real `vbench`, in whatever Python environment it is installed (spec 61-benchmark.md section 4.2)."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sana_wm.errors import InputError, first_line
from sana_wm.evaluation.vbench import DIMENSIONS

VIDEO_SUFFIX = "_generated.mp4"
_CHILD = Path(__file__).with_name("vbench_child.py")


def run_vbench(
    videos: Path,
    prompts: Mapping[str, str],
    out: Path,
    *,
    dimensions: Sequence[str] = DIMENSIONS,
    python: Path | None = None,
    weights: Path | None = None,
    device: str = "cuda",
) -> dict[str, float]:
    """Raw VBench numbers, shares of 1, of a folder of videos.

    videos: folder that holds nothing but the videos. prompts: file name -> prompt, one for every video. out: folder for
    VBench's own files. python: the interpreter of the environment with `vbench`, `decord` and `pyiqa` 0.1.10 (None:
    this one); its torch must be older than 2.6, which can read VBench's checkpoints. weights: VBench's cache folder;
    None leaves it at VBench's own, where it downloads what it lacks.
    Raises :class:`InputError` for other files in the folder, missing prompts, a run that fails, or a missing number.
    """
    unknown = sorted(set(dimensions) - set(DIMENSIONS))
    if unknown:
        raise InputError(f"VBench dimension {unknown[0]!r} is not run here; those are {', '.join(DIMENSIONS)}.")
    if weights is not None and not weights.is_dir():
        raise InputError(f"the VBench weights '{weights}' are no folder; give the folder that holds VBench's models.")
    _check_folder(videos, prompts)
    out.mkdir(parents=True, exist_ok=True)
    for dimension in dimensions:  # an old number must not stand in for one that fails
        result_file(out, dimension).unlink(missing_ok=True)
    job = {
        "videos": str(videos.resolve()),
        "prompts": dict(prompts),
        "out": str(out.resolve()),
        "dimensions": list(dimensions),
        "weights": None if weights is None else str(weights.resolve()),
        "device": device,
    }
    job_file = out.resolve() / "vbench_job.json"
    job_file.write_text(json.dumps(job, indent=2), encoding="utf-8")
    # absolute, not resolved: the link is what makes an interpreter that of its environment
    interpreter = str(python.absolute()) if python is not None else sys.executable
    # isolated (-I): otherwise the folder of the script, with our own vbench.py, comes first where modules are sought
    command = [interpreter, "-I", str(_CHILD), str(job_file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    except OSError as error:
        raise InputError(f"the Python '{interpreter}' for VBench does not start ({first_line(error)}).") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise InputError(
            f"VBench failed in '{interpreter}' ({said[-1] if said else f'exit status {done.returncode}'}); it needs "
            "vbench, decord and pyiqa 0.1.10 in an environment of their own, and its weights."
        )
    return read_results(out, dimensions)


def result_file(out: Path, dimension: str) -> Path:
    """Where VBench writes the numbers of one dimension."""
    return out / f"{dimension}_eval_results.json"


def read_results(out: Path, dimensions: Sequence[str] = DIMENSIONS) -> dict[str, float]:
    """Raw numbers from the files VBench wrote, one a dimension; :class:`InputError` names one missing or unreadable."""
    return {dimension: _number(result_file(out, dimension), dimension) for dimension in dimensions}


def _number(path: Path, dimension: str) -> float:
    if not path.is_file():
        raise InputError(f"the VBench results '{path}' do not exist; every dimension must have been run.")
    try:
        entry: Any = json.loads(path.read_text(encoding="utf-8")).get(dimension)
    except (json.JSONDecodeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"the VBench results '{path}' cannot be read as JSON ({first_line(error)}).") from error
    value = entry[0] if isinstance(entry, list) and entry else entry  # [mean, [video, ...]]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{dimension} in '{path}' is {value!r}; it must be a finite number.")
    return float(value)


def _check_folder(videos: Path, prompts: Mapping[str, str]) -> None:
    if not videos.is_dir():
        raise InputError(f"the videos '{videos}' are no folder; give the folder of the generated videos.")
    names = sorted(path.name for path in videos.iterdir())
    # VBench takes any picture or video it finds for a video to score
    others = [name for name in names if not name.endswith(VIDEO_SUFFIX)]
    if others or not names:
        found = f"holds '{others[0]}'" if others else "is empty"
        raise InputError(f"the folder '{videos}' {found}; it must hold *{VIDEO_SUFFIX} files and nothing else.")
    without = [name for name in names if name not in prompts]
    if without:
        raise InputError(f"the video '{without[0]}' has no prompt; prompts must name every video of '{videos}'.")
