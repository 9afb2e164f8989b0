"""Golden files about actions, poses, intrinsics, rays, conditions, the overlay and index tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from sana_wm.geometry import actions, chunks, conditions, intrinsics, overlay, poses
from sana_wm.geometry.rays import ray_directions, ray_from_world
from sana_wm.models.text_select import text_padded_length, text_token_positions
from tests.parity_kinds.base import Check, Fixture, Kind

TOLERANCE = 5e-6
NATIVE_HW = (704, 1280)
_MOTION = ("action", "translation_speed", "rotation_speed_deg", "pitch_limit_deg")


def _cases(fixture: Fixture, *keys: str, entry: str = "cases") -> dict[str, dict[str, Any]]:
    """The cases of the metadata if every one of them has `keys`; otherwise none."""
    cases = fixture.config.get(entry)
    if not isinstance(cases, dict) or not all(isinstance(c, dict) and set(keys) <= c.keys() for c in cases.values()):
        return {}
    return cases


def _exact(name: str, actual: Any, expected: Any) -> Check:
    return Check(name, torch.as_tensor(actual), torch.as_tensor(expected), 0.0)


def _wanted(fixture: Fixture, computed: dict[str, tuple[Tensor, float]]) -> Iterator[Check]:
    """A check for each computed output that the file has; value and absolute tolerance."""
    for name, (actual, tolerance) in computed.items():
        if name in fixture.tensors:
            yield Check(name, actual, fixture.tensors[name], tolerance)


# ---------------------------------------------------------------------------------------------------------- actions


def _is_actions(fixture: Fixture) -> bool:
    return any(_cases(fixture, *_MOTION, entry=entry) for entry in ("cases", "legacy_cases"))


def _action_checks(fixture: Fixture) -> Iterator[Check]:
    for name, case in _cases(fixture, *_MOTION).items():
        rules = actions.MotionRules(
            case["translation_speed"], case["rotation_speed_deg"], case["pitch_limit_deg"], case.get("smooth", True)
        )
        c2w, velocity = actions.trace(case["action"], rules)
        c2w = c2w[:: case.get("frame_stride", 1)]
        yield from _wanted(fixture, {f"out.c2w.{name}": (c2w, 1e-6), f"out.velocity.{name}": (velocity, 1e-6)})
    for name, case in _cases(fixture, *_MOTION, entry="legacy_cases").items():
        c2w = actions.legacy_rollout(
            case["action"],
            translation_speed=case["translation_speed"],
            rotation_speed_deg=case["rotation_speed_deg"],
            pitch_limit_deg=case["pitch_limit_deg"],
        )
        yield from _wanted(fixture, {f"out.legacy_c2w.{name}": (c2w[:: case.get("frame_stride", 1)], 1e-6)})
    for index, entry in enumerate(fixture.config.get("parse", [])):
        frames = entry["frames"] if entry["ok"] and not _refused_on_purpose(entry["action"]) else None
        yield _exact(f"config.parse[{index}]", float(_parsed(entry["action"]) == frames), 1.0)


def _parsed(text: str) -> list[str] | None:
    try:
        return ["".join(sorted(keys)) for keys in actions.parse_actions(text)]
    except actions.ActionError:
        return None


def _refused_on_purpose(text: str) -> bool:
    """Whether the release accepts this only by accident: a segment without keys, or digits other than 0-9."""
    segments = "".join(text.replace("，", ",").split()).split(",")
    return any(s.startswith("-") or any(c.isdigit() and not c.isascii() for c in s) for s in segments)


# ------------------------------------------------------------------------------------------- image and intrinsics


def _is_intrinsics(fixture: Fixture) -> bool:
    names = ("out.snap", "out.crop_vec4", "out.resized_wh", "out.image_cropped_u8", "out.image_chw")
    return any(name in names or name.startswith("out.intrinsics_vec4.") for name in fixture.outputs())


def _intrinsics_checks(fixture: Fixture) -> Iterator[Check]:
    tensors, config = fixture.tensors, fixture.config
    for form, array in fixture.group("in.intrinsics.").items():
        expected = tensors[f"out.intrinsics_vec4.{form}"]
        actual = intrinsics.as_vec4(array, config["num_frames"])
        resampled = array.ndim > 1 and array.shape != (3, 3) and 1 < len(array) < config["num_frames"]
        yield Check(
            f"out.intrinsics_vec4.{form}", actual, expected, 1e-4 if resampled else 1e-6, relative=not resampled
        )
    if "in.src_wh" in tensors:
        plans = [intrinsics.crop_plan((w, h), tuple(config["target_hw"])) for w, h in tensors["in.src_wh"].tolist()]
        yield _exact("out.resized_wh", [plan.resized_wh for plan in plans], tensors["out.resized_wh"])
        yield _exact("out.crop_left_top", [plan.crop_left_top for plan in plans], tensors["out.crop_left_top"])
        if "in.crop_vec4" in tensors:
            cropped = [plan.intrinsics(rows) for plan, rows in zip(plans, tensors["in.crop_vec4"], strict=True)]
            # 1e-6 of the size of each row: the scales of the rows differ by orders of magnitude
            scale = tensors["out.crop_vec4"].abs().amax((1, 2), keepdim=True)
            expected = tensors["out.crop_vec4"] / scale
            yield Check("out.crop_vec4", torch.stack(cropped) / scale, expected, 1e-6)
    if "in.image_u8" in tensors:
        yield from _image_checks(tensors, config["image_case"])
    if "in.snap" in tensors:
        snapped = [
            poses.snap_num_frames(requested, None if upper < 0 else upper, stride)
            for requested, stride, upper in tensors["in.snap"].tolist()
        ]
        yield _exact("out.snap", snapped, tensors["out.snap"])


def _image_checks(tensors: dict[str, Tensor], case: dict[str, Any]) -> Iterator[Check]:
    image = Image.fromarray(tensors["in.image_u8"].numpy().astype(np.uint8))
    width, height = case["target_wh"]
    cropped = intrinsics.crop_plan(image.size, (height, width)).apply(image)
    grey_levels = 0.0 if case.get("pillow") == PIL.__version__ else 1.0
    actual = torch.from_numpy(np.array(cropped)).long()
    yield Check("out.image_cropped_u8", actual, tensors["out.image_cropped_u8"], grey_levels)
    yield Check(
        "out.image_chw", intrinsics.image_tensor(cropped), tensors["out.image_chw"], 2 * grey_levels / 255 + 1e-6
    )


# ------------------------------------------------------------------------------------------------------ conditions


def _is_conditions(fixture: Fixture) -> bool:
    return bool(_cases(fixture, "target_hw", "vae_stride", "latent_thw"))


def _conditions_checks(fixture: Fixture) -> Iterator[Check]:
    for name, case in fixture.config["cases"].items():
        T, H, W = case["latent_thw"]
        c2w = poses.relative_to_first(poses.check_poses(fixture.tensors[f"in.c2w.{name}"]))
        arguments = (c2w, fixture.tensors[f"in.intrinsics_px.{name}"], case["target_hw"], (H, W), case["vae_stride"][0])
        cameras = conditions.camera_conditions(*arguments)
        from_world, to_world = (P.unflatten(1, (T, H, W))[0] for P in ray_from_world(cameras[None], H, W))
        computed = {
            "camera_conditions": cameras,
            "chunk_plucker": conditions.chunk_plucker(*arguments),
            "raymats": from_world,
            "raymats_inv": to_world,
        }
        yield from _wanted(fixture, {f"out.{key}.{name}": (value, TOLERANCE) for key, value in computed.items()})
        yield from _wanted(fixture, {f"out.absmap.{name}": (release_absmap(cameras, H, W), 1e-5)})
        if "latent_frame_raw_index" in case:
            rows = conditions.latent_frame_indices(len(c2w), case["vae_stride"][0])
            yield _exact(f"config.{name}.latent_frame_raw_index", rows, case["latent_frame_raw_index"])


def release_absmap(cameras: Tensor, H: int, W: int) -> Tensor:
    """The release's unused map (...,T,H,W,3): image direction of "up" and latitude of each ray (spec 30 section 3.6).

    Its rotation of the ray towards "up" has a wrong third term, kept here because only the golden file wants this map.
    """
    cameras = cameras.double()
    c2w, latent_intrinsics = cameras[..., :16].unflatten(-1, (4, 4)), cameras[..., 16:]
    rotation = c2w[..., None, None, :3, :3]
    in_camera = ray_directions(latent_intrinsics, H, W)
    ray = torch.nn.functional.normalize((rotation @ in_camera[..., None])[..., 0], dim=-1)
    axis = torch.linalg.cross(ray, ray.new_tensor([0.0, -1.0, 0.0]).expand_as(ray))
    axis = torch.nn.functional.normalize(axis, dim=-1)
    delta = 0.1
    turned = (
        ray * math.cos(delta)
        + torch.linalg.cross(axis, ray) * math.sin(delta)
        + axis * axis * ray.sum(-1, keepdim=True) * (1 - math.cos(delta))
    )
    seen = (rotation.mT @ turned[..., None])[..., 0]
    moved = (seen[..., :2] / seen[..., 2:] - in_camera[..., :2]) * latent_intrinsics[..., None, None, :2]
    latitude = torch.atan2(-ray[..., 1:2], torch.hypot(ray[..., 0:1], ray[..., 2:3]))
    return torch.cat((torch.nn.functional.normalize(moved, dim=-1), latitude), dim=-1).float()


# ----------------------------------------------------------------------------------------------- the shipped demos


def _is_demo(fixture: Fixture) -> bool:
    return "demos" in fixture.config and any(n.endswith(".intrinsics_cropped") for n in fixture.outputs())


def _demo_checks(fixture: Fixture) -> Iterator[Check]:
    for name, demo in fixture.config["demos"].items():
        c2w = actions.rollout(demo["action"], translation_speed=demo["translation_speed"])
        yield _exact(f"config.{name}.num_poses", len(c2w), demo["num_poses"])
        c2w = c2w[: poses.snap_num_frames(demo["num_frames"], len(c2w))]
        yield from _demo_case(fixture, name, demo, c2w, NATIVE_HW, (22, 40), 1)
    for name, window in fixture.config.get("windows", {}).items():
        _, H, W = window["latent_thw"]
        c2w = fixture.tensors[f"in.{name}.c2w"]
        yield from _demo_case(fixture, name, window, c2w, (32 * H, 32 * W), (H, W), window["spatial_subsample"])


def _demo_case(
    fixture: Fixture,
    name: str,
    case: dict[str, Any],
    c2w: Tensor,
    target_hw: tuple[int, int],
    latent_hw: tuple[int, int],
    every: int,
) -> Iterator[Check]:
    plan = intrinsics.crop_plan(tuple(case["src_wh"]), target_hw)
    yield _exact(f"config.{name}.resized_wh", plan.resized_wh, case["resized_wh"])
    yield _exact(f"config.{name}.crop_left_top", plan.crop_left_top, case["crop_left_top"])
    source = fixture.tensors[f"in.{name}.intrinsics_src"]
    cropped = plan.intrinsics(source)
    yield Check(
        f"out.{name}.intrinsics_cropped", cropped, fixture.tensors[f"out.{name}.intrinsics_cropped"], 1e-6, True
    )
    rows = plan.intrinsics(intrinsics.as_vec4(source, len(c2w)))
    based = poses.relative_to_first(c2w)
    cameras = conditions.camera_conditions(based, rows, target_hw, latent_hw)
    maps = conditions.chunk_plucker(based, rows, target_hw, latent_hw)
    last = ray_from_world(cameras[None, -1:], *latent_hw)[0].unflatten(1, latent_hw)[0]
    computed = {
        "camera_conditions": cameras,
        "chunk_plucker": maps[..., ::every, ::every],
        "raymats_last": last[::every, ::every],
    }
    yield from _wanted(fixture, {f"out.{name}.{key}": (value, TOLERANCE) for key, value in computed.items()})


# --------------------------------------------------------------------------------------------------------- overlay


def _is_overlay(fixture: Fixture) -> bool:
    return any(name.startswith(("out.keys_wasd.", "out.euler_yxz_deg.")) for name in fixture.outputs())


def _overlay_checks(fixture: Fixture) -> Iterator[Check]:
    for name, c2w in fixture.group("in.c2w.").items():
        translation, euler = overlay.relative_motion(c2w)
        yaw, pitch = overlay.joystick(euler)
        computed = {
            "trans": (translation, 1e-6),
            "euler_yxz_deg": (euler, 1e-5),
            "keys_wasd": (overlay.lit_keys(translation).long(), 0.0),
            "yaw": (yaw, 1e-5),
            "pitch": (pitch, 1e-5),
        }
        yield from _wanted(fixture, {f"out.{key}.{name}": value for key, value in computed.items()})
    if "out.layout" in fixture.tensors:
        expected = fixture.tensors["out.layout"]
        columns = fixture.config["layout_cols"]
        corner = fixture.config.get("corner", "bottom-left")
        sizes = expected[:, [columns.index("W"), columns.index("H")]].tolist()
        rows = [[_layout_numbers(w, h, corner)[column] for column in columns] for w, h in sizes]
        yield _exact("out.layout", rows, expected)


def _layout_numbers(width: int, height: int, corner: str) -> dict[str, int]:
    layout = overlay.overlay_layout(width, height, corner)
    numbers = {"W": width, "H": height, "joy_cx": layout.joystick[0], "joy_cy": layout.joystick[1]}
    numbers |= {"joy_radius": layout.joystick_radius, "margin": layout.margin, "font_px": layout.font_px}
    numbers |= {"key_size": layout.key_size, "key_gap": layout.key_gap, "key_radius": layout.key_radius}
    for letter, (x, y) in zip("WASD", layout.keys, strict=True):
        numbers |= {f"{letter}_x": x, f"{letter}_y": y}
    return numbers


# ------------------------------------------------------------------------------------------------ training cameras


def _is_training(fixture: Fixture) -> bool:
    return bool(_cases(fixture, "latent_thw", "info", "cam_sample_strategy"))


def _training_checks(fixture: Fixture) -> Iterator[Check]:
    for name, case in fixture.config["cases"].items():
        cameras, maps = conditions.training_conditions(
            None if case["camera_missing"] else fixture.tensors[f"in.c2w.{name}"],
            None if case["camera_missing"] else fixture.tensors[f"in.intrinsics_px.{name}"],
            (case["info"]["width"], case["info"]["height"]),
            tuple(case["latent_thw"]),
            metric_scale=case["metric_scale"],
            strategy=case["cam_sample_strategy"],
        )
        computed = {"camera_conditions": cameras, "chunk_plucker": maps}
        yield from _wanted(fixture, {f"out.{key}.{name}": (value, TOLERANCE) for key, value in computed.items()})


# ---------------------------------------------------------------------------------------------------------- tables


def _is_tables(fixture: Fixture) -> bool:
    prefixes = ("out.latent_raw_index.F", "out.plucker_window_start.F")
    return any(name.startswith(prefixes) for name in fixture.outputs())


def _tables_checks(fixture: Fixture) -> Iterator[Check]:
    for suffix, expected in fixture.group("out.latent_raw_index.F").items():
        yield _exact(f"out.latent_raw_index.F{suffix}", conditions.latent_frame_indices(int(suffix)), expected)
    for suffix, expected in fixture.group("out.plucker_window_start.F").items():
        yield _exact(f"out.plucker_window_start.F{suffix}", conditions.plucker_windows(int(suffix))[:, 0], expected)
    for index, entry in enumerate(fixture.config.get("chunk", [])):
        starts = chunks.chunk_starts(entry["T"], entry["chunk_size"], entry["strategy"])
        sizes = torch.tensor(chunks.chunk_bounds(starts, entry["T"])).diff()
        yield _exact(f"config.chunk[{index}].index", starts, entry["index"])
        yield _exact(f"config.chunk[{index}].sizes", sizes, entry["sizes"])
    for index, entry in enumerate(fixture.config.get("text_select", [])):
        n_prefix, max_tokens = entry["n_chi_tokens_incl_bos"], entry["model_max_length"]
        kept = text_token_positions(n_prefix, max_tokens)
        first = entry["first_positions"]
        actual = [*kept[: len(first)].tolist(), int(kept[-1]), len(kept), text_padded_length(n_prefix, max_tokens)]
        wanted = [*first, entry["last_position"], entry["count"], entry["padded_length"]]
        yield _exact(f"config.text_select[{index}]", actual, wanted)


KINDS = [
    Kind("camera actions", _is_actions, _action_checks),
    Kind("camera intrinsics", _is_intrinsics, _intrinsics_checks),
    Kind("camera conditions", _is_conditions, _conditions_checks),
    Kind("camera demos", _is_demo, _demo_checks),
    Kind("camera overlay", _is_overlay, _overlay_checks),
    Kind("camera training", _is_training, _training_checks),
    Kind("camera tables", _is_tables, _tables_checks),
]
