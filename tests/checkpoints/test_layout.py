"""The published layout, against the numbers of the specification, the golden files and our own module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sana_wm.checkpoints.layout import block_keys, harmless_value, ignored_keys, published_keys
from sana_wm.models.config import TRANSFORMERS, TransformerConfig
from sana_wm.models.init import init_transformer
from sana_wm.models.transformer import SanaWMTransformer
from tests.checkpoints.tiny import CONFIG

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FULL = TRANSFORMERS["2.6b"]


def test_the_full_model_has_the_published_counts() -> None:
    keys = published_keys(FULL)
    parameters = [spec for spec in keys.values() if spec.kind == "parameter"]
    buffers = [spec for spec in keys.values() if spec.kind == "buffer"]
    assert (len(keys), len(parameters), len(buffers)) == (872, 850, 22)
    assert sum(spec.numel for spec in parameters) == 2_661_800_448
    assert sum(spec.numel for spec in buffers) == 1_775_380


@pytest.mark.parametrize(("softmax", "count", "numel"), [(False, 43, 130_764_560), (True, 41, 130_746_640)])
def test_a_block_has_the_published_counts(softmax: bool, count: int, numel: int) -> None:
    specs = block_keys(FULL, softmax=softmax)
    # The table counts entries with the buffer recall_gate, and parameters without it.
    assert len(specs) == count
    assert sum(spec.numel for spec in specs.values() if spec.kind == "parameter") == numel


@pytest.mark.parametrize(
    ("prefix", "numel"),
    [
        ("t_block.", 30_119_040),
        ("y_embedder.y_proj.", 10_183_040),
        ("t_embedder.", 5_595_520),
        ("final_layer.", 291_328),
        ("x_embedder.", 288_960),
        ("plucker_embedder.", 109_760),
        ("raymap_embedder.", 8_960),
        ("attention_y_norm.", 2_240),
    ],
)
def test_a_top_level_module_has_the_published_size(prefix: str, numel: int) -> None:
    assert sum(spec.numel for key, spec in published_keys(FULL).items() if key.startswith(prefix)) == numel


@pytest.mark.parametrize("config", [FULL, TRANSFORMERS["nano"], CONFIG])
def test_the_used_entries_are_exactly_our_module(config: TransformerConfig) -> None:
    with torch.device("meta"):
        model = SanaWMTransformer(config)
    used = {key: spec for key, spec in published_keys(config).items() if spec.used}
    assert {key: tuple(t.shape) for key, t in model.state_dict().items()} == {k: s.shape for k, s in used.items()}
    parameters = dict(model.named_parameters())
    assert all((spec.kind == "parameter") == (key in parameters) for key, spec in used.items())


def test_what_is_ignored_is_what_the_release_never_reads() -> None:
    softmax_gates = {"A_log", "dt_bias", "beta_proj.weight", "beta_proj.bias", "gate_proj.weight", "gate_proj.bias"}
    expected = {"pos_embed", "raymap_embedder.proj.weight", "raymap_embedder.proj.bias"}
    expected |= {f"blocks.{i}.attn.recall_gate" for i in range(CONFIG.depth)}
    expected |= {f"blocks.{i}.attn.{name}" for i in (1, 3) for name in softmax_gates}
    assert ignored_keys(CONFIG) == expected


def test_the_release_writes_these_names_and_shapes() -> None:
    config = TransformerConfig(
        depth=4, width=32, num_heads=2, in_channels=8, caption_channels=24, caption_tokens=9, mlp_ratio=3
    )
    with safe_open(str(FIXTURES / "dit_model.safetensors"), "pt") as golden:
        weights = (name for name in golden.keys() if name.startswith("weights."))  # noqa: SIM118
        found = {name.removeprefix("weights."): tuple(golden.get_slice(name).get_shape()) for name in weights}
    expected = {key: spec.shape for key, spec in published_keys(config).items() if key != "pos_embed"}
    assert found == expected


def test_harmless_values_are_the_ones_a_fresh_gdn_block_starts_with() -> None:
    model = SanaWMTransformer(CONFIG)
    init_transformer(model, torch.Generator().manual_seed(0))
    state = model.state_dict()
    for name, spec in block_keys(CONFIG, softmax=True).items():
        if not spec.used and name != "attn.recall_gate":
            assert torch.equal(harmless_value(name, spec), state[f"blocks.0.{name}"]), name
