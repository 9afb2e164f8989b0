"""The release's config.yaml: what is read, what is derived from the weights, and how they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sana_wm.checkpoints.derive import derive_transformer_config, padded_head_dim
from sana_wm.checkpoints.layout import published_keys
from sana_wm.checkpoints.published_config import PublishedConfig, read_published_config, write_published_config
from sana_wm.errors import InputError
from sana_wm.models.config import PIPELINES, TRANSFORMERS, ChunkSettings, StreamSettings, TransformerConfig
from tests.checkpoints.tiny import CONFIG

FULL = TRANSFORMERS["2.6b"]
DOCUMENT = """
work_dir: output/x
model:
  model: SanaMSVideoCamCtrl_1600M_P1_D20
  image_size: 720
  fp32_attention: true
  chunk_split_strategy: first_chunk_plus_one
vae:
  vae_pretrained: Efficient-Large-Model/SANA-WM_bidirectional
text_encoder:
  text_encoder_name: gemma-2-2b-it
  model_max_length: 300
  caption_channels: 2304
  chi_prompt:
    - 'First line:'
    - ''
    - 'User Prompt: '
scheduler:
  flow_shift: 9.95
  inference_flow_shift: 9.8
  vis_sampler: flow_dpm-solver
train:
  lr: 1.0e-5
"""


def read(tmp_path: Path, text: str) -> PublishedConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return read_published_config(path)


def tiny_published(config: TransformerConfig = CONFIG) -> PublishedConfig:
    return PublishedConfig(
        model_name=f"SanaMSVideoCamCtrl_1M_P1_D{config.depth}",
        model_max_length=config.caption_tokens,
        caption_channels=config.caption_channels,
    )


def shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    return {key: spec.shape for key, spec in published_keys(config).items()}


def test_the_fields_that_matter_are_read(tmp_path: Path) -> None:
    published = read(tmp_path, DOCUMENT)
    assert published == PublishedConfig(
        chi_prompt=("First line:", "", "User Prompt: "), chunk_split_strategy="first_chunk_plus_one"
    )
    assert published.depth == 20
    assert published.prefix == "First line:\n\nUser Prompt: "
    assert published.text_encoder_repo == "Efficient-Large-Model/gemma-2-2b-it"
    assert published.settings() == PIPELINES["2.6b"]


def test_absent_fields_take_the_releases_values(tmp_path: Path) -> None:
    published = read(tmp_path, "model: {model: SanaMSVideoCamCtrl_1600M_P1_D20}")
    assert published == replace(PublishedConfig(), inference_flow_shift=None)
    assert published.settings().flow_shift == 9.95


def test_the_picture_size_is_height_then_width(tmp_path: Path) -> None:
    published = read(tmp_path, DOCUMENT.replace("image_size: 720", "image_size: [352, 640]"))
    assert (published.settings().height, published.settings().width) == (352, 640)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DOCUMENT.replace("SanaMSVideoCamCtrl_1600M_P1_D20", "SanaMS_600M_P1_D28"), "'SanaMS_600M_P1_D28'"),
        ("model: {}", "the model is ''"),
        ("- a", "holds list"),
        ("model: 3", "model is 3"),
        ("model: [", "cannot be read as YAML"),
        ("!!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        (DOCUMENT.replace("9.95", "high"), r"scheduler\.flow_shift is 'high'; float was expected"),
        (DOCUMENT.replace("9.95", "true"), r"scheduler\.flow_shift is True"),
        (DOCUMENT.replace("300", "3.5"), r"text_encoder\.model_max_length is 3\.5"),
        (DOCUMENT.replace("image_size: 720", "image_size: [720]"), r"model\.image_size is \[720\]"),
        (DOCUMENT.replace("- ''", "- 5"), r"text_encoder\.chi_prompt is"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml cannot be read"):
        read_published_config(tmp_path / "config.yaml")


def test_a_model_that_takes_its_chunks_by_stairs_is_read_but_not_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chunk_flow_euler"):
        read(tmp_path, DOCUMENT.replace("flow_dpm-solver", "chunk_flow_euler")).settings()


STREAMING = DOCUMENT.replace("CamCtrl_", "CamCtrlStreaming_").replace("flow_dpm-solver", "self_forcing_flow_euler")


def test_a_streaming_model_brings_its_steps_chunks_and_window(tmp_path: Path) -> None:
    text = STREAMING.replace("  image_size: 720", "  chunk_size: 3").replace("inference_flow_shift: 9.8", "x: 1")
    settings = read(tmp_path, text).settings()
    assert settings.stream == StreamSettings(
        ChunkSettings(3, "first_chunk_plus_one", 2, True), (1000, 960, 889, 727, 0), "euler", 1.0
    )
    assert (settings.num_inference_steps, settings.guidance_scale, settings.num_frames) == (4, 1.0, 241)
    assert (settings.height, settings.width, settings.fps) == (704, 1280, 16)


def test_what_a_streaming_config_says_of_its_steps_chunks_and_window_counts(tmp_path: Path) -> None:
    said = "denoising_step_list: [1000, 764, 0]\n  num_cached_blocks: -1\n  sink_token: false\n  vis_sampler"
    text = STREAMING.replace("vis_sampler", said).replace("first_chunk_plus_one", "First_Plus_One\n  chunk_size: 6")
    settings = read(tmp_path, text).settings()
    assert settings.stream == StreamSettings(ChunkSettings(6, "first_chunk_plus_one", 0, False), (1000, 764, 0))
    assert settings.num_inference_steps == 2
    as_flag = text.replace("[1000, 764, 0]", '"1000,764,0"')
    assert read(tmp_path, as_flag).settings() == settings


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("[1000, 500]", "timesteps is"),
        ("[500, 1000, 0]", "timesteps is"),
        ("[]", r"denoising_step_list is \[\]"),
        ("[many, 0]", r"scheduler\.denoising_step_list is"),
        ("[true, 0]", r"scheduler\.denoising_step_list is"),
        ("[1000, .nan, 0]", "timesteps is"),
    ],
)
def test_steps_that_lead_nowhere_are_refused(tmp_path: Path, steps: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, STREAMING.replace("vis_sampler", f"denoising_step_list: {steps}\n  vis_sampler")).settings()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    published = replace(tiny_published(), height=64, chi_prompt=("Say é: ", ""), softmax_every_n=2)
    streaming = PublishedConfig.streaming(4, model_max_length=9, caption_channels=24)
    streaming = replace(streaming, softmax_every_n=2, denoising_step_list=(1000.0, 764.0, 0.0), sink_token=False)
    for one in (published, streaming):
        write_published_config(tmp_path / "config.yaml", one, CONFIG)
        assert read_published_config(tmp_path / "config.yaml") == one


def test_the_written_file_uses_the_releases_names_and_sections(tmp_path: Path) -> None:
    write_published_config(tmp_path / "config.yaml", PublishedConfig(chi_prompt=("a", "b")), FULL)
    document = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert document["model"]["model"] == "SanaMSVideoCamCtrl_1600M_P1_D20"
    assert document["model"]["chunk_size"] is None
    assert document["model"]["chunk_plucker_channels"] == 48
    assert document["vae"]["vae_pretrained"] == "Efficient-Large-Model/SANA-WM_bidirectional"
    assert document["text_encoder"]["chi_prompt"] == ["a", "b"]
    assert document["scheduler"] == {
        "flow_shift": 9.95,
        "inference_flow_shift": 9.8,
        "vis_sampler": "flow_dpm-solver",
    }


def test_the_full_models_shapes_give_the_full_preset() -> None:
    assert derive_transformer_config(shapes(FULL), PublishedConfig(), "file") == FULL


@pytest.mark.parametrize("every", [1, 2, 3, 5])
@pytest.mark.parametrize("ratio", [2.5, 3.0, 1.03])
def test_any_size_is_derived(every: int, ratio: float) -> None:
    config = replace(CONFIG, softmax_every_n=every, mlp_ratio=ratio, conv_kernel=3)
    derived = derive_transformer_config(shapes(config), tiny_published(config), "file")
    assert shapes(derived) == shapes(config)
    assert derived.num_heads == config.num_heads
    # The release pads a 16-wide head to 128 in camera attention, which sets its logit scale.
    assert derived.softmax_scale_cam == 128**-0.5
    assert derived.truncate_timesteps


def test_a_streaming_model_scales_by_the_true_width_of_a_head() -> None:
    streaming = PublishedConfig.streaming(4, model_max_length=9, caption_channels=24)
    assert derive_transformer_config(shapes(CONFIG), streaming, "file") == CONFIG


@pytest.mark.parametrize("shape", [(), (3,), (0, 0, 1, 1, 1)])
def test_sizes_of_the_wrong_rank_are_refused(shape: tuple[int, ...]) -> None:
    broken = {**shapes(CONFIG), "x_embedder.proj.weight": shape}
    with pytest.raises(InputError, match=r"x_embedder\.proj\.weight is \("):
        derive_transformer_config(broken, tiny_published(), "file")


def test_gates_of_softmax_blocks_may_be_absent() -> None:
    kept = {key: spec.shape for key, spec in published_keys(CONFIG).items() if spec.used}
    assert derive_transformer_config(kept, tiny_published(), "file").num_heads == CONFIG.num_heads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "SanaMSVideoCamCtrl_1M_P1_D5"}, "depth 5, but the weights have 4"),
        ({"caption_channels": 25}, "caption_channels 25"),
        ({"model_max_length": 300}, "model_max_length 300"),
        ({"softmax_every_n": 4}, "softmax_every_n 4"),
    ],
)
def test_a_config_of_another_model_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        derive_transformer_config(shapes(CONFIG), replace(tiny_published(), **change), "file")  # type: ignore[arg-type]


def test_softmax_blocks_at_irregular_places_are_refused() -> None:
    broken = shapes(CONFIG)
    del broken["blocks.2.attn.conv_k.weight"]
    with pytest.raises(InputError, match=r"blocks \[1, 2, 3\] are softmax"):
        derive_transformer_config(broken, tiny_published(), "file")


def test_missing_sizes_are_named() -> None:
    with pytest.raises(InputError, match=r"missing: 3 \(plucker_embedder\.proj\.weight"):
        derive_transformer_config({"blocks.0.mlp.point_conv.conv.weight": (1, 1, 1, 1)}, tiny_published(), "file")


@pytest.mark.parametrize(("head", "padded"), [(16, 128), (32, 32), (112, 128), (128, 128), (136, 256), (256, 256)])
def test_camera_heads_are_padded_like_the_release(head: int, padded: int) -> None:
    assert padded_head_dim(head) == padded
