"""Recipes: what is read, what may be changed from outside, and how wrong ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from sana_wm.errors import InputError
from sana_wm.training.recipe import ClipLength, Recipe, load_recipe
from tests.training.tiny import RECIPE, recipe


def test_the_packaged_recipe_is_complete() -> None:
    nano = load_recipe("nano")
    world, codec = nano.world, nano.autoencoder.model
    assert isinstance(nano, Recipe)
    assert (world.model.in_channels, world.model.caption_channels) == (codec.latent_channels, world.text.channels)
    assert world.model.caption_tokens == world.text.max_tokens
    assert isinstance(world.optimizer.lr, float)
    assert world.optimizer.betas == (0.9, 0.99)
    assert all(isinstance(length, ClipLength) for length in world.lengths)
    assert (nano.pipeline.height, nano.pipeline.width) == (nano.data.height, nano.data.width)


def test_settings_can_be_changed_by_path() -> None:
    changed = recipe("world.optimizer.steps=7", "autoencoder.batch=3", "world.bank_clips={17: 8, 25: 2}", "seed=9")
    assert (changed.world.optimizer.steps, changed.autoencoder.batch, changed.seed) == (7, 3, 9)
    assert changed.world.bank_clips == {17: 8, 25: 2}
    assert recipe("world.optimizer.lr=1e-4").world.optimizer.lr == 1e-4  # a string to YAML 1.1
    assert changed.autoencoder.optimizer == recipe().autoencoder.optimizer


def test_a_recipe_is_json_and_yaml() -> None:
    values = json.loads(json.dumps(recipe().to_dict()))
    assert values["world"]["model"]["width"] == 32
    assert values["autoencoder"]["optimizer"]["betas"] == [0.9, 0.99]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nanno", "'nanno' is neither a YAML file nor one of the packaged recipes .claims, nano, nano-causal, nano-fo"),
        ("no/such/file.yaml", "recipe 'no/such/file.yaml' is neither"),
        (".", r"recipe '\.' is neither"),
    ],
)
def test_a_missing_recipe_is_named(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_recipe(name)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("world.optimizer.step=7", "override 'world.optimizer.step=7': the recipe has no setting"),
        ("world.optimiser.steps=7", "the recipe has no setting 'world.optimiser.steps'"),
        ("seed.deeper=7", "the recipe has no setting 'seed.deeper'"),
        ("world.optimizer.steps", "'world.optimizer.steps' must look like"),
        ("world.optimizer.steps=[", r"override 'world.optimizer.steps=\['"),
        ("world.optimizer.steps=many", "world: optimizer: steps is 'many'"),
        ("world.optimizer.lr=", "lr is None"),
        ("world.optimizer=5", "world: optimizer: expected a mapping of settings, found 5"),
        ("world.lengths=[5]", "lengths: expected a mapping of settings, found 5"),
        ("world.model.depth=0", "transformer.depth is 0"),
    ],
)
def test_a_wrong_override_is_named(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        recipe(override)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seed: [1, 2", "not valid YAML"),
        ("", "expected a mapping of settings, found None"),
        ("- seed", "expected a mapping of settings"),
        ("seed: 5\nsead: 6", "unknown setting 'sead'; known are .*seed"),
        ("5: 6\nx: 7", "unknown setting '?5"),
        ("seed: 5", "missing .*'data'"),
        (b"seed: \xff\xfe", "not valid YAML|cannot be read"),
        ("seed: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_named(text: str | bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"broken.yaml.*{complaint}|{complaint}.*broken.yaml"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("world.lengths=[{frames: 9, bank: 33, batch: 2, share: 1.0}]", "bank of 33 frames"),
        ("world.lengths=[{frames: 25, bank: 17, batch: 2, share: 1.0}]", "25 frames"),
        ("world.lengths=[{frames: 10, bank: 17, batch: 2, share: 1.0}]", "10 frames"),
        ("world.lengths=[{frames: 9, bank: 17, batch: 2, share: 1.0, start: 2}]", "step 0"),
        ("world.lengths=[{frames: 9, bank: 17, batch: 2, share: 1.0, stop: 4}]", "step 4"),
        ("world.bank_refresh=5", "bank_refresh is 5"),
        ("world.bank_refresh=0", "bank_refresh is 0"),
        ("world.bank_every=0", "bank_every is 0"),
        ("world.camera_init=ajar", "camera_init is 'ajar'"),
    ],
)
def test_a_plan_that_would_fail_in_the_middle_of_a_run_is_refused_before_it(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        recipe(override)


def test_a_shared_recipe_has_its_part_of_every_batch() -> None:
    lengths = "[{frames: 9, bank: 17, batch: 4, share: 1.0}, {frames: 25, bank: 25, batch: 2, share: 1.0}]"
    whole = recipe("autoencoder.batch=6", f"world.lengths={lengths}")
    part = whole.shared_by(2)
    assert part.autoencoder.batch == 3
    assert [length.batch for length in part.world.lengths] == [2, 1]
    assert (part.world.bank_clips, part.world.bank_refresh) == ({17: 2, 25: 1}, 1)
    assert (part.seed, part.data, part.world.optimizer) == (whole.seed, whole.data, whole.world.optimizer)
    assert whole.shared_by(1) == whole


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("autoencoder.batch=3", "autoencoder.batch is 3; 2 processes need a multiple of 2"),
        ("world.bank_refresh=1", "world.bank_refresh is 1"),
        ("world.bank_clips={17: 4, 25: 3}", "world.bank_clips of 25 is 3"),
        ("world.lengths=[{frames: 9, bank: 17, batch: 3, share: 1.0}]", "a batch of world.lengths is 3"),
    ],
)
def test_what_cannot_be_shared_evenly_is_named(override: str, complaint: str) -> None:
    even = ["autoencoder.batch=2", "world.lengths=[{frames: 9, bank: 17, batch: 2, share: 1.0}]"]
    with pytest.raises(InputError, match=complaint):
        recipe(*even, override).shared_by(2)


def test_a_file_is_read_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(Path(RECIPE).read_text())))
    assert load_recipe(str(path)) == recipe()
