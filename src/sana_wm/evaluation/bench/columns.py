"""The columns of the tables: where each number is found, and how it is written (spec 61 sections 6.1 and 6.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sana_wm.evaluation.bench.floors import AUTOENCODER, RENDER

MISSING = "–"

Group = Mapping[str, Any]
"""Numbers of a split or of a category, from :func:`sana_wm.evaluation.bench.aggregate.group`."""


@dataclass(frozen=True)
class Column:
    """One number of a group.

    Attributes:
        title, meaning: a short name, and a sentence for whoever does not know it.
        path: names that lead to the number in a group; what lies there is a number or has a mean.
        digits: behind the point; factor: what the number is multiplied by.
        floor: the name under which floors have the same number, so that it is written beside them.
    """

    title: str
    meaning: str
    path: tuple[str, ...]
    digits: int = 2
    factor: float = 1.0
    floor: str | None = None

    def value(self, group: Group) -> float | None:
        return _at(group, self.path)

    def floors(self, group: Group) -> tuple[float | None, float | None]:
        """Of the render and of its round trip through the autoencoder."""
        if self.floor is None:
            return None, None
        return _at(group, ("floors", RENDER, self.floor)), _at(group, ("floors", AUTOENCODER, self.floor))

    def write(self, value: float | None) -> str:
        return MISSING if value is None else f"{value * self.factor:.{self.digits}f}"

    def cell(self, group: Group) -> str:
        """The number, and floors in brackets where there are any."""
        floors = self.floors(group)
        beside = "" if floors == (None, None) else f" ({' / '.join(map(self.write, floors))})"
        return self.write(self.value(group)) + beside


@dataclass(frozen=True)
class Table:
    """Columns that belong together."""

    title: str
    note: str
    columns: tuple[Column, ...]


def _percent(title: str, meaning: str, name: str) -> Column:
    return Column(title, f"VBench: {meaning}, x100.", ("vbench", name), factor=100.0)


FLOOR_NOTE = (
    "After a number come its floors: what the same engine reports for the true render, and for the true render after "
    "the model's autoencoder and a video file. Smaller differences than these mean nothing."
)

CAMERA_TABLE = Table(
    "Camera and picture",
    "Camera columns are means over the scenes that did not fail. " + FLOOR_NOTE,
    (
        Column("RotErr", "Mean rotation error in degrees.", ("camera", "rot_err"), floor="rot_err"),
        Column("TransErr", "Mean distance of camera centres, units of the path.", ("camera", "trans_err"), 3,
               floor="trans_err"),
        Column("CamMC", "Mean distance of the pose matrices.", ("camera", "cam_mc"), 3, floor="cam_mc"),
        _percent("SC", "subject consistency", "subject_consistency"),
        _percent("BC", "background consistency", "background_consistency"),
        _percent("TF", "temporal flickering", "temporal_flickering"),
        _percent("MS", "motion smoothness", "motion_smoothness"),
        _percent("AQ", "aesthetic quality", "aesthetic_quality"),
        _percent("IQ", "imaging quality", "imaging_quality"),
        _percent("DD", "dynamic degree", "dynamic_degree"),
        _percent("OC", "overall consistency", "overall_consistency"),
        Column("Overall", "VBench quality score; only with all seven dimensions.", ("vbench", "overall")),
    ),
)  # fmt: skip

REVISIT_TABLE = Table(
    "Revisited places and stability",
    "PSNR, SSIM and LPIPS compare frames in which the camera has come back; means over all pairs.",
    (
        Column("pairs", "Scored revisit pairs.", ("revisit", "pairs"), 0),
        Column("PSNR", "Of revisit pairs, dB.", ("revisit", "psnr")),
        Column("SSIM", "Of revisit pairs, the release's window.", ("revisit", "ssim"), 3),
        Column("LPIPS", "Of revisit pairs, lower is more alike.", ("revisit", "lpips"), 3),
        Column("IQ first", "Imaging quality in the first window.", ("temporal", "imaging_quality", "first")),
        Column("IQ last", "Imaging quality in the last window.", ("temporal", "imaging_quality", "last")),
        Column("ΔIQ", "First less last window: positive where the picture gets worse.",
               ("temporal", "imaging_quality", "delta")),
    ),
)  # fmt: skip

OURS_TABLE = Table(
    "Against the truth, and diagnostics",
    "PSNR, SSIM and LPIPS compare the frames after the first with the true render. Floors as above; for likeness they "
    "are ceilings.",
    (
        Column("registered", "Share of sampled frames with a pose.", ("camera", "registered"), 3, floor="registered"),
        Column("of path", "TransErr over the length of the path, of scenes that move.",
               ("camera", "trans_err_of_path"), 3, floor="trans_err_of_path"),
        Column("length", "Path length over the length asked for.", ("camera", "path_length_ratio"), 3),
        Column("metres", "The same before any alignment, of engines that know metres.",
               ("camera", "metric_length_ratio"), 3),
        Column("rel. rot.", "Rotation error over 16 frames, degrees.", ("camera", "relative_rotation_deg"),
               floor="relative_rotation_deg"),
        Column("rel. trans.", "Error of the motion over 16 frames.", ("camera", "relative_translation"), 3,
               floor="relative_translation"),
        Column("RotErr U", "RotErr after Umeyama alignment.", ("camera", "umeyama_rot_err")),
        Column("TransErr U", "TransErr after Umeyama alignment.", ("camera", "umeyama_trans_err"), 3),
        Column("PSNR", "Against the truth, dB.", ("truth", "psnr"), floor="psnr"),
        Column("SSIM", "Against the truth.", ("truth", "ssim"), 3, floor="ssim"),
        Column("LPIPS", "Against the truth, lower is more alike.", ("truth", "lpips"), 3),
        Column("sharp first", "Sharpness over that of the truth, first window.", ("temporal", "ratio", "first"), 3,
               floor="sharpness_ratio"),
        Column("sharp last", "The same in the last window.", ("temporal", "ratio", "last"), 3),
        Column("sharp drift", "Sharpness in the last window over the first.", ("temporal", "relative", "last"), 3),
    ),
)  # fmt: skip

WINDOWS = (
    ("PSNR against the truth, dB", ("truth", "psnr_windows"), 2),
    ("sharpness over that of the truth", ("temporal", "ratio"), 3),
    ("sharpness over that of the first window", ("temporal", "relative"), 3),
    ("imaging quality", ("temporal", "imaging_quality", "windows"), 2),
)
"""Name, place in a group and digits of what is known for each window of time."""

TABLES = (CAMERA_TABLE, REVISIT_TABLE, OURS_TABLE)


def window_rows(group: Group) -> dict[str, list[str]]:
    """What is known for each of at least two windows: name -> a number, written, for each."""
    rows = {}
    for name, path, digits in WINDOWS:
        found: Any = group
        for step in path:
            found = found.get(step)
        if found is not None and len(found) > 1:
            rows[name] = [f"{value:.{digits}f}" for value in found]
    return rows


def window_titles(group: Group, count: int) -> list[str]:
    """From when to when each window goes."""
    seconds = group["temporal"]["window_seconds"] or 0.0
    return [f"{seconds * i:g}–{seconds * (i + 1):g} s" for i in range(count)]


def _at(group: Group, path: Sequence[str]) -> float | None:
    """The number at a path; of windows, "first" is the first and "last" the last of at least two."""
    found: Any = group
    for name in path:
        if isinstance(found, list):
            found = found[0] if name == "first" else found[-1] if len(found) > 1 else None
        else:
            found = None if found is None else found.get(name)
    if isinstance(found, Mapping):
        found = found["mean"]
    return None if found is None else float(found)
