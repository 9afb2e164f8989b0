"""What is said where Ray is missing."""

from __future__ import annotations

import sys

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.serving.ray_machine import RayMachine


def test_without_ray_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"replicas is 2.*pip install 'sana-wm\[ray\]'"):
        RayMachine(torch.device("cpu"), 2)


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [RayMachine(torch.device("cpu"), count).threads for count in (2, 3, 16)] == [4, 2, 1]
