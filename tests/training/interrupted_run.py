"""A training run in a process of its own that something happens to: `python -m tests.training.interrupted_run RECIPE
DIRECTORY WORKERS WHAT STAGE STEP`. A distillation begins with the weights of its teacher.

WHAT happens as step STEP of STAGE begins: `kill` (the process dies), `kill-saving` (it dies while it writes the
next checkpoint), `interrupt` (Ctrl-C in the terminal: SIGINT for the whole process group).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main(recipe: str, directory: str, workers: str, what: str, stage: str, step: str) -> None:
    import torch

    from sana_wm.training import progress
    from sana_wm.training.autoencoder import AutoencoderStage
    from sana_wm.training.distil import distil
    from sana_wm.training.distill_recipe import DistillRecipe, load_any_recipe
    from sana_wm.training.ode import OdeStage
    from sana_wm.training.self_forcing import SelfForcingStage
    from sana_wm.training.train import train
    from sana_wm.training.world import WorldStage

    torch.set_num_threads(1)
    stages = (AutoencoderStage, WorldStage, OdeStage, SelfForcingStage)
    kind: Any = {each.name: each for each in stages}[stage]
    train_once = kind.step

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def interrupted(self: object, number: int) -> dict[str, torch.Tensor]:
        if number + 1 == int(step):
            if what == "kill":
                die()
            elif what == "interrupt":
                os.killpg(0, signal.SIGINT)
                time.sleep(0.3)  # a worker that dies of it is gone before the step asks for data
            else:
                setattr(progress.os, "replace", die)  # noqa: B010
        return train_once(self, number)

    kind.step = interrupted
    stop, settings = progress.Stop(), load_any_recipe(recipe)
    plan: Any = {"device": torch.device("cpu"), "stop": stop, "workers": int(workers)}
    if isinstance(settings, DistillRecipe):
        model = distil(settings, Path(directory), init=settings.teacher, **plan)
    else:
        model = train(settings, Path(directory), **plan)
    print("finished" if model else "stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
