"""On a GPU: stages in streams of their own give the frames of single steps, and a saved world goes on with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.engine.recording import Recording, StreamFiles
from sana_wm.engine.sidecar import frames_sha256
from sana_wm.engine.streaming import stream_video
from sana_wm.engine.world import World
from tests.engine.test_streaming import FAST, conditions_of, world_of
from tests.engine.tiny import picture, tiny_components

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def pipe(request: pytest.FixtureRequest) -> SanaWMPipeline:
    parts = tiny_components()
    transformer = parts.transformer.to("cuda", getattr(torch, request.param))
    return SanaWMPipeline(transformer, parts.codec.to("cuda"), parts.text_encoder.to("cuda"), parts.settings)


def test_stages_side_by_side_give_the_frames_of_single_steps(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    moves = ["w", "dw", "none", "a"] * 3
    conditions = conditions_of(pipe, ",".join(f"{keys}-24" for keys in moves))
    for attempt in range(3):  # a race would not show every time
        world = world_of(pipe, conditions)
        with Recording.begin(world, conditions, StreamFiles.of(tmp_path, f"{attempt}"), 16) as recording:
            stream_video(world, conditions, recording)
        live = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=FAST)
        assert recording.chunk_hashes == [frames_sha256(live.step(keys)) for keys in moves]


def test_a_saved_world_goes_on_with_the_same_frames(pipe: SanaWMPipeline, tmp_path: Path) -> None:
    world = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=FAST)
    for keys in ("w", "d"):
        world.step(keys)
    loaded = World.load(pipe, world.save(tmp_path / "w.safetensors"))
    assert loaded.state.nbytes == world.state.nbytes
    for keys in ("w", "a", "s"):
        assert frames_sha256(loaded.step(keys)) == frames_sha256(world.step(keys))


def test_memory_does_not_grow(pipe: SanaWMPipeline) -> None:
    world = World.begin(pipe, picture(), "a street", fov=70.0, seed=3, plan=FAST)
    held = []
    for _ in range(10):
        world.step("w")
        held.append(torch.cuda.memory_allocated())
    assert len(set(held[5:])) == 1  # by then steps are recorded
