"""Results of scenes made by hand, as the measuring writes them."""

from __future__ import annotations

from typing import Any

FRAMES, FPS, INTERVAL = 17, 16.0, 4


def camera(rot_err: float, floor: float = 0.5, registered: float = 1.0, failed: str | None = None) -> dict[str, Any]:
    """A camera whose translation error is a tenth and whose CamMC is a fifth of its rotation error."""

    def errors(rotation: float) -> dict[str, Any]:
        relative = {"gap_frames": 16, "rotation_deg": rotation / 2, "translation": rotation / 20}
        return {
            "rot_err": rotation,
            "trans_err": rotation / 10,
            "cam_mc": rotation / 5,
            "path_length_ratio": 1.0,
            "relative": relative,
        }

    sampled = range(0, FRAMES, INTERVAL)
    asked = [[1.0, 0, 0, 0.1 * i, 0, 1.0, 0, 0, 0, 0, 1.0, 0.2 * i] for i in range(len(sampled))]
    recovered: list[list[float] | None] = [[*row[:3], row[3] + 0.02, *row[4:]] for row in asked]
    recovered[2] = None
    curve = [rot_err, rot_err, None, rot_err, rot_err]
    return {
        "engine": "gt-pnp",
        "interval": INTERVAL,
        "skip_first_frame": False,
        "registered": registered,
        "failed": failed,
        "release": errors(rot_err),
        "umeyama": {"undefined": "the asked camera centres lie on one line"},
        "frames": list(sampled),
        "curves": {"rotation_deg": curve, "translation": curve, "motion": curve},
        "asked": asked,
        "aligned": recovered,
        "recovered": recovered,
        "floors": {
            "render": {"failed": None, "registered": 1.0, "release": errors(floor / 10)},
            "autoencoder": {
                "failed": None,
                "registered": 1.0,
                "release": errors(floor),
                "psnr": 32.0,
                "ssim": 0.9,
                "sharpness_ratio": 0.95,
            },
        },
    }


def result(scene_id: str, *, split: str = "simple", **parts: dict[str, Any]) -> dict[str, Any]:
    """A scene with a video and these parts."""
    return {
        "scene": described(scene_id, split),
        "failed": None,
        "video": {"file": f"{scene_id}_generated.mp4", "frames": FRAMES, "width": 48, "height": 32, "fps": FPS},
        "parts": parts,
    }


def without_video(scene_id: str, reason: str) -> dict[str, Any]:
    """A scene that has no video."""
    return {"scene": described(scene_id, "simple"), "failed": reason, "video": None, "parts": {}}


def described(scene_id: str, split: str) -> dict[str, Any]:
    return {
        "id": scene_id,
        "split": split,
        "category": scene_id[:-4],
        "trajectory_id": "out_and_back",
        "prompt": f"the place <{scene_id}> & its surroundings",
        "frames": FRAMES,
        "fps": FPS,
    }


def truth(psnr: float, windows: list[float] | None = None) -> dict[str, Any]:
    """Likeness to the truth without LPIPS."""
    return {
        "psnr": psnr,
        "ssim": 0.5,
        "psnr_windows": windows,
        "compared_frames": list(range(0, FRAMES, INTERVAL)),
        "curves": {"psnr": [100.0] + [psnr] * (FRAMES - 1), "ssim": [1.0, 0.5, 0.5, 0.5, 0.5]},
    }


def temporal(ratio: list[float], quality: list[float] | None = None) -> dict[str, Any]:
    """Sharpness in windows as ratios to the truth, and imaging quality in windows."""
    curves = {"sharpness": [0.1] * FRAMES, "true_sharpness": [0.2] * FRAMES}
    sharpness = {
        "window_seconds": 10.0,
        "made": ratio,
        "truth": [1.0] * len(ratio),
        "ratio": ratio,
        "relative": [r / ratio[0] for r in ratio],
    }
    iq = None if quality is None else {"windows": quality, "delta": quality[0] - quality[-1]}
    return {"sharpness": sharpness, "curves": curves, "imaging_quality": iq}


def revisit(*psnrs: float) -> dict[str, Any]:
    """Scored pairs of these PSNRs."""
    pairs = [
        {"frame_a": 1, "frame_b": 9, "video_a": 1, "video_b": 9, "psnr": psnr, "ssim": psnr / 100, "lpips": None}
        for psnr in psnrs
    ]
    return {"available": len(pairs), "pairs": pairs}
