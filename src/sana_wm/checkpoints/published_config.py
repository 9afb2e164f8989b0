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

A streaming model's steps, window and sink are flags of the release's command and stand in no config of it that is
described; we write and read them in `scheduler`, by the flags' names `denoising_step_list`, `num_cached_blocks` and
`sink_token`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from sana_wm.errors import InputError, first_line
from sana_wm.geometry.chunks import strategy_name
from sana_wm.models.config import PIPELINES, ChunkSettings, PipelineSettings, StreamSettings, TransformerConfig

BIDIRECTIONAL = "SanaMSVideoCamCtrl_1600M_P1_D20"
_MODEL_NAME = re.compile(r"SanaMSVideoCamCtrl(?P<streaming>Streaming)?_\d+M_P1_D(?P<depth>\d+)")
WHOLE_CLIP_SAMPLERS = ("flow_dpm-solver", "flow_euler", "flow_euler_ltx")
"""Values of `vis_sampler` that belong to models which denoise a whole clip at once."""

STREAM_SAMPLERS = ("self_forcing_flow_euler", "self_forcing")
"""Those of models which make chunk after chunk in a few steps."""

STREAM_REPOSITORY = "Efficient-Large-Model/SANA-WM_streaming"
STREAM_FRAMES = 241


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
        denoising_step_list, num_cached_blocks, sink_token: the steps of a streaming model, of 1000, and the chunks that
            its softmax blocks read, all of them for -1; None is what the release's command takes.
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
    denoising_step_list: tuple[float, ...] | None = None
    num_cached_blocks: int | None = None
    sink_token: bool | None = None

    @classmethod
    def streaming(cls, depth: int, *, model_max_length: int, caption_channels: int) -> PublishedConfig:
        """The released streaming model's, as far as it is known, for a model of other sizes (spec 20, section 5.5)."""
        return cls(
            model_name=f"SanaMSVideoCamCtrlStreaming_1600M_P1_D{depth}",
            vae_pretrained=STREAM_REPOSITORY,
            model_max_length=model_max_length,
            caption_channels=caption_channels,
            inference_flow_shift=8.0,
            vis_sampler=STREAM_SAMPLERS[0],
            chunk_size=ChunkSettings.size,
            chunk_split_strategy=ChunkSettings.strategy,
        )

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
    def streams(self) -> bool:
        """Whether it is sampled chunk after chunk, against a past."""
        return self.vis_sampler in STREAM_SAMPLERS

    @property
    def vae_folder(self) -> str:
        """Folder of the autoencoder in its repository: a streaming model has one that decodes causally."""
        return "ltx2_causal_vae" if self.vae_pretrained.rstrip("/").endswith("SANA-WM_streaming") else "vae"

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
            InputError: its sampler is none of those we have, or it cannot work with its numbers.
        """
        usual = PIPELINES["2.6b"]
        shift = self.flow_shift if self.inference_flow_shift is None else self.inference_flow_shift
        whole = replace(usual, height=self.height, width=self.width, flow_shift=shift)
        if self.streams:
            stream = self._stream()
            steps = len(stream.timesteps) - 1
            guidance = stream.guidance_scale
            return replace(
                whole, num_frames=STREAM_FRAMES, num_inference_steps=steps, guidance_scale=guidance, stream=stream
            )
        if self.vis_sampler not in WHOLE_CLIP_SAMPLERS:
            raise InputError(
                f"config.yaml: scheduler.vis_sampler is {self.vis_sampler!r}; what can be run are models that are "
                f"sampled whole ({', '.join(WHOLE_CLIP_SAMPLERS)}) or chunk after chunk ({', '.join(STREAM_SAMPLERS)})"
            )
        return whole

    def _stream(self) -> StreamSettings:
        """Steps, chunks and window of a streaming model; what the file does not say is the release's."""
        usual = StreamSettings()
        window = usual.chunks.window if self.num_cached_blocks is None else max(self.num_cached_blocks, 0)
        chunks = ChunkSettings(
            size=usual.chunks.size if self.chunk_size is None else self.chunk_size,
            strategy=strategy_name(self.chunk_split_strategy or usual.chunks.strategy),
            window=window,
            sink=usual.chunks.sink if self.sink_token is None else self.sink_token,
        )
        steps = self.denoising_step_list
        if steps is not None and len(steps) < 2:
            raise InputError(f"denoising_step_list is {list(steps)}; one step at least and the final 0 were expected")
        return StreamSettings(chunks, usual.timesteps if steps is None else steps)


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
    sampler = scheduler.get("vis_sampler", str, default.vis_sampler)
    streams = sampler in STREAM_SAMPLERS
    height, width = model.size("image_size", (default.height, default.width))
    return PublishedConfig(
        model_name=model.get("model", str, ""),
        height=height,
        width=width,
        vae_pretrained=vae.get("vae_pretrained", str, STREAM_REPOSITORY if streams else default.vae_pretrained),
        text_encoder_name=text.get("text_encoder_name", str, default.text_encoder_name),
        chi_prompt=text.lines("chi_prompt"),
        model_max_length=text.get("model_max_length", int, default.model_max_length),
        caption_channels=text.get("caption_channels", int, default.caption_channels),
        flow_shift=scheduler.get("flow_shift", float, default.flow_shift),
        inference_flow_shift=scheduler.get("inference_flow_shift", float, None),
        vis_sampler=sampler,
        chunk_size=model.get("chunk_size", int, None),
        chunk_split_strategy=model.get("chunk_split_strategy", str, None),
        softmax_every_n=model.get("softmax_every_n", int, None),
        denoising_step_list=scheduler.numbers("denoising_step_list"),
        num_cached_blocks=scheduler.get("num_cached_blocks", int, None),
        sink_token=scheduler.get("sink_token", bool, None),
    )


def write_published_config(path: Path, published: PublishedConfig, config: TransformerConfig) -> None:
    """Write `config.yaml` with the release's names; see the module's docstring for what is inferred."""
    steps = published.denoising_step_list
    stream = {
        "denoising_step_list": None if steps is None else list(steps),
        "num_cached_blocks": published.num_cached_blocks,
        "sink_token": published.sink_token,
    }
    document = {
        "model": {
            "model": published.model_name,
            "image_size": [published.height, published.width],
            "softmax_every_n": config.softmax_every_n,
            "mlp_ratio": config.mlp_ratio,
            "ffn_type": "CachedGLUMBConvTemp" if published.streams else "GLUMBConvTemp",
            "pos_embed_type": "casual_wan_rope" if published.streams else "wan_rope",  # the release spells it so
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
        }
        | {name: value for name, value in stream.items() if value is not None},
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
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{self._where}.{key} is {value!r}; {kind.__name__} was expected")
        return kind(value)

    def lines(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key) or []
        if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
            raise InputError(f"{self._where}.{key} is {value!r}; a list of lines of text was expected")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """A list of numbers, or one text with commas, as the release's command takes it."""
        value = self._values.get(key)
        if value is None:
            return None
        parts = value.split(",") if isinstance(value, str) else value
        try:
            if not isinstance(parts, list) or any(isinstance(part, bool) for part in parts):
                raise ValueError
            return tuple(float(part) for part in parts)
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{self._where}.{key} is {value!r}; a list of numbers was expected") from None

    def size(self, key: str, default: tuple[int, int]) -> tuple[int, int]:
        """[height, width]; a single number names a size class of the release, whose pixels are the default."""
        value = self._values.get(key)
        if value is None or isinstance(value, int):
            return default
        if not isinstance(value, list) or len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
            raise InputError(f"{self._where}.{key} is {value!r}; [height, width] in pixels was expected")
        return value[0], value[1]
