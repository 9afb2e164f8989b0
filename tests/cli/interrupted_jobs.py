"""`sana-wm generate` in a process of its own that something happens to: `python -m tests.cli.interrupted_jobs WHAT
COUNT ARGUMENTS...`.

WHAT is `kill` (the process dies the moment before the COUNT-th finished file gets its name) or `interrupt` (Ctrl-C in
the COUNT-th denoising step).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any


def main(what: str, count: str, *arguments: str) -> None:
    import torch

    from sana_wm.cli.main import main as command
    from sana_wm.serving.batch import work

    torch.set_num_threads(1)
    left = int(count)

    def strike(with_signal: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), with_signal)

    if what == "kill":
        replace = Path.replace

        def before(path: Path, target: Path) -> Path:
            strike(signal.SIGKILL)
            return replace(path, target)

        setattr(Path, "replace", before)  # noqa: B010
    else:
        fulfil = work.fulfil

        def striking(*given: Any, progress: Any, **more: Any) -> Any:
            def report(stage: str, done: int, total: int) -> None:
                progress(stage, done, total)
                if stage == "denoise":
                    strike(signal.SIGINT)

            return fulfil(*given, progress=report, **more)

        setattr(work, "fulfil", striking)  # noqa: B010
    command(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
