"""Several servers behind one door, until somebody stops them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sana_wm.checkpoints.load import find_model
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.source import ModelSource
from sana_wm.errors import InputError, first_line
from sana_wm.serving.limits import Limits
from sana_wm.serving.ray_machine import RayMachine
from sana_wm.serving.run import address, is_local, listen
from sana_wm.serving.run import serve as serve_for_ever

if TYPE_CHECKING:
    from sana_wm.serving.replicas.replica import Setup

NAME = "sana-wm"
GOODBYE_SECONDS = 3.0
LOOK_SECONDS, PATIENCE_SECONDS = 2.0, 60.0
"""How often Ray Serve asks a replica how it is, and how long it may take to answer."""


def serve_replicas(
    source: ModelSource,
    step: int | None,
    chunk: int | None,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    replicas: int,
    *,
    ready: Callable[[str], None],
) -> None:
    """Load `replicas` models, each on a GPU of its own or with its share of the CPUs, and serve until interrupted.

    ready: gets what one types into a browser once guests can come.

    Raises:
        InputError: the model, the device or the address cannot be used, or Ray cannot.
        GenerationError: the replicas do not start.
    """
    machine = RayMachine(source.device, replicas)
    _check_installed()
    from sana_wm.serving.replicas.crowd import Crowd
    from sana_wm.serving.replicas.door import create_door
    from sana_wm.serving.replicas.replica import Setup  # imports Ray

    find_model(source.model)
    with listen(host, port) as listener, machine:  # the address is found out before anything large is loaded
        here = replace(source, device=machine.device)
        setup = Setup(here, machine.threads, step, chunk, limits, token, is_local(host))
        with deployed(setup, machine) as handle:
            where = address(listener)
            serve_for_ever(create_door(Crowd(handle, replicas), limits), limits, listener, lambda: ready(where))


def _check_installed() -> None:
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"replicas need Ray Serve, which does not load ({first_line(error)}). Install it with: "
            "pip install 'sana-wm[serve,ray]'"
        ) from error


@contextmanager
def deployed(setup: Setup, machine: RayMachine) -> Iterator[Any]:
    """The replicas; Ray Serve's own door, which knows neither our limits nor our goodbyes, stays shut."""
    from ray import serve

    from sana_wm.serving.replicas.replica import Replica

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled")
    try:
        deployment = serve.deployment(
            name="Replica", num_replicas=machine.replicas, ray_actor_options=machine.needs,
            max_constructor_retry_count=1,
            health_check_period_s=LOOK_SECONDS, health_check_timeout_s=PATIENCE_SECONDS,
            graceful_shutdown_timeout_s=GOODBYE_SECONDS, graceful_shutdown_wait_loop_s=GOODBYE_SECONDS,
        )(Replica)  # fmt: skip
        try:
            handle = serve.run(deployment.bind(setup), name=NAME, route_prefix=None)
        except RuntimeError as error:
            raise GenerationError(f"the replicas do not start: {error}") from error
        yield handle
    finally:
        serve.shutdown()
