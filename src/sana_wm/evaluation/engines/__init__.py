"""Pose engines: where the camera of a video went (spec 61-benchmark.md section 3.4)."""

from sana_wm.evaluation.engines.choose import ENGINES, make_engine
from sana_wm.evaluation.engines.engine import PoseEngine, Recovered, TrueViews

__all__ = ["ENGINES", "PoseEngine", "Recovered", "TrueViews", "make_engine"]
