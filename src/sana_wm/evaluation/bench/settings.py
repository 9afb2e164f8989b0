"""What a benchmark run is asked for, and the keys that say whether a result on disk was made with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sana_wm.engine.sampling_plan import check_sampling
from sana_wm.errors import InputError
from sana_wm.evaluation.degradation import WINDOW_SECONDS
from sana_wm.evaluation.engines import ENGINES
from sana_wm.evaluation.revisit import MOST_SCORED, REFERENCE_FPS
from sana_wm.evaluation.vbench import DIMENSIONS

SkipFirst = Literal["auto", "yes", "no"]

CAMERA, TRUTH, REVISIT, TEMPORAL, VBENCH = METRICS = ("camera", "truth", "revisit", "temporal", "vbench")
"""What can be measured: the camera path, the likeness to the true video (where there is one), revisited places,
sharpness and imaging quality over time, and VBench."""

RESULT_VERSION = 1
"""Goes into every key; raised whenever the same settings would give other numbers."""


@dataclass(frozen=True)
class GenerationSettings:
    """How videos are made. model: nano, a directory or a hub id; what is None is the model's own."""

    model: str
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    flow_shift: float | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        check_sampling(self.num_inference_steps, self.guidance_scale, self.flow_shift)
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; it must be a whole number from 0 to {2**63 - 1}.")


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured, and how.

    Attributes:
        engine: pose engine, one of :data:`~sana_wm.evaluation.engines.ENGINES`; engine_settings: its keyword arguments.
        floor_scenes: of how many scenes of a split, from all categories in turn, floors are measured; None: of all.
        interval: every how many frames a pose is recovered, and pictures are compared by SSIM and LPIPS.
        skip_first_frame: leave out frame 0, which a refiner copies; "auto": if method_info.json names a refiner.
        window_seconds: length of the windows of quality over time.
        max_pairs: revisit pairs a scene that are scored; ref_fps: the rate their frame numbers are for.
        lpips: whether LPIPS is measured. iq_weights: MUSIQ checkpoint for imaging quality; None: not measured.
        vbench_python, vbench_weights: the environment and cache of the real VBench; without the first only temporal
            flickering, which needs no weights, is measured. vbench_dims: what VBench is asked for.
    """

    engine: str
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = METRICS
    floor_scenes: int | None = None
    interval: int = 4
    skip_first_frame: SkipFirst = "auto"
    window_seconds: float = WINDOW_SECONDS
    max_pairs: int = MOST_SCORED
    ref_fps: float = REFERENCE_FPS
    lpips: bool = False
    iq_weights: Path | None = None
    vbench_python: Path | None = None
    vbench_weights: Path | None = None
    vbench_dims: tuple[str, ...] = DIMENSIONS

    def __post_init__(self) -> None:
        _check_names("metrics", self.metrics, METRICS)
        _check_names("vbench_dims", self.vbench_dims, DIMENSIONS)
        if self.engine not in ENGINES:
            raise InputError(f"engine is {self.engine!r}; it must be one of {', '.join(ENGINES)}.")
        if self.skip_first_frame not in ("auto", "yes", "no"):
            raise InputError(f"skip_first_frame is {self.skip_first_frame!r}; it must be 'auto', 'yes' or 'no'.")
        for name, least in (("interval", 1), ("max_pairs", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.floor_scenes is not None and self.floor_scenes < 0:
            raise InputError(f"floor_scenes is {self.floor_scenes}; it must be at least 0.")
        for name in ("window_seconds", "ref_fps"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} is {getattr(self, name)}; it must be a number above 0.")
        if self.iq_weights is not None and not self.iq_weights.is_file():
            raise InputError(f"iq_weights is '{self.iq_weights}'; it must be the MUSIQ checkpoint, a file.")

    def skips_first(self, info: Mapping[str, Any]) -> bool:
        """Whether frame 0 is left out, given the method's `method_info.json` (spec 61 section 2)."""
        return bool(info.get("refiner")) if self.skip_first_frame == "auto" else self.skip_first_frame == "yes"


def key_of(settings: Any) -> str:
    """Hash of plain values (what JSON can hold), the same for equal values in any order of the names."""
    text = json.dumps({"result_version": RESULT_VERSION, "settings": settings}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _check_names(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    if not given or set(given) - set(known) or len(set(given)) != len(given):
        raise InputError(
            f"{what} is {', '.join(given) or 'empty'}; it must name some of {', '.join(known)}, each once."
        )
