"""Calls that training makes again and again, recorded on a GPU: launching their kernels one by one can take longer than
what they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sana_wm.engine.replay import Key, replayed_if_short, tensors_of, with_tensors
from sana_wm.models.context import BlockContext
from sana_wm.models.history import History
from sana_wm.models.transformer import SanaWMTransformer

Record = Callable[[Callable[..., Any], torch.device, int], Callable[..., Any]]
"""As :func:`~sana_wm.engine.replay.replayed_if_short`."""


def maybe_recorded(
    function: Callable[..., Tensor], model: nn.Module, device: torch.device, *, recorded: bool
) -> Callable[..., Tensor]:
    """What gives the loss that `function` gives, with its gradients in `.grad`: a recording on a GPU, if asked for."""
    if recorded and device.type == "cuda":
        return RecordedLoss(function, model, device)
    return partial(loss_with_gradients, function)


def loss_with_gradients(function: Callable[..., Tensor], *given: Any) -> Tensor:
    """The loss, after its backward pass."""
    loss = function(*given)
    loss.backward()
    return loss.detach()


class _Recording(NamedTuple):
    """A graph, the tensors that it reads, the loss and the gradients that it writes, None where there is none."""

    graph: torch.cuda.CUDAGraph
    given: list[Tensor]
    loss: Tensor
    gradients: list[Tensor | None]


class RecordedLoss:
    """:func:`loss_with_gradients` of tensors, or dataclasses and tuples of them, with the weights of the moment.

    Recorded at the first call with tensors of their shapes, and from then on replayed: nothing but the numbers in
    tensors may decide what the function does, nothing in it may draw random numbers, wait for the GPU or copy to it,
    and autocast in it must keep no copies of weights. What is replayed passes no module.

    Calls come one after another, on one stream, and find no gradients. Those that a call leaves in `.grad` are good,
    also to be changed, until the next: all recordings share the memory that they work in, so that together they need
    that of the largest, beside their inputs. It is theirs until this object is gone.
    """

    def __init__(self, function: Callable[..., Tensor], model: nn.Module, device: torch.device) -> None:
        self._function, self._parameters, self._device = function, list(model.parameters()), device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._recordings: dict[Key, _Recording] = {}

    def __call__(self, *given: Any) -> Tensor:
        assert all(p.grad is None for p in self._parameters)
        tensors = list(tensors_of(given))
        key = tuple((x.shape, x.dtype) for x in tensors)
        if key not in self._recordings:
            self._recordings[key] = self._record(given, tensors)
        graph, kept, loss, gradients = self._recordings[key]
        for old, new in zip(kept, tensors, strict=True):
            old.copy_(new)
        graph.replay()
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss.clone()

    def _record(self, given: tuple[Any, ...], tensors: list[Tensor]) -> _Recording:
        kept = [x.clone() for x in tensors]
        own = with_tensors(given, iter(kept))
        # Once as it is: kernels are compiled and libraries choose theirs, which cannot be recorded. On the stream of
        # the recording, so that what libraries and autograd keep for a stream is there.
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss_with_gradients(self._function, *own)
        current.wait_stream(self._stream)
        self._take_gradients()
        graph = torch.cuda.CUDAGraph()
        # Other threads go on using the GPU meanwhile. Without gradients at its beginning, the backward pass writes
        # them, and does not add to what is there.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            loss = loss_with_gradients(self._function, *own)
        return _Recording(graph, kept, loss, self._take_gradients())

    def _take_gradients(self) -> list[Tensor | None]:
        gradients = [p.grad for p in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return gradients


class RecordedDenoise:
    """:meth:`~sana_wm.models.transformer.SanaWMTransformer.denoise` of whole clips without gradients, with the weights
    of the moment; as :class:`RecordedAdvance`."""

    def __init__(self, transformer: SanaWMTransformer, record: Record = replayed_if_short) -> None:
        self._transformer, self._record = transformer, record
        self._recorded: dict[int, Callable[..., Any]] = {}

    def __call__(self, latents: Tensor, timesteps: Tensor, context: BlockContext) -> Tensor:
        assert context.visibility.whole
        numbers = latents[:, 0].numel() * self._transformer.config.width
        if numbers not in self._recorded:
            self._recorded[numbers] = self._record(self._transformer.denoise, latents.device, numbers)
        velocity: Tensor = self._recorded[numbers](latents, timesteps, context)
        return velocity


class RecordedAdvance:
    """:meth:`~sana_wm.models.transformer.SanaWMTransformer.advance` without gradients, with the weights of the moment.

    What is recorded passes no module. Once the past is as long as it gets, chunks differ in nothing but their numbers,
    and one recording serves all of them.
    """

    def __init__(self, transformer: SanaWMTransformer, record: Record = replayed_if_short) -> None:
        self._transformer, self._record = transformer, record
        self._recorded: dict[tuple[int, int], Callable[..., Any]] = {}

    def __call__(
        self, latents: Tensor, timesteps: Tensor, context: BlockContext, history: History | None
    ) -> tuple[Tensor, History | None]:
        sees = context.visibility
        at = min(sees.first_chunk, sees.window) if sees.window > 0 else sees.first_chunk, sees.saved
        if at not in self._recorded:
            numbers = len(latents) * latents.shape[2:].numel() * self._transformer.config.width
            self._recorded[at] = self._record(self._transformer.advance, latents.device, numbers)
        velocity, after = self._recorded[at](latents, timesteps, context, history)
        if after is not None:
            frames, chunks = sees.first_frame + sees.saved_frames(latents.shape[2]), sees.first_chunk + sees.saved
            after = after.at(frames, chunks, sink=sees.sink)
        return velocity, after
