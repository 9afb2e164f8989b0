"""Runs the real VBench; a script of its own because VBench needs an older Python environment than ours.

Started by :mod:`sana_wm.evaluation.vbench_adapter` with one argument, a JSON file. Imports nothing of this package.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def run(job: dict[str, Any]) -> None:
    """Evaluate a folder, one dimension a call as the release does; VBench writes `<dimension>_eval_results.json`."""
    if job["weights"] is not None:
        utils: Any = import_module("vbench.utils")
        utils.CACHE_DIR = job["weights"]  # before VBench loads its dimensions, which copy the name
    vbench: Any = import_module("vbench")
    info = Path(vbench.__file__).parent / "VBench_full_info.json"
    evaluator = vbench.VBench(import_module("torch").device(job["device"]), str(info), job["out"])
    for dimension in job["dimensions"]:
        evaluator.evaluate(
            videos_path=job["videos"],
            name=dimension,
            prompt_list=job["prompts"],
            dimension_list=[dimension],
            local=job["weights"] is not None,
            mode="custom_input",
        )


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
