"""The page in a real browser: what somebody clicks and holds is what the world does."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.geometry.actions import rollout
from sana_wm.serving.walk import Walk, chunk_hash
from tests.engine.tiny import picture
from tests.serving.live import Place, Serve, live_pipe

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if BROWSER is None:
    pytest.skip("needs a chromium on the path", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the packages of the extra 'browser'")

FPS = 64
"""Four times as fast as usual, so that nobody waits for a chunk to be shown."""
LEADS = {
    "w": (0, 1, 0), "s": (0, -1, 0), "l": (1, 0, 0), "j": (-1, 0, 0), "d": (0, 0, 1), "a": (0, 0, -1),
    "ArrowUp": (0, 1, 0), "ArrowLeft": (0, 0, -1),
}  # fmt: skip
"""Signs of the way to the right, the way ahead and the turn to the right."""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def quick() -> SanaWMPipeline:
    return live_pipe(fps=FPS)


class Visitor:
    """Somebody in front of the page, and what went wrong for them."""

    def __init__(self, browser: Any, place: Place, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.wrong.append(message.text))
        self.page.goto(place.url)
        self.until("document.getElementById('model').textContent")

    def until(self, holds: str, seconds: float = 20.0) -> None:
        ends = time.monotonic() + seconds
        while not self.page.evaluate(f"Boolean({holds})"):
            assert time.monotonic() < ends, (holds, self.wrong)
            time.sleep(0.02)

    def begin(self) -> None:
        self.page.click("#begin")
        self.page.wait_for_selector("body[data-state=walk]")

    def chunks(self, count: int) -> None:
        self.until(f"document.querySelectorAll('#chunks li').length >= {count + 1}")

    def rest(self) -> None:
        """Wait until the world waits."""
        self.until("document.getElementById('hint').textContent.includes('waits')")

    def shown(self) -> npt.NDArray[np.uint8]:
        """What is on the screen."""
        data = self.page.evaluate("document.getElementById('screen').toDataURL('image/png').split(',')[1]")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))

    def download(self, button: str, path: Path) -> bytes:
        with self.page.expect_download() as waiting:
            self.page.click(button)
        waiting.value.save_as(path)
        return path.read_bytes()

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *reason: object) -> None:
        self.context.close()


def steps_of(data: bytes) -> list[str]:
    return [step.keys for step in Walk.of(json.loads(data)).steps]


def test_upload_walk_record_rewind_branch_and_download(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    picture(640, 384).save(tmp_path / "street.png")
    with Visitor(browser, serve(pipe=quick)) as visitor:
        page = visitor.page
        page.set_input_files("#file", tmp_path / "street.png")
        visitor.until("document.querySelector('[value=own]').checked")
        page.fill("#prompt", "a street")
        visitor.begin()
        visitor.until("document.querySelectorAll('#chunks li').length == 1")
        first = visitor.shown()
        small = np.asarray(picture(640, 384).resize((48, 32)))
        assert np.abs(first.astype(int) - small).mean() < 12  # the picture that was uploaded

        page.keyboard.press("Tab")  # focus moves on, and keys still walk
        page.click("#record")
        page.keyboard.down("w")
        visitor.chunks(1)
        assert page.evaluate("document.querySelector('kbd[data-key=w]').classList.contains('on')")
        page.keyboard.up("w")
        visitor.rest()
        page.click("#record")
        assert page.get_attribute("#record", "aria-pressed") == "false"
        one = json.loads(visitor.download("#walk", tmp_path / "one.json"))
        assert steps_of(json.dumps(one).encode())[0] == "w-24"
        assert np.abs(visitor.shown().astype(int) - first).mean() > 2
        count = len(one["steps"])

        # The frames on the page are those the engine makes of the same moves, and the video shows them.
        walk = Walk.of(one)
        made = list(walk.replay(quick))
        assert [chunk_hash(frames) for frames in made] == [step.sha256 for step in walk.steps]
        visitor.until("document.getElementById('fps').textContent != '–'")
        time.sleep(1)  # the rest of the last chunk is shown
        apart = [np.abs(visitor.shown().astype(int) - frame).mean() for frame in np.concatenate(made)]
        assert np.argmin(apart) == len(apart) - 1
        with av.open(io.BytesIO(visitor.download("#video", tmp_path / "one.mp4"))) as video:
            assert sum(1 for _ in video.decode(video=0)) == 24 * count + 1
        plays = """async (data) => {
            const video = document.createElement("video");
            video.src = URL.createObjectURL(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]));
            await new Promise((done, fail) => { video.onloadeddata = done; video.onerror = fail; });
            return [video.videoWidth, video.videoHeight, video.duration];
        }"""
        width, height, seconds = page.evaluate(plays, base64.b64encode((tmp_path / "one.mp4").read_bytes()).decode())
        assert (width, height) == (48, 32)
        assert seconds == pytest.approx((24 * count + 1) / FPS, abs=0.1)

        # Back to the end of the first chunk, and another way from there.
        page.click("#chunks li:nth-child(2) button")
        visitor.until("document.querySelectorAll('#chunks li').length == 2")
        page.keyboard.down("a")
        visitor.chunks(2)
        page.keyboard.up("a")
        visitor.rest()
        visitor.until("document.querySelectorAll('#branches button').length == 2")
        # What was recorded is still there; without it the JSON is the new branch.
        page.click("#branches button:nth-child(1)")
        visitor.until(f"document.querySelectorAll('#chunks li').length == {count + 1}")
        assert visitor.wrong == []


def test_keys_lead_the_camera_the_right_way(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    with Visitor(browser, serve(pipe=quick)) as visitor:
        visitor.begin()
        for key, leads in LEADS.items():
            visitor.page.click("#chunks li:first-child button")
            visitor.until("document.querySelectorAll('#chunks li').length == 1")
            visitor.page.keyboard.down(key)
            visitor.chunks(1)
            visitor.page.keyboard.up(key)
            visitor.rest()
            walk = Walk.of(json.loads(visitor.download("#walk", tmp_path / "walk.json")))
            end = rollout(walk.steps[0].keys)[-1]
            found = (float(end[0, 3]), float(end[2, 3]), float(torch.atan2(end[0, 2], end[2, 2])))
            assert tuple(int(np.sign(round(value, 3))) for value in found) == leads, key
        assert visitor.wrong == []


def test_dragging_the_picture_looks_around(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    with Visitor(browser, serve(pipe=quick)) as visitor:
        visitor.begin()
        box = visitor.page.locator("#screen").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        visitor.page.mouse.move(x, y)
        visitor.page.mouse.down()
        visitor.page.mouse.move(x - 60, y, steps=3)
        visitor.page.mouse.up()
        visitor.chunks(1)
        visitor.rest()
        keys = ",".join(steps_of(visitor.download("#walk", tmp_path / "walk.json")))
        assert keys.startswith("d-")
        assert not set(keys) & set("awsjlik")


def test_the_sticks_of_a_phone_walk_and_everything_fits(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    with Visitor(browser, serve(pipe=quick), **PHONE) as visitor:
        visitor.begin()
        page = visitor.page
        for name in ("#screen", "#map", "#stick-move", "#stick-look", "#record", "#video", "#walk", "#again"):
            box = page.locator(name).bounding_box()
            assert box["x"] >= 0, name
            assert box["x"] + box["width"] <= 390, name
            assert box["y"] + box["height"] <= 844, name
        box = page.locator("#stick-move").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 8)
        page.mouse.down()
        visitor.chunks(1)
        page.mouse.up()
        visitor.rest()
        assert steps_of(visitor.download("#walk", tmp_path / "walk.json"))[0] == "w-24"
        assert visitor.wrong == []


def test_what_goes_wrong_is_said_and_one_can_begin_again(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    (tmp_path / "no.png").write_text("no picture")
    place = serve(pipe=quick)
    with Visitor(browser, place) as visitor:
        visitor.page.set_input_files("#file", tmp_path / "no.png")
        visitor.until("document.getElementById('wrong').textContent.includes('no picture')")
        visitor.begin()
        visitor.page.click("#again")
        visitor.page.wait_for_selector("body[data-state=start]")
        place.wait(lambda: place.house.line.inside == 0, 2)
        visitor.begin()
        assert visitor.wrong == []


def test_nothing_is_held_or_recorded_any_more_in_the_next_world(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    with Visitor(browser, serve(pipe=quick)) as visitor:
        page = visitor.page
        visitor.begin()
        assert page.evaluate("document.activeElement.id") == "screen"
        page.click("#record")
        page.keyboard.down("w")
        visitor.chunks(1)
        page.click("#again")
        assert page.evaluate("document.querySelector('main').inert")  # the tab key stays in the form
        assert page.evaluate("document.activeElement.id") == "begin"
        page.keyboard.up("w")
        visitor.begin()
        assert (page.inner_text("#record"), page.get_attribute("#record", "aria-pressed")) == ("Record", "false")
        page.keyboard.down("a")
        visitor.chunks(1)
        page.keyboard.down("Control")
        page.keyboard.up("a")  # let go while something else is held
        page.keyboard.up("Control")
        visitor.rest()
        steps = steps_of(visitor.download("#walk", tmp_path / "walk.json"))
        assert set("".join(steps)) & set("awsdjlik") == {"a"}
        assert visitor.wrong == []


def test_what_is_transparent_in_a_picture_is_white(
    browser: Any, serve: Serve, quick: SanaWMPipeline, tmp_path: Path
) -> None:
    Image.new("RGBA", (320, 192), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with Visitor(browser, serve(pipe=quick)) as visitor:
        visitor.page.set_input_files("#file", tmp_path / "clear.png")
        visitor.until("document.querySelector('[value=own]').checked")
        visitor.page.fill("#prompt", "nothing")
        visitor.begin()
        visitor.until("document.querySelectorAll('#chunks li').length == 1")
        time.sleep(0.3)  # it is drawn a moment later
        assert visitor.shown().mean() > 250
