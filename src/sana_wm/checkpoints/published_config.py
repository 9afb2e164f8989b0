"""The release's `config.yaml`: the few fields that decide what a model computes and how it is sampled.

What is known and what is inferred: the specification names `scheduler.flow_shift`, `scheduler.inference_flow_shift`,
`scheduler.vis_sampler`, `model.chunk_size`, `model.chunk_split_strategy`, `vae.vae_pretrained` and
`text_encoder.chi_prompt` with their sections. `caption_channels`, `model_max_length`, `y_norm_scale_factor`,
`softmax_every_n`, `mlp_ratio`, `ffn_type`, `pos_embed_type`, `fp32_attention`, `class_dropout_prob`,
`chunk_plucker_channels`, `chunk_plucker_post_attn_blocks` and `init_cam_from_base` are named without one; the model
name, the picture size and the text encoder's name are only described, and `model.model`, `model.image_size` and
`text_encoder.text_encoder_name` are the names assumed here. A field that is absent takes the release's value, so a
file that keeps one elsewhere still loads; sizes are then checked against the weights. Fields that are not listed
(there are dozens, for training) are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sana_wm.errors import InputError, first_line
from sana_wm.models.config import PIPELINES, PipelineSettings, TransformerConfig

BIDIRECTIONAL = "SanaMSVideoCamCtrl_1600M_P1_D20"
_MODEL_NAME = re.compile(r"SanaMSVideoCamCtrl(?P<streaming>Streaming)?_\d+M_P1_D(?P<depth>\d+)")
WHOLE_CLIP_SAMPLERS = ("flow_dpm-solver", "flow_euler", "flow_euler_ltx")
"""Values of `vis_sampler` that belong to models which denoise a whole clip at once."""


@dataclass(frozen=True)
class PublishedConfig:
    """Fields of `config.yaml`; the defaults are the bidirectional 720p model's.

    Attributes:
        vae_pretrained: repository or directory whose folder `vae` holds the autoencoder.
        chi_prompt: lines of the instruction prefix.
        inference_flow_shift: shift for sampling, where it differs from the training value `flow_shift`.
        vis_sampler: the release's own command ignores it and samples with its Euler solver, and so do we.
        chunk_size, chunk_split_strategy: how a chunk-causal model cuts time; without effect in a bidirectional one.
        softmax_every_n: None if the file does not say; the weights do.
    """

    model_name: str = BIDIRECTIONAL
    height: int = 704
    width: int = 1280
    vae_pretrained: str = "Efficient-Large-Model/SANA-WM_bidirectional"
    text_encoder_name: str = "gemma-2-2b-it"
    chi_prompt: tuple[str, ...] = ()
    model_max_length: int = 300
    caption_channels: int = 2304
    flow_shift: float = 9.95
    inference_flow_shift: float | None = 9.8
    vis_sampler: str = "flow_dpm-solver"
    chunk_size: int | None = None
    chunk_split_strategy: str | None = None
    softmax_every_n: int | None = None

    def __post_init__(self) -> None:
        if _MODEL_NAME.fullmatch(self.model_name) is None:
            raise InputError(f"config.yaml: the model is {self.model_name!r}; one like {BIDIRECTIONAL!r} was expected")

    @property
    def depth(self) -> int:
        """Blocks, as the model's name says."""
        match = _MODEL_NAME.fullmatch(self.model_name)
        assert match is not None
        return int(match["depth"])

    @property
    def prefix(self) -> str:
        """The instruction prefix of a prompt, as one text."""
        return "\n".join(self.chi_prompt)

    @property
    def text_encoder_repo(self) -> str:
        """Hub repository of the text encoder."""
        name = self.text_encoder_name
        return name if "/" in name else f"Efficient-Large-Model/{name}"

    def settings(self) -> PipelineSettings:
        """How to sample the model when nothing else is asked for.

        Raises:
            InputError: it is a model that is sampled chunk by chunk.
        """
        if self.vis_sampler not in WHOLE_CLIP_SAMPLERS:
            raise InputError(
                f"config.yaml: scheduler.vis_sampler is {self.vis_sampler!r}, a model that is sampled chunk by chunk; "
                f"a bidirectional one ({', '.join(WHOLE_CLIP_SAMPLERS)}) is what can be run"
            )
        usual = PIPELINES["2.6b"]
        shift = self.flow_shift if self.inference_flow_shift is None else self.inference_flow_shift
        return PipelineSettings(
            height=self.height,
            width=self.width,
            fps=usual.fps,
            num_frames=usual.num_frames,
            num_inference_steps=usual.num_inference_steps,
            guidance_scale=usual.guidance_scale,
            flow_shift=shift,
        )


def read_published_config(path: Path) -> PublishedConfig:
    """Read `config.yaml`.

    Raises:
        InputError: it is not YAML of plain values, a field has another type than it should, or the model's name is
            unknown.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML ({first_line(error)})") from error
    if not isinstance(document, Mapping):
        raise InputError(f"{path} holds {type(document).__name__}; a mapping with the section 'model' was expected")
    names = ("model", "vae", "text_encoder", "scheduler")
    model, vae, text, scheduler = (_Section(document, name, path) for name in names)
    default = PublishedConfig()
    height, width = model.size("image_size", (default.height, default.width))
    return PublishedConfig(
        model_name=model.get("model", str, ""),
        height=height,
        width=width,
        vae_pretrained=vae.get("vae_pretrained", str, default.vae_pretrained),
        text_encoder_name=text.get("text_encoder_name", str, default.text_encoder_name),
        chi_prompt=text.lines("chi_prompt"),
        model_max_length=text.get("model_max_length", int, default.model_max_length),
        caption_channels=text.get("caption_channels", int, default.caption_channels),
        flow_shift=scheduler.get("flow_shift", float, default.flow_shift),
        inference_flow_shift=scheduler.get("inference_flow_shift", float, None),
        vis_sampler=scheduler.get("vis_sampler", str, default.vis_sampler),
        chunk_size=model.get("chunk_size", int, None),
        chunk_split_strategy=model.get("chunk_split_strategy", str, None),
        softmax_every_n=model.get("softmax_every_n", int, None),
    )


def write_published_config(path: Path, published: PublishedConfig, config: TransformerConfig) -> None:
    """Write `config.yaml` with the release's names for a bidirectional model; see the module's docstring for what is
    inferred."""
    document = {
        "model": {
            "model": published.model_name,
            "image_size": [published.height, published.width],
            "softmax_every_n": config.softmax_every_n,
            "mlp_ratio": config.mlp_ratio,
            "ffn_type": "GLUMBConvTemp",
            "pos_embed_type": "wan_rope",
            "fp32_attention": True,
            "class_dropout_prob": 0.0,
            "init_cam_from_base": True,
            "chunk_plucker_channels": config.plucker_channels,
            "chunk_plucker_post_attn_blocks": config.depth,
            "chunk_size": published.chunk_size,
            "chunk_split_strategy": published.chunk_split_strategy,
        },
        "vae": {"vae_pretrained": published.vae_pretrained},
        "text_encoder": {
            "text_encoder_name": published.text_encoder_name,
            "caption_channels": config.caption_channels,
            "model_max_length": config.caption_tokens,
            "y_norm_scale_factor": 0.01,
            "chi_prompt": list(published.chi_prompt),
        },
        "scheduler": {
            "flow_shift": published.flow_shift,
            "inference_flow_shift": published.inference_flow_shift,
            "vis_sampler": published.vis_sampler,
        },
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


class _Section:
    """One section of the file; reads fields with their types checked."""

    def __init__(self, document: Mapping[str, Any], name: str, path: Path) -> None:
        values = document.get(name)
        if values is not None and not isinstance(values, Mapping):
            raise InputError(f"{path}: {name} is {values!r}; a mapping was expected")
        self._values: Mapping[str, Any] = values or {}
        self._where = f"{path}: {name}"

    def get(self, key: str, kind: type, default: Any) -> Any:
        value = self._values.get(key)
        if value is None:
            return default
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise InputError(f"{self._where}.{key} is {value!r}; {kind.__name__} was expected")
        return kind(value)

    def lines(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise InputError(f"{self._where}.{key} is {value!r}; a list of lines of text was expected")
        return tuple(value)

    def size(self, key: str, default: tuple[int, int]) -> tuple[int, int]:
        """[height, width]; a single number names a size class of the release, whose pixels are the default."""
        value = self._values.get(key)
        if value is None or isinstance(value, int):
            return default
        if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
            raise InputError(f"{self._where}.{key} is {value!r}; [height, width] in pixels was expected")
        return value[0], value[1]
