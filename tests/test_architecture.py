"""The shape of the house: which room may import which, what stays unimported, what never appears in the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = sorted((SOURCE / "sana_wm").rglob("*.py"))

BOTTOM = {"ops", "geometry"}
BELOW_ENGINE = BOTTOM | {"sampling", "models", "checkpoints"}
BELOW_APPS = BELOW_ENGINE | {"engine"}
EVERY_ROOM = BELOW_APPS | {"worlds", "data", "evaluation", "training", "annotate", "claims", "serving"}
MAY_IMPORT: dict[str, set[str]] = {
    "ops": set(),
    "geometry": set(),
    "sampling": BOTTOM,
    "models": BOTTOM,
    "checkpoints": BOTTOM | {"models"},
    "engine": BELOW_ENGINE,
    "worlds": {"geometry"},
    "data": {"geometry", "worlds"},
    "evaluation": BELOW_APPS | {"worlds", "data"},
    "training": BELOW_APPS | {"worlds", "data"},
    "annotate": BELOW_APPS,
    "claims": BELOW_APPS | {"worlds", "data", "evaluation", "training"},
    "serving": EVERY_ROOM - {"serving", "claims"},
    "cli": EVERY_ROOM,
    "": EVERY_ROOM,  # the package's own __init__: what users import
}
"""Which rooms a room may import besides itself; `errors` and `settings` are open to all, and `cli` to none."""

HEAVY = ("diffusers", "transformers", "vizdoom", "matplotlib", "huggingface_hub")
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_NAMES = {
    "torch.load",
    "os.environ",
    "os.getenv",
    "os.putenv",
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.unsafe_load",
}
FORBIDDEN_KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}  # only as `=False`
ALLOWED = {"sana_wm.checkpoints.pickled": ["import of pickle.UnpicklingError", "torch.load"]}
"""One module reads one kind of pickle, restricted: what it may do that no other may."""

FORBIDDEN_CALLS = {"eval", "exec"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """`sana_wm.models.config` -> `models`; a file directly in `sana_wm` is its own room, the package itself is ''."""
    return ([*module.split("."), ""])[1]


def imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Full dotted names of everything the source imports, at the top, in functions and for type checking alike."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def wrong_arrows(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of `module` that go up, sideways or through the front door."""
    room = room_of(module)
    allowed = MAY_IMPORT.get(room, set()) | {room, "errors", "settings", "__version__"}
    ours = (name for name in imported(source, module, is_package) if name.split(".")[0] == "sana_wm")
    return sorted({name for name in ours if room_of(name) not in allowed})


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def forbidden(source: str) -> Iterator[str]:
    """What a module does that lets a file or a variable from outside run code or change behaviour."""
    for name in imported(source, "module", is_package=False):
        if name.split(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_NAMES:
            yield f"import of {name}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and dotted(node) in FORBIDDEN_NAMES:
            yield dotted(node)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield f"{node.func.id}()"
            for keyword in node.keywords:
                off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in FORBIDDEN_KEYWORDS and not off:
                    yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down_the_layers(path: Path) -> None:
    assert wrong_arrows(path.read_text(), module_name(path), path.name == "__init__.py") == []


def test_every_room_has_a_place_in_the_layers() -> None:
    rooms = {path.name for path in (SOURCE / "sana_wm").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms <= MAY_IMPORT.keys()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_in_the_source_runs_code_from_outside_or_reads_the_environment(path: Path) -> None:
    assert list(forbidden(path.read_text())) == ALLOWED.get(module_name(path), [])


def test_the_one_module_that_opens_pickles_asks_for_weights_alone() -> None:
    (name,) = ALLOWED
    source = SOURCE.joinpath(*name.split(".")).with_suffix(".py").read_text()
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    (load,) = (call for call in calls if dotted(call.func) == "torch.load")
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in load.keywords}
    assert given["weights_only"] == "True"
    assert "pickle_module" not in given


@pytest.mark.parametrize(
    "module", [name for name in ("sana_wm", "sana_wm.cli.main") if name in {module_name(path) for path in MODULES}]
)
def test_importing_the_package_or_the_command_leaves_heavy_packages_alone(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("sana_wm.models.config", "from sana_wm.checkpoints.load import load", ["sana_wm.checkpoints.load.load"]),
        ("sana_wm.models.config", "from ..checkpoints import load", ["sana_wm.checkpoints.load"]),
        ("sana_wm.ops.rotary", "def f():\n    import sana_wm.geometry.rays", ["sana_wm.geometry.rays"]),
        ("sana_wm.engine.pipeline", "import sana_wm.cli.main", ["sana_wm.cli.main"]),
        ("sana_wm.sampling.euler", "from sana_wm import SanaWMPipeline", ["sana_wm.SanaWMPipeline"]),
        ("sana_wm.errors", "from sana_wm.models import config", ["sana_wm.models.config"]),
        ("sana_wm.settings", "from sana_wm.models import config", ["sana_wm.models.config"]),
        ("sana_wm.checkpoints.load", "from sana_wm.models import config\nfrom sana_wm.errors import InputError", []),
        ("sana_wm.ops.rotary", "from sana_wm.settings import config_from_dict", []),
        ("sana_wm.cli.main", "import torch\nfrom .generate import run\nfrom sana_wm.serving import app", []),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str, wrong: list[str]) -> None:
    assert wrong_arrows(source, module) == wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch\ntorch.load('x')", ["torch.load"]),
        ("from torch import load", ["import of torch.load"]),
        ("import pickle", ["import of pickle"]),
        ("import os\nx = os.environ['HOME']", ["os.environ"]),
        ("from os import environ", ["import of os.environ"]),
        ("import subprocess\nsubprocess.run('ls', shell=True)", ["shell=True"]),
        ("import numpy as np\nnp.load('x', allow_pickle=False)", []),
        ("eval('1')", ["eval()"]),
        ("model.eval()", []),
    ],
)
def test_a_forbidden_thing_is_seen(source: str, found: list[str]) -> None:
    assert list(forbidden(source)) == found
