"""What measuring a scene needs besides the video; the heavy things are loaded when they are first asked for."""

from __future__ import annotations

import torch

from sana_wm.checkpoints.components import Codec
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.evaluation.bench.dataset import BenchScene
from sana_wm.evaluation.bench.plan import Plan
from sana_wm.evaluation.bench.settings import CAMERA
from sana_wm.evaluation.bench.truth import true_clip
from sana_wm.evaluation.engines import PoseEngine, TrueViews, make_engine
from sana_wm.evaluation.imaging_quality import ImagingQuality
from sana_wm.evaluation.perceptual import Lpips
from sana_wm.worlds.clip import WorldClip
from sana_wm.worlds.procedural import Renderer

ENGINES_WITH_TRUTH = ("gt-pnp",)
"""Engines that begin at what is truly seen, so they are made anew for every scene."""
ENGINES_WITH_DEVICE = ("pi3", "pi3x")
"""Engines that are networks; each worker runs them on its own device."""


class Tools:
    """The loaded parts of one worker."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self._pipeline: SanaWMPipeline | None = None
        self._codec: Codec | None = None
        self._engine: PoseEngine | None = None
        self._lpips: Lpips | None = None
        self._imaging_quality: ImagingQuality | None = None
        self._renderer: Renderer | None = None

    def pipeline(self) -> SanaWMPipeline:
        """The model that the run makes videos with."""
        if self._pipeline is None:
            assert self.plan.generation is not None
            self._pipeline = SanaWMPipeline.from_pretrained(self.plan.generation.model, device=self.device)
        return self._pipeline

    def codec(self) -> Codec:
        """The autoencoder of that model. The rest of the model is let go, to make room for pose engines."""
        if self._codec is None:
            self._codec = self.pipeline().codec
            self._pipeline = None
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._codec

    def engine(self, truth: TrueViews | None) -> PoseEngine:
        """The pose engine, with the true views of the scene where it wants them."""
        name, settings = self.plan.measures.engine, dict(self.plan.measures.engine_settings)
        if name in ENGINES_WITH_TRUTH:
            return make_engine(name, truth, **settings)
        if self._engine is None:
            if name in ENGINES_WITH_DEVICE:
                settings.setdefault("device", str(self.device))
            self._engine = make_engine(name, None, **settings)
        return self._engine

    def lpips(self) -> Lpips | None:
        if self.plan.measures.lpips and self._lpips is None:
            self._lpips = Lpips(self.device)
        return self._lpips

    def imaging_quality(self) -> ImagingQuality | None:
        weights = self.plan.measures.iq_weights
        if weights is not None and self._imaging_quality is None:
            self._imaging_quality = ImagingQuality(weights, self.device)
        return self._imaging_quality

    def true_clip(self, scene: BenchScene) -> WorldClip:
        """The true video, with depth where the pose engine needs it."""
        if self._renderer is None:
            self._renderer = Renderer()
        measures = self.plan.measures
        with_depth = CAMERA in measures.metrics and measures.engine in ENGINES_WITH_TRUTH
        return true_clip(self.plan.bench, scene, device=self.device, renderer=self._renderer, with_depth=with_depth)
