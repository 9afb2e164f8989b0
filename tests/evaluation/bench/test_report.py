"""The report: one file that needs nothing else, names every scene, and shows what went wrong first."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sana_wm.evaluation.bench.aggregate import summarise
from sana_wm.evaluation.bench.folder import MethodFolder
from sana_wm.evaluation.bench.report.scenes import shrunk
from sana_wm.evaluation.bench.report.svg import MOST_POINTS, Line, line_chart, nice_ticks, path_plot
from sana_wm.evaluation.bench.report.write import write_report
from sana_wm.evaluation.bench.scene_sheet import sheet_frames, write_scene_sheet
from tests.evaluation.bench.results import camera, result, revisit, temporal, truth, without_video


def full(scene_id: str, rot_err: float, **changes: Any) -> dict[str, Any]:
    sheet = {"frames": [0, 8, 16], "rows": ["truth", "generated"]}
    parts = {
        "camera": camera(rot_err, **changes), "truth": truth(20.0, [22.0, 19.0]), "revisit": revisit(15.0),
        "temporal": temporal([0.9, 0.6]), "vbench": {"temporal_flickering": 0.9}, "sheet": sheet,
    }  # fmt: skip
    return result(scene_id, **parts)


@pytest.fixture
def report(tmp_path: Path) -> str:
    scenes = [
        full("indoor_001", 1.0), full("indoor_002", 9.0), full("game_001", 3.0, failed="too <few> poses"),
        without_video("game_002", "the model made no video"),
    ]  # fmt: skip
    settings = {
        "benchmark": "tiny", "generation": {"model": "nano", "seed": 42, "flow_shift": None}, "engine": "gt-pnp",
        "interval": 4, "skip_first_frame": True,
    }  # fmt: skip
    summary = summarise(
        {"simple": scenes}, {}, method={"model": "nano", "fps": 16}, settings=settings, missing={"LPIPS": "no weights"}
    )
    folder = MethodFolder(tmp_path)
    frames = [torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8) for _ in range(3)]
    write_scene_sheet(folder.sheet("simple", "indoor_001"), [frames, frames])
    write_report(folder, summary, {"simple": scenes})
    return folder.report.read_text(encoding="utf-8")


def test_the_report_needs_nothing_from_elsewhere(report: str) -> None:
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", report)
    sources = re.findall(r'src="([^"]{0,30})', report)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_every_scene_is_named_and_what_failed_comes_first_with_its_reason(report: str) -> None:
    blocks = re.findall(r"<summary><b>(\w+)</b>", report)
    assert set(blocks[:2]) == {"game_001", "game_002"}
    assert blocks[2:] == ["indoor_002", "indoor_001"]
    top = report[: report.index("<h2 id=")]
    assert "2 scenes failed" in top
    assert "too &lt;few&gt; poses" in top
    assert "the model made no video" in top
    assert "no weights" in top
    assert "&lt;indoor_001&gt; &amp; its" in report


def test_numbers_floors_and_missing_columns_are_told(report: str) -> None:
    assert "<td>5.00<small>0.05 / 0.50</small></td>" in report
    assert "Missing in this run: SC, BC, MS, AQ, IQ, DD, OC, Overall." in report
    assert "RotErr 9.00° (0.50)" in report
    assert "frame 0 left out" in report


def test_the_charts_are_well_formed(report: str) -> None:
    charts = re.findall(r"<svg.*?</svg>", report, re.DOTALL)
    assert len(charts) > 12
    for chart in charts:
        numbers = [float(value) for value in re.findall(r"-?\d+\.\d+", chart)]
        assert all(abs(value) < 1000 for value in numbers)
        ET.fromstring(chart)


def test_a_curve_breaks_where_it_is_unknown_and_long_ones_are_averaged() -> None:
    chart = line_chart("t", [Line([0, 1, 2, 3, 4], [1.0, 2.0, None, 3.0, 4.0], "made")], "s")
    assert chart.count("<polyline") == 2
    long = line_chart("t", [Line(range(2000), [float(i % 7) for i in range(2000)], "made")], "s")
    points = re.findall(r'points="([^"]+)"', long)[0].split()
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS
    assert line_chart("t", [Line([0, 1], [None, None], "made")], "s") == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 1e-4), (0.0, 7.3), (18.2, 33.9), (-3.0, 1200.0), (0.0, 1.0)])
def test_ticks_are_few_round_and_cover_the_values(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + 1e-12
    assert high - ticks[-1] <= ticks[1] - ticks[0]


def test_paths_that_do_not_move_or_were_not_found_are_drawn() -> None:
    still = path_plot([(0.0, 0.0)] * 3, [None, (0.0, 0.0), None])
    assert "nan" not in still
    ET.fromstring(still)


def test_pictures_are_made_smaller_to_fit(tmp_path: Path) -> None:
    rows = [[torch.randint(0, 256, (3, 100, 320), dtype=torch.uint8) for _ in sheet_frames(81)]]
    write_scene_sheet(tmp_path / "a.jpg", rows)
    size = (tmp_path / "a.jpg").stat().st_size
    assert shrunk(tmp_path / "a.jpg", size) == (tmp_path / "a.jpg").read_bytes()
    small = shrunk(tmp_path / "a.jpg", size // 3)
    assert len(small) <= size // 3
    with Image.open(io.BytesIO(small)) as picture:
        assert 240 <= picture.width < 1440


def test_a_sheet_shows_first_and_last_frame_of_short_videos_too() -> None:
    assert sheet_frames(81) == [0, 16, 32, 48, 64, 80]
    assert sheet_frames(3) == [0, 1, 2]
    assert sheet_frames(1) == [0]
