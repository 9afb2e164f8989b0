"""Settings from files: every value has the type that its dataclass says, and a wrong one is named."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pytest

from sana_wm.checkpoints.components import GemmaSettings
from sana_wm.errors import InputError
from sana_wm.models.config import (
    PIPELINES,
    TRANSFORMERS,
    NanoAutoencoderConfig,
    NanoTextConfig,
    PipelineSettings,
    TransformerConfig,
)
from sana_wm.models.ltx2_tiling import Tiling
from sana_wm.settings import config_from_dict


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Everything:
    whole: int
    real: float = 0.0
    flag: bool = False
    word: str = ""
    choice: Literal["a", "b"] = "a"
    maybe: float | None = None
    pair: tuple[int, float] = (1, 1.0)
    many: tuple[Inner, ...] = ()
    table: dict[int, float] = field(default_factory=dict)


def read(**values: Any) -> Everything:
    return config_from_dict(Everything, {"whole": 1, **values}, "some.yaml")


@pytest.mark.parametrize(
    "config",
    [
        *TRANSFORMERS.values(),
        *PIPELINES.values(),
        NanoAutoencoderConfig(),
        NanoTextConfig(),
        Tiling(),
        GemmaSettings(),
        Everything(3, 0.5, True, "x", "b", 2.0, (4, 0.25), (Inner(2), Inner(3))),
    ],
    ids=str,
)
def test_a_configuration_survives_json(config: Any) -> None:
    again = config_from_dict(type(config), json.loads(json.dumps(asdict(config))), "model.json")
    assert again == config
    assert config_from_dict(type(config), asdict(config), "memory") == config


def test_numbers_become_what_the_hint_says() -> None:
    found = read(real=2, maybe=3, pair=[1, 2], table={4: 5})
    assert (found.real, found.maybe, found.pair, found.table) == (2.0, 3.0, (1, 2.0), {4: 5.0})
    for number in (found.real, found.maybe, found.pair[1], found.table[4]):
        assert type(number) is float
    assert read(real="1e-3").real == 1e-3  # how YAML 1.1 gives it
    assert read(maybe=None).maybe is None


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"whole": "three"}, "whole is 'three'; it must be a whole number"),
        ({"whole": 1.5}, "whole is 1.5; it must be a whole number"),
        ({"whole": True}, "whole is True; it must be a whole number"),
        ({"whole": None}, "whole is None; it must be a whole number"),
        ({"real": "fast"}, "real is 'fast'; it must be a number"),
        ({"real": True}, "real is True; it must be a number"),
        ({"real": float("nan")}, "real is nan; it must be a number"),
        ({"real": 10**400}, "real is 10+; it must be a number"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"flag": "no"}, "flag is 'no'; it must be true or false"),
        ({"word": 5}, "word is 5; it must be text"),
        ({"choice": "c"}, "choice is 'c'; it must be one of 'a', 'b'"),
        ({"choice": ["a"]}, r"choice is \['a'\]; it must be one of 'a', 'b'"),
        ({"maybe": "x"}, "maybe is 'x'; it must be a number"),
        ({"pair": 5}, "pair is 5; it must be a list of 2"),
        ({"pair": [5]}, r"pair is \[5\]; it must be a list of 2"),
        ({"pair": "ab"}, "pair is 'ab'; it must be a list of 2"),
        ({"pair": [1, "x"]}, "pair is 'x'; it must be a number"),
        ({"many": {"size": 1}}, "many is {'size': 1}; it must be a list"),
        ({"many": [{"size": "x"}]}, "many: size is 'x'; it must be a whole number"),
        ({"many": [{"sise": 1}]}, "many: unknown setting 'sise'; known are size"),
        ({"many": [5]}, "many: expected a mapping of settings, found 5"),
        ({"table": [1]}, r"table is \[1\]; it must be a mapping"),
        ({"table": {"x": 1}}, "table is 'x'; it must be a whole number"),
        ({"hole": 1}, "unknown setting 'hole'; known are choice, flag, many, maybe, pair, real, table, whole, word"),
        ({5: 1}, "unknown setting 5; known are choice"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=f"^some.yaml: {complaint}"):
        config_from_dict(Everything, {"whole": 1, **values}, "some.yaml")


@pytest.mark.parametrize("values", [None, 5, "whole", [1]])
def test_what_is_no_mapping_is_shown(values: Any) -> None:
    with pytest.raises(InputError, match=r"^some\.yaml: expected a mapping of settings, found "):
        config_from_dict(Everything, values, "some.yaml")


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InputError, match=r"^some\.yaml: missing setting 'whole'"):
        config_from_dict(Everything, {"real": 1.0}, "some.yaml")


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        (TransformerConfig, {"depth": "three"}, "model.json: depth is 'three'; it must be a whole number"),
        (TransformerConfig, {"depth": 0}, "transformer.depth is 0; it must be at least 1"),
        (TransformerConfig, {"truncate_timesteps": "yes"}, "truncate_timesteps is 'yes'; it must be true or false"),
        (TransformerConfig, {"softmax_scale_cam": "x"}, "softmax_scale_cam is 'x'; it must be a number"),
        (TransformerConfig, {"camera_math_dtype": "half"}, "camera_math_dtype is 'half'; it must be one of 'float32'"),
        (NanoAutoencoderConfig, {"widths": [8, 4]}, r"widths is \[8, 4\]; it must be a list of 3"),
        (NanoTextConfig, {"heads": 2.0}, "heads is 2.0; it must be a whole number"),
        (PipelineSettings, {"sampler": "euler"}, "sampler is 'euler'; it must be one of 'flow_euler_ltx', 'flow_dpm"),
        (PipelineSettings, {"num_frames": "81"}, "num_frames is '81'; it must be a whole number"),
        (Tiling, {"temporal": "on"}, "temporal is 'on'; it must be one of 'aligned', 'diffusers', 'off'"),
        (GemmaSettings, {"max_tokens": None}, "max_tokens is None; it must be a whole number"),
    ],
)
def test_a_model_with_wrong_settings_is_refused(kind: Any, changes: dict[str, Any], complaint: str) -> None:
    start = asdict(PIPELINES["nano"]) if kind is PipelineSettings else {}
    with pytest.raises(InputError, match=complaint):
        config_from_dict(kind, start | changes, "model.json")
