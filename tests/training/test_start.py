"""Where a run begins: at a trained model, or from nothing with closed or open camera paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.load import load_components
from sana_wm.checkpoints.save import save_pretrained
from sana_wm.errors import InputError
from sana_wm.training.progress import Stop, checkpoints
from sana_wm.training.start import load_start
from sana_wm.training.train import train
from tests.training import tiny
from tests.training.tiny import CPU, assert_same, log

KEEP_CODEC = ("autoencoder.optimizer.steps=0",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, in full and in eight bits, whose codec has statistics of its own."""
    directory = tmp_path_factory.mktemp("trained")
    recipe = tiny.recipe("seed=11")
    codec = tiny.codec(recipe)
    codec.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    codec.latents_std.copy_(torch.tensor([0.5, 2.0, 1.0, 1.5]))
    model = tiny.world(recipe).finished()
    parts = Components(model.transformer, codec, model.text, recipe.pipeline)
    save_pretrained(directory / "model", parts)
    save_pretrained(directory / "model_int8", parts, storage="int8")
    return directory


def run(directory: Path, init: Path | None, *overrides: str) -> Path | None:
    name = None if init is None else str(init)
    return train(tiny.recipe(*overrides), directory, device=CPU, stop=Stop(), workers=0, init=name)


@pytest.mark.parametrize("name", ["model", "model_int8"])
def test_both_stages_begin_with_the_weights_of_the_model(name: str, trained: Path) -> None:
    """And so do their averages."""
    start = load_start(str(trained / name), tiny.recipe())
    parts = load_components(trained / name, device=CPU, dtype=torch.float32)
    world, codec = tiny.world(tiny.recipe(), start=start), tiny.autoencoder(tiny.recipe(), start=start.codec)
    assert_same(world.model.transformer.state_dict(), parts.transformer.state_dict())
    assert_same(world.model.text.state_dict(), parts.text_encoder.state_dict())
    assert_same(codec.model.state_dict(), parts.codec.state_dict())
    for stage in (world, codec):
        assert_same(stage.optimizer.ema.average, {k: p.detach() for k, p in stage.model.named_parameters()})
        assert not stage.optimizer.adamw.state


@pytest.mark.parametrize("name", ["model", "model_int8"])
def test_without_autoencoder_steps_the_codec_is_kept(name: str, trained: Path, tmp_path: Path) -> None:
    """With its statistics, and to the bit."""
    assert run(tmp_path, trained / name, *KEEP_CODEC) == tmp_path / "model"
    found, expected = (load_components(folder, dtype=torch.float32) for folder in (tmp_path / "model", trained / name))
    assert_same(found.codec.state_dict(), expected.codec.state_dict())
    assert not (tmp_path / "autoencoder").exists()
    moved = {k: v for k, v in found.transformer.state_dict().items() if "qkv" in k}
    assert not any(torch.equal(value, expected.transformer.state_dict()[k]) for k, value in moved.items())
    record = json.loads((tmp_path / "recipe.json").read_text())["init"]
    assert record["model"] == str(trained / name)
    assert len(record["sha256"]) == 64


def test_a_run_from_a_model_goes_on_exactly(trained: Path, tmp_path: Path) -> None:
    init = trained / "model"
    run(tmp_path / "whole", init, *KEEP_CODEC)
    run(tmp_path / "parts", init, *KEEP_CODEC, "world.optimizer.steps=0")
    stop = Stop()
    step = iter(range(100))
    stop.due = lambda: next(step) == 3  # type: ignore[method-assign]
    settings = {"device": CPU, "stop": stop, "workers": 0, "init": str(init)}
    assert train(tiny.recipe(*KEEP_CODEC), tmp_path / "parts", **settings) is None  # type: ignore[arg-type]
    assert [path.name for path in checkpoints(tmp_path / "parts" / "world")][-1] == "step_00000003"
    run(tmp_path / "parts", init, *KEEP_CODEC)
    assert log(tmp_path / "parts" / "world") == log(tmp_path / "whole" / "world")
    found, expected = (load_components(tmp_path / name / "model") for name in ("parts", "whole"))
    assert_same(found.transformer.state_dict(), expected.transformer.state_dict())


def test_a_run_stays_with_the_weights_it_began_with(trained: Path, tmp_path: Path) -> None:
    """They count, not their path."""
    recorded = tmp_path / "run" / "recipe.json"
    steps = (*KEEP_CODEC, "world.optimizer.steps=0")
    run(tmp_path / "run", trained / "model", *steps)
    kept = recorded.read_text()
    for other in (None, trained / "model_int8"):
        with pytest.raises(InputError, match=f"{tmp_path}/run holds a run that started from {trained}/model"):
            run(tmp_path / "run", other, "autoencoder.optimizer.steps=1")
    assert recorded.read_text() == kept
    moved = tmp_path / "moved"
    moved.symlink_to(trained / "model")
    assert run(tmp_path / "run", moved, *steps) is not None


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("world.model.depth=3", "world.model.depth of the recipe is 3, but .*/model has 2"),
        ("world.text.layers=2", "world.text.layers of the recipe is 2, but .*/model has 1"),
        ("autoencoder.model.decoder_blocks=[1, 1, 2]", r"autoencoder.model.decoder_blocks of the recipe is \(1, 1, 2"),
        ("world.model.truncate_timesteps=true", "world.model.truncate_timesteps of the recipe is True"),
    ],
)
def test_a_model_that_the_recipe_does_not_describe_is_refused(
    override: str, complaint: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=complaint):
        run(tmp_path / "run", trained / "model", override)
    assert not (tmp_path / "run").exists()


def test_a_fresh_world_takes_the_codec_alone(trained: Path, tmp_path: Path) -> None:
    deeper = ("world.fresh=true", "world.model.depth=3", "world.text.layers=2", "world.optimizer.steps=0")
    run(tmp_path, trained / "model", *KEEP_CODEC, *deeper)
    folders = (tmp_path / "model", trained / "model")
    found, expected = (load_components(folder, dtype=torch.float32) for folder in folders)
    assert_same(found.codec.state_dict(), expected.codec.state_dict())
    assert len(found.transformer.blocks) == 3
    mine, theirs = (parts.transformer.state_dict()["blocks.0.attn.qkv.weight"] for parts in (found, expected))
    assert not torch.equal(mine, theirs)


def test_a_missing_model_and_a_missing_codec_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no/such/model"):
        run(tmp_path / "run", Path("no/such/model"))
    with pytest.raises(InputError, match=r"autoencoder.optimizer.steps is 0 .* give --init"):
        run(tmp_path / "run", None, *KEEP_CODEC)
    assert not (tmp_path / "run").exists()


def camera_effect(camera_init: str) -> list[bool]:
    """Whether each of the two camera inputs alone changes what a fresh model says."""
    model = tiny.world(tiny.recipe(f"world.camera_init={camera_init}")).model.transformer.eval()
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 4, 2, 1, 2, generator=g), torch.randn(1, 1, 4, 24, generator=g)
    cameras = torch.cat([torch.eye(4).flatten(), torch.tensor([2.0, 2.0, 1.0, 0.5])]).expand(1, 2, 20)
    rays = torch.randn(1, 48, 2, 1, 2, generator=g)
    with torch.no_grad():
        plain, branch, plucker = (
            model(x, torch.tensor([500.0]), y, None, *given) for given in ((None, None), (cameras, None), (None, rays))
        )
    return [not torch.equal(plain, said) for said in (branch, plucker)]


def test_open_camera_paths_act_from_the_first_step_and_silent_ones_do_not() -> None:
    assert camera_effect("silent") == [False, False]
    assert camera_effect("open") == [True, True]


def test_opening_the_cameras_changes_nothing_else() -> None:
    recipes = (tiny.recipe(f"world.camera_init={how}") for how in ("silent", "open"))
    silent, opened = (tiny.world(recipe).model.state_dict() for recipe in recipes)
    changed = {name for name, value in silent.items() if not torch.equal(opened[name], value)}
    paths = ("out_proj_cam.weight", "plucker_embedder.proj.weight")
    assert changed == {name for name in silent if name.endswith(paths)}
