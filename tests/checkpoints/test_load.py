"""World models are written and come back the same; what is not a model is told so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sana_wm.checkpoints.load as load_module
from sana_wm.checkpoints.components import Components
from sana_wm.checkpoints.layout import ignored_keys, published_keys
from sana_wm.checkpoints.load import find_model, load_components, load_transformer
from sana_wm.checkpoints.published_config import PublishedConfig
from sana_wm.checkpoints.save import published_state, save_pretrained, save_published
from sana_wm.errors import InputError
from sana_wm.models.config import TransformerConfig
from tests.checkpoints.test_published_config import tiny_published
from tests.checkpoints.tiny import CONFIG, forward, tiny_components, tiny_transformer

CPU = torch.device("cpu")


def saved(tmp_path: Path, **options: object) -> Path:
    save_pretrained(tmp_path / "model", tiny_components(), **options)  # type: ignore[arg-type]
    return tmp_path / "model"


def video() -> torch.Tensor:
    return torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1


def edit(folder: Path, **changes: object) -> None:
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | changes))


def test_a_saved_world_comes_back_the_same(tmp_path: Path) -> None:
    before, after = tiny_components(), load_components(saved(tmp_path))
    assert after.settings == before.settings
    assert after.transformer.config == before.transformer.config
    assert torch.equal(forward(after.transformer), forward(before.transformer))
    assert torch.equal(after.codec.encode(video()), before.codec.encode(video()))
    for features, expected in zip(after.text_encoder.encode(["a"]), before.text_encoder.encode(["a"]), strict=True):
        assert torch.equal(features, expected)
    assert not after.transformer.training


def test_eight_bit_storage_is_smaller_and_close(tmp_path: Path) -> None:
    config = replace(CONFIG, width=128, num_heads=4)
    components = replace(tiny_components(), transformer=tiny_transformer(config))
    for storage in ("full", "int8"):
        save_pretrained(tmp_path / storage, components, storage=storage)  # type: ignore[arg-type]
    sizes = {name: (tmp_path / name / "dit" / "model.safetensors").stat().st_size for name in ("full", "int8")}
    assert sizes["int8"] < 0.3 * sizes["full"]
    exact, close = (forward(load_components(tmp_path / name).transformer) for name in ("full", "int8"))
    assert 0 < float((close - exact).norm() / exact.norm()) < 0.05


def test_the_dtype_is_of_the_large_part_and_decay_rates_stay_float32(tmp_path: Path) -> None:
    components = load_components(saved(tmp_path), dtype=torch.bfloat16)
    assert components.transformer.dtype == torch.bfloat16
    assert {p.dtype for p in components.codec.parameters()} == {torch.float32}
    assert {p.dtype for p in components.text_encoder.parameters()} == {torch.float32}
    rates = [p for name, p in components.transformer.named_parameters() if name.endswith(("A_log", "dt_bias"))]
    assert {rate.dtype for rate in rates} == {torch.float32}
    exact = forward(tiny_components().transformer)
    assert torch.allclose(forward(components.transformer).float(), exact, atol=0.05 * float(exact.abs().max()))


def test_nothing_heavy_is_imported_for_a_small_world(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    program = (
        "import sys; from sana_wm.checkpoints.load import load_components; "
        f"load_components({str(folder)!r}); "
        "print(sorted({'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_existing_directory_is_only_replaced_when_asked(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with pytest.raises(InputError, match="exists"):
        saved(tmp_path)
    (folder / "note").touch()
    saved(tmp_path, overwrite=True)
    assert not (folder / "note").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_world_and_no_litter(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    bad = tiny_components()
    with torch.no_grad():
        bad.transformer.x_embedder.proj.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=re.escape("x_embedder.proj.weight")):
        save_pretrained(folder, bad, storage="int8", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    load_components(folder)


def test_a_world_can_be_saved_over_the_files_it_is_mapped_from(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    components = load_components(folder)
    save_pretrained(folder, components, overwrite=True)
    assert torch.equal(forward(load_components(folder).transformer), forward(tiny_transformer()))
    assert torch.equal(forward(components.transformer), forward(tiny_transformer()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "'other' version 1"),
        ({"version": 2}, "version 2"),
        ({"codec": None}, "section 'codec' is None"),
        ({"codec": {"kind": "vq"}}, r"codec: kind is 'vq'; it must be one of nano, ltx2"),
        ({"text": {"kind": "nano", "chanels": 3}}, "unknown setting 'chanels'"),
        ({"text": {"kind": "gemma", "max_tokens": "many"}}, "text: max_tokens is 'many'; it must be a whole number"),
        ({"transformer": asdict(CONFIG) | {"extra": 1}}, "unknown setting 'extra'"),
        ({"transformer": asdict(replace(CONFIG, depth=6))}, "missing"),
        ({"transformer": asdict(replace(CONFIG, depth=2))}, "does not have"),
        ({"pipeline": {}}, "pipeline"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    folder = saved(tmp_path)
    edit(folder, **changes)
    with pytest.raises(InputError, match=message):
        load_components(folder)


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    parts = tiny_components()
    other = tiny_transformer(replace(CONFIG, in_channels=16))
    with pytest.raises(InputError, match="the transformer has 16 latent channels, the codec 8"):
        Components(other, parts.codec, parts.text_encoder, parts.settings)


def test_nano_without_its_weights_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load_module, "BUNDLED_DIRECTORY", tmp_path)
    with pytest.raises(InputError, match="nano"):
        find_model("nano")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no model"),
        (lambda path: path.mkdir(), r"model\.json, or config\.yaml and dit/\*\.safetensors, was looked for"),
        (lambda path: path.write_bytes(b""), "is a file; the directory of the model was expected"),
        (lambda path: ((path / "sana_dit").mkdir(parents=True), (path / "sana_dit/model.pt").touch()), "is a pickle"),
    ],
)
def test_what_is_not_a_model_is_told_what_was_looked_for(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "thing"
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        find_model(path)


def test_a_pickle_given_as_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    with pytest.raises(InputError, match="is a pickle"):
        load_components(tmp_path / "model.pt")


def test_published_weights_hold_every_key_but_pos_embed(tmp_path: Path) -> None:
    save_published(tmp_path / "model", tiny_transformer(), tiny_published())
    (file,) = (tmp_path / "model" / "dit").glob("*.safetensors")
    with safe_open(str(file), "pt") as stored:
        found = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118
    assert found == {key: spec.shape for key, spec in published_keys(CONFIG).items() if key != "pos_embed"}


def test_published_weights_load_whatever_the_ignored_ones_hold(tmp_path: Path) -> None:
    state = published_state(tiny_transformer())
    for key in ignored_keys(CONFIG) & state.keys():
        state[key] = torch.full_like(state[key], 3.0)
    state["pos_embed"] = torch.zeros(1, 16, 32)
    save_file({f"model.{key}": tensor for key, tensor in state.items()}, tmp_path / "a.safetensors")
    model = load_transformer(tmp_path / "a.safetensors", CONFIG, device=CPU, dtype=torch.float32)
    assert torch.equal(forward(model), forward(tiny_transformer()))


@pytest.mark.parametrize("max_shard_bytes", [None, 20_000])
def test_shards_are_one_model(tmp_path: Path, max_shard_bytes: int | None) -> None:
    save_published(tmp_path / "m", tiny_transformer(), tiny_published(), max_shard_bytes=max_shard_bytes)
    files = list((tmp_path / "m" / "dit").glob("*.safetensors"))
    assert (len(files) > 3) == (max_shard_bytes is not None)
    model = load_transformer(tmp_path / "m" / "dit", CONFIG, device=CPU, dtype=torch.float32)
    assert torch.equal(forward(model), forward(tiny_transformer()))


def test_published_weights_take_the_wanted_dtype(tmp_path: Path) -> None:
    save_published(tmp_path / "m", tiny_transformer(), tiny_published(), dtype=torch.bfloat16)
    stored = load_file(next((tmp_path / "m" / "dit").glob("*.safetensors")))
    assert stored["blocks.0.attn.qkv.weight"].dtype == torch.bfloat16
    assert stored["blocks.0.attn.A_log"].dtype == stored["blocks.1.attn.A_log"].dtype == torch.float32


def test_a_config_of_another_model_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the published config is of 20 blocks"):
        save_published(tmp_path / "m", tiny_transformer(), PublishedConfig())
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("field", "value"), [("key_scale", "head"), ("camera_paths", ("ucpe",))])
def test_what_the_release_would_compute_differently_is_not_published(field: str, value: object, tmp_path: Path) -> None:
    other = replace(CONFIG, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"has {field} .*, which the published layout cannot say"):
        save_published(tmp_path / "m", tiny_transformer(other), tiny_published())
    assert not (tmp_path / "m").exists()


def test_the_full_model_is_published_with_871_keys() -> None:
    with torch.device("meta"):
        from sana_wm.models.transformer import SanaWMTransformer

        model = SanaWMTransformer(TransformerConfig())
        assert len(published_state(model)) == 871
