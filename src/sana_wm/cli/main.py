"""The command `sana-wm`: its verbs, and how a run ends.

A verb is one small file with one function; it is added by one line below. PyTorch and everything that needs it are
imported inside those functions, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sana_wm import __version__
from sana_wm.cli.bench import bench
from sana_wm.cli.convert import convert
from sana_wm.cli.evaluate import evaluate
from sana_wm.cli.generate import generate
from sana_wm.cli.play import play
from sana_wm.cli.serve import serve
from sana_wm.cli.train import train
from sana_wm.engine.failure import GenerationError
from sana_wm.errors import InputError

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130

# Newer versions of typer bring their own copy of click; this base class of a public exception is the same in both.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="sana-wm",
    help="A camera-controlled video world model: an image, a prompt and a camera path become video.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("-", "_"),  # --num-frames is understood as well
        "help_option_names": ["--help", "-h"],
    },
)
app.command()(generate)
app.command()(play)
app.command()(serve)
app.command()(train)
app.command()(convert)
app.add_typer(evaluate, name="evaluate")
app.add_typer(bench, name="bench")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sana-wm {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command (`arguments` None: those of the process) and exit.

    Exit codes: 0 done; 1 the model failed; 2 wrong input; 130 interrupted. What went wrong is one line on stderr;
    anything else is a bug of ours and keeps its traceback.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="sana-wm", standalone_mode=False)
    except InputError as error:
        code = _complain(str(error), WRONG_INPUT)
    except UsageError as error:
        code = _complain(error.format_message(), WRONG_INPUT)  # type: ignore[attr-defined]
    except GenerationError as error:
        code = _complain(str(error), FAILED)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _complain("interrupted", INTERRUPTED)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    typer.echo("error: " + " ".join(message.split()), err=True)
    return code


if __name__ == "__main__":
    main()
