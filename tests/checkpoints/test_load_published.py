"""A published directory with real parts: hybrid transformer, LTX-2 codec and Gemma-2, all of them tiny."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from sana_wm.checkpoints.load import load_components
from sana_wm.checkpoints.published_config import PublishedConfig
from sana_wm.checkpoints.save import save_pretrained, save_published
from sana_wm.errors import InputError
from sana_wm.models.ltx2_tiling import Tiling
from sana_wm.models.ltx2_vae import Ltx2Codec
from sana_wm.models.text import GemmaTextEncoder
from tests.checkpoints.test_published_config import tiny_published
from tests.checkpoints.tiny import CONFIG, forward, tiny_transformer
from tests.models.test_ltx2_vae import tiny_vae
from tests.models.tiny_gemma import MAX_TOKENS, PREFIX, tiny_gemma, tiny_tokenizer

WIDE = replace(CONFIG, caption_channels=32, caption_tokens=MAX_TOKENS)


def published() -> PublishedConfig:
    return replace(tiny_published(WIDE), chi_prompt=tuple(PREFIX.split("\n")), height=64, width=64)


def write_published_model(folder: Path) -> Path:
    """As a user would have it: everything beside each other."""
    save_published(folder, tiny_transformer(WIDE), published(), codec=Ltx2Codec(tiny_vae()))
    tiny_gemma("Gemma2ForCausalLM").save_pretrained(folder / "text_encoder")
    tiny_tokenizer().save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_published_model(tmp_path / "model")


def test_all_parts_load_and_work_together(folder: Path) -> None:
    components = load_components(folder)
    assert components.transformer.config == WIDE
    assert torch.equal(forward(components.transformer), forward(tiny_transformer(WIDE)))
    assert isinstance(components.codec, Ltx2Codec)
    assert isinstance(components.text_encoder, GemmaTextEncoder)
    assert components.text_encoder.prefix == PREFIX
    assert (components.settings.height, components.settings.flow_shift) == (64, 9.8)
    features, mask = components.text_encoder.encode(["red fox"])
    latents = components.codec.encode(torch.zeros(1, 3, 9, 64, 64))
    velocity = components.transformer(latents, torch.tensor([[[0.0, 500.0]]]), features, mask)
    assert components.codec.decode(velocity.detach()).shape == (1, 3, 9, 64, 64)


def test_the_dtype_is_of_all_large_parts(folder: Path) -> None:
    components = load_components(folder, dtype=torch.bfloat16)
    assert components.transformer.dtype == torch.bfloat16
    assert next(components.codec.parameters()).dtype == torch.bfloat16
    assert components.text_encoder.encode(["red fox"])[0].dtype == torch.bfloat16


def test_weights_without_our_own_description_get_the_releases_semantics(folder: Path) -> None:
    (folder / "dit" / "config.json").unlink()
    config = load_components(folder).transformer.config
    assert config == replace(WIDE, softmax_scale_cam=128**-0.5)


def test_our_description_must_fit_the_weights(folder: Path) -> None:
    description = asdict(replace(WIDE, num_heads=4))
    (folder / "dit" / "config.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="beta_proj"):
        load_components(folder)


def test_parts_that_are_elsewhere_are_taken_from_where_the_config_says(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "vae").rename(other / "vae")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("Efficient-Large-Model/SANA-WM_bidirectional", str(other)))
    assert isinstance(load_components(folder).codec, Ltx2Codec)


def test_parts_that_cannot_be_fetched_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (folder / "text_encoder").rename(folder / "elsewhere")
    with pytest.raises(InputError, match="Efficient-Large-Model/gemma-2-2b-it could not be downloaded"):
        load_components(folder)


def test_a_pickled_transformer_is_refused(folder: Path) -> None:
    (file,) = (folder / "dit").glob("*.safetensors")
    file.rename(folder / "dit" / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt is a pickle"):
        load_components(folder)


def test_real_parts_are_saved_in_our_layout_too(folder: Path, tmp_path: Path) -> None:
    before = load_components(folder)
    tiled = Ltx2Codec(before.codec.vae, Tiling(temporal="off"))  # type: ignore[union-attr]
    save_pretrained(tmp_path / "ours", replace(before, codec=tiled))
    after = load_components(tmp_path / "ours")
    assert after.settings == before.settings
    assert isinstance(after.codec, Ltx2Codec)
    assert after.codec.tiling.temporal == "off"
    latents = torch.randn(1, 8, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(after.codec.decode(latents), before.codec.decode(latents))
    for one, other in zip(after.text_encoder.encode(["cat"]), before.text_encoder.encode(["cat"]), strict=True):
        assert torch.allclose(one, other)
