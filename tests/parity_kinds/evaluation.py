"""Golden files about what is measured: pose errors, similarities, images, VBench, revisits, paths, depth, lenses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sana_wm.evaluation import vbench
from sana_wm.evaluation.camera_filter import check_camera
from sana_wm.evaluation.coverage import coverage
from sana_wm.evaluation.degradation import degradation
from sana_wm.evaluation.depth_fusion import depth_scales, fuse_depth, smooth_scales
from sana_wm.evaluation.frame_intrinsics import gauss_newton_step, reproject
from sana_wm.evaluation.image import psnr, ssim
from sana_wm.evaluation.pose_error import pose_errors
from sana_wm.evaluation.revisit import revisit_geometry, revisit_mask, video_frame
from sana_wm.evaluation.splines import catmull_rom, same_side, squad, squad_controls
from sana_wm.evaluation.umeyama import metric_scale, umeyama
from tests.parity_kinds.base import Check, Fixture, Kind


def _cases(fixture: Fixture, ending: str) -> list[str]:
    """The cases of a file that have an output `out.<case><ending>`."""
    return [n[len("out.") : -len(ending)] for n in fixture.outputs() if n.endswith(ending)]


def _within(name: str, actual: Tensor, expected: Tensor, tolerance: Tensor) -> Check:
    """A check whose entries have tolerances of their own: both sides in units of them, so the limit is 1."""
    if actual.shape != expected.shape:
        return Check(name, actual, expected, 1.0)  # fails as it should
    return Check(name, actual.double() / tolerance, expected.double() / tolerance, 1.0)


def _absolute_and_relative(expected: Tensor) -> Tensor:
    return 2e-5 + 1e-5 * expected.double().abs()


def _wanted(fixture: Fixture, computed: dict[str, Any], tolerance: float, relative: bool = False) -> Iterator[Check]:
    """A check for each computed output that the file has."""
    for name, actual in computed.items():
        if name in fixture.tensors:
            yield Check(name, torch.as_tensor(actual), fixture.tensors[name], tolerance, relative)


def _one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ pose errors


def _is_pose_errors(fixture: Fixture) -> bool:
    return bool(_cases(fixture, ".release.metrics"))


def _pose_error_checks(fixture: Fixture) -> Iterator[Check]:
    intervals, skips = fixture.config.get("interval", {}), fixture.config.get("skip_first_frame", [])
    for case in _cases(fixture, ".release.metrics"):
        for align in ("release", "umeyama"):
            prefix = f"out.{case}.{align}."
            if f"{prefix}metrics" not in fixture.tensors:
                continue
            errors = pose_errors(
                fixture.tensors[f"in.{case}.gt_c2w"],
                fixture.tensors[f"in.{case}.est_c2w"],
                align=align,
                interval=intervals.get(case, 1),
                skip_first_frame=case in skips,
            )
            curves = torch.stack((errors.rotation_deg, errors.translation, errors.motion), dim=1)
            computed = {
                # near zero error the arc cosine of rounded rotations is noise
                "metrics": (curves.mean(dim=0), 5e-2 if case == "clean" else 5e-3),
                "per_frame": (curves, 5e-2),
                "rotation": (errors.alignment.rotation, None),
                "scale": (_one(errors.alignment.scale), None),
            }
            for key, (actual, degrees) in computed.items():
                expected = fixture.tensors[prefix + key]
                tolerance = _absolute_and_relative(expected)
                if degrees is not None:
                    tolerance[..., 0] = degrees
                yield _within(prefix + key, actual, expected, tolerance)


# ------------------------------------------------------------------------------------------------------ similarities


def _is_umeyama(fixture: Fixture) -> bool:
    return bool(_cases(fixture, ".rigid_rotation")) or fixture.has("out.metric.inlier")


def _umeyama_checks(fixture: Fixture) -> Iterator[Check]:
    tensors = fixture.tensors
    for case in _cases(fixture, ".rotation"):
        src, dst = tensors[f"in.{case}.src"], tensors[f"in.{case}.dst"]
        free, fixed = umeyama(src, dst), umeyama(src, dst, with_scale=False)
        computed = {
            "scale": _one(free.scale),
            "rotation": free.rotation,
            "translation": free.translation,
            "rigid_rotation": fixed.rotation,
            "rigid_translation": fixed.translation,
        }
        yield from _wanted(fixture, {f"out.{case}.{key}": value for key, value in computed.items()}, 1e-5)
    if "in.metric.pred" in tensors:
        percentile = fixture.config.get("inlier_percentile", 80.0)
        found = metric_scale(tensors["in.metric.pred"], tensors["in.metric.gt"], percentile)
        computed = {
            "scale": _one(found.fit.scale),
            "scale_all": _one(found.first_fit.scale),
            "residual": found.residual,
            "threshold": _one(found.threshold),
        }
        yield from _wanted(fixture, {f"out.metric.{key}": value for key, value in computed.items()}, 1e-5)
        yield from _wanted(fixture, {"out.metric.inlier": found.inlier.long()}, 0.0)


# ------------------------------------------------------------------------------------------------- images and marks


def _is_image_metrics(fixture: Fixture) -> bool:
    marks = ("out.vbench.", "out.iq.", "out.remap.")
    return bool(_cases(fixture, ".psnr_ssim")) or any(name.startswith(marks) for name in fixture.outputs())


def _image_metric_checks(fixture: Fixture) -> Iterator[Check]:
    tensors = fixture.tensors
    for case in _cases(fixture, ".psnr_ssim"):
        a, b = (tensors[f"in.{case}.{side}"].permute(2, 0, 1)[None].to(torch.uint8) for side in "ab")
        yield from _wanted(fixture, {f"out.{case}.psnr_ssim": torch.cat((psnr(a, b, 255.0), ssim(a, b)))}, 1e-5)
    constants: tuple[tuple[str, vbench.Constants], ...] = (("release", "release"), ("official", "vbench"))
    for name, which in constants:
        if f"out.vbench.{name}" in tensors:
            rows = [_vbench_row(fixture, row, which) for row in tensors["in.vbench.raw"].tolist()]
            yield Check(f"out.vbench.{name}", torch.tensor(rows), tensors[f"out.vbench.{name}"], 1e-5)
    if "in.iq.scores" in tensors:
        curves = [row[:n] for row, n in zip(tensors["in.iq.scores"], tensors["in.iq.lengths"].tolist(), strict=True)]
        seconds = fixture.config.get("window_frames", 160) / 16
        for skip in (0, 1):
            found = degradation(curves, window_seconds=seconds, skip_first_frame=bool(skip), compat=True)
            computed = {
                f"out.iq.windows_skip{skip}": found.windows / 100,
                f"out.iq.delta_skip{skip}": found.delta / 100,
            }
            yield from _wanted(fixture, {name: torch.as_tensor(v).reshape(-1) for name, v in computed.items()}, 1e-5)
    for suffix, expected in fixture.group("out.remap.").items():
        fps, frames = suffix.rsplit("_", 1)
        actual = [video_frame(frame, float(fps), int(frames)) for frame in tensors["in.remap.frames"].tolist()]
        yield Check(f"out.remap.{suffix}", torch.tensor(actual), expected, 0.0)


def _vbench_row(fixture: Fixture, values: Sequence[float], constants: vbench.Constants) -> list[float]:
    raw = dict(zip(fixture.config["vbench_dims"], values, strict=True))
    shares = vbench.normalise(raw, constants)
    shares |= {
        "quality": vbench.quality_score(raw, constants),
        "semantic": vbench.semantic_score(raw, constants),
        "total": vbench.total_score(raw, constants),
    }
    return [shares[column] for column in fixture.config["vbench_out_columns"]]


# -------------------------------------------------------------------------------------------- paths and what they see


def _is_trajectory(fixture: Fixture) -> bool:
    return any(
        name.startswith(("out.catmull_", "out.squad", "out.revisit.", "out.cover.")) for name in fixture.outputs()
    )


def _trajectory_checks(fixture: Fixture) -> Iterator[Check]:
    tensors, config = fixture.tensors, fixture.config
    if "in.keys.position" in tensors:
        keys, u = tensors["in.keys.position"], tensors["in.u"]
        for name, alpha in (("uniform", 0.0), ("centripetal", 0.5)):
            yield from _wanted(fixture, {f"out.catmull_{name}": catmull_rom(keys, u, alpha)}, 1e-5)
    if "in.keys.quaternion_wxyz" in tensors:
        turns = same_side(tensors["in.keys.quaternion_wxyz"])
        computed = {"out.squad": squad(turns, tensors["in.u"]), "out.squad_controls": squad_controls(turns)}
        yield from _wanted(fixture, computed, 1e-5)
    if "in.revisit.c2w" in tensors:
        distance, angle = revisit_geometry(tensors["in.revisit.c2w"])
        limits = config.get("revisit", {})
        mask = revisit_mask(distance, angle, limits.get("distance_m", 0.5), limits.get("angle_deg", 20.0))
        yield from _wanted(fixture, {"out.revisit.distance": distance}, 1e-5)
        yield from _wanted(fixture, {"out.revisit.mask": mask.long()}, 0.0)
        expected = tensors["out.revisit.angle_deg"]
        near_zero = expected < 1.0  # below it the arc cosine of float32 rotations loses more than 1e-3 degrees
        tolerance = torch.where(near_zero, 5e-2, 1e-3).double()
        yield _within("out.revisit.angle_deg", angle, expected, tolerance)
    if "in.cover.c2w" in tensors:
        case = config["cover"]
        found = coverage(
            tensors["in.cover.points"],
            tensors["in.cover.c2w"][:: case["every"]],
            tensors["in.cover.intrinsics"],
            (case["image"][0], case["image"][1]),
            tiles=(case["grid"][0], case["grid"][1]),
            near=case["near"],
        )
        yield from _wanted(fixture, {"out.cover.count": found.count}, 0.0)
        yield from _wanted(fixture, {"out.cover.empty_fraction": found.empty_fraction}, 1e-5)


# ------------------------------------------------------------------------------------------------------ depth fusion


def _is_depth_fusion(fixture: Fixture) -> bool:
    return any(name.startswith(("out.moge.", "out.structure.", "out.filter.")) for name in fixture.outputs())


def _depth_fusion_checks(fixture: Fixture) -> Iterator[Check]:
    tensors = fixture.tensors
    if "in.depth_structure" in tensors:
        structure, metric = tensors["in.depth_structure"], tensors["in.depth_metric"]
        raw = {name: depth_scales(structure, metric, name) for name in ("moge", "structure")}
        for name, scales in raw.items():
            yield from _wanted(fixture, {f"out.{name}.raw": scales}, 1e-5, relative=True)
            computed = {
                f"out.{name}.ema_{key}": smooth_scales(scales, int(key) / 100)
                for key in fixture.group(f"out.{name}.ema_")
            }
            yield from _wanted(fixture, computed, 1e-5, relative=True)
        yield from _wanted(
            fixture, {"out.fused": fuse_depth(structure, smooth_scales(raw["moge"]))}, 1e-5, relative=True
        )
    computed = {
        f"out.lead_ema_{key}": smooth_scales(tensors["in.lead_raw"], int(key) / 100)
        for key in fixture.group("out.lead_ema_")
    }
    yield from _wanted(fixture, computed, 1e-5, relative=True)
    if "in.filter.fx" in tensors:
        height, width = fixture.config["image"]
        rows = zip(tensors["in.filter.fx"].tolist(), tensors["in.filter.fy"].tolist(), strict=True)
        lenses = [torch.tensor([fx, fy, width / 2, height / 2]) for fx, fy in rows]
        checks = [check_camera(k, s, (width, height)) for k, s in zip(lenses, tensors["in.filter.scales"], strict=True)]
        numbers = {
            "out.filter.fov": [check.fov_deg for check in checks],
            "out.filter.divergence": [check.focal_divergence for check in checks],
            "out.filter.scale_cv": [check.scale_cv for check in checks],
        }
        yield from _wanted(fixture, numbers, 1e-5, relative=True)
        yield from _wanted(fixture, {"out.filter.pass": [int(check.passed) for check in checks]}, 0.0)


# ------------------------------------------------------------------------------------------------- lenses of frames


def _is_frame_intrinsics(fixture: Fixture) -> bool:
    return fixture.has("in.disparity", "in.w2c", "in.edges")


def _frame_intrinsics_checks(fixture: Fixture) -> Iterator[Check]:
    tensors = fixture.tensors
    geometry = (tensors["in.w2c"], tensors["in.disparity"], tensors["in.edges"])
    seen = reproject(tensors["in.intrinsics"], *geometry)
    computed = {"coords": seen.coords, "jac_source": seen.jac_source, "jac_target": seen.jac_target}
    yield from _wanted(fixture, {f"out.{key}": value for key, value in computed.items()}, 1e-4)
    steps = sorted(int(key) for key in fixture.group("out.gn_"))
    lens = tensors["in.initial"] if steps else tensors["in.intrinsics"]
    for step in range(1, max(steps, default=0) + 1):
        lens = gauss_newton_step(lens, *geometry, tensors["in.target"], tensors["in.weight"])
        yield from _wanted(fixture, {f"out.gn_{step}": lens}, 1e-4)


KINDS = [
    Kind("evaluation pose errors", _is_pose_errors, _pose_error_checks),
    Kind("evaluation similarities", _is_umeyama, _umeyama_checks),
    Kind("evaluation images and marks", _is_image_metrics, _image_metric_checks),
    Kind("evaluation paths", _is_trajectory, _trajectory_checks),
    Kind("evaluation depth fusion", _is_depth_fusion, _depth_fusion_checks),
    Kind("evaluation frame intrinsics", _is_frame_intrinsics, _frame_intrinsics_checks),
]
