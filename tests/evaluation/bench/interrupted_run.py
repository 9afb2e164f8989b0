"""A benchmark run in a process of its own that something happens to: `python -m
tests.evaluation.bench.interrupted_run BENCH MODEL METHOD WORKERS WHAT WHERE COUNT`.

WHAT is `kill` (the process dies) or `interrupt` (Ctrl-C in the terminal: SIGINT for the whole process group). WHERE is
`denoise` (a step of a video), `rename` (the moment before a finished file gets its name) or `ended` (a scene was done).
It happens the COUNT-th time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

METRICS = ("revisit", "temporal", "vbench")


Text = str | Path | int


def main(bench: Text, model: Text, method: Text, workers: Text, what: Text, where: Text, count: Text) -> None:
    import torch

    from sana_wm.cli.main import INTERRUPTED
    from sana_wm.evaluation.bench import folder, jobs
    from sana_wm.evaluation.bench.runner import Workforce, run_benchmark
    from sana_wm.evaluation.bench.settings import GenerationSettings, MeasureSettings

    torch.set_num_threads(1)
    left = int(count)

    def strike(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os.killpg(0, signal.SIGINT)
            time.sleep(0.3)  # a worker that dies of it is gone before the run goes on

    if where == "denoise":
        make = jobs.make_video

        def striking(*given: Any) -> None:
            *rest, progress = given
            make(*rest, lambda stage, done, total: (progress(stage, done, total), strike()))

        setattr(jobs, "make_video", striking)  # noqa: B010
    elif where == "rename":
        replace = os.replace

        def before(source: Any, target: Any) -> None:
            strike()
            replace(source, target)

        setattr(folder.os, "replace", before)  # noqa: B010
    progress = strike if where == "ended" else None
    try:
        run_benchmark(
            Path(str(bench)), ["simple"], Path(str(method)), MeasureSettings("pycolmap", metrics=METRICS),
            generation=GenerationSettings(str(model)), workforce=Workforce(torch.device("cpu"), int(workers)),
            progress=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(*sys.argv[1:])
