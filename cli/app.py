"""The ``cbmir`` program: its commands, and how errors reach the person at the terminal."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer
from typer.exceptions import Abort, Exit, TyperException

from cli import (
    backup,
    copy,
    cross_validate,
    dataset,
    delete,
    doctor,
    evaluate,
    index,
    inspect,
    model,
    search,
    status,
    train,
)
from cli.console import errors
from model.errors import CbmirError, Interrupted

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="cbmir",
    help="Content-based medical image retrieval: show me the ones that look like this.",
    epilog="Exit codes: 0 all done · 1 error · 2 a command line that cannot be understood · 3 done, but some files or "
    "queries were left out · 130 interrupted. Every option can come from the environment: --index from CBMIR_INDEX, "
    "--model from CBMIR_MODEL…",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("cross-validate")(cross_validate.cross_validate)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("status")(status.status)
app.command("delete")(delete.delete)
app.command("copy")(copy.copy)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("inspect")(inspect.inspect)
app.add_typer(model.model_app, name="model")
app.add_typer(dataset.dataset_app, name="dataset")
app.command("doctor")(doctor.doctor)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CBMIR_DEBUG", help="Show tracebacks and Ray's log.")
    ] = False,
) -> None:
    """Set what holds for every command."""
    errors.debug = debug


def main() -> None:
    """Run the program; every error becomes one sentence on standard error and an exit code."""
    gc.set_threshold(20_000, 20, 20)  # imports make many objects that stay: looking through them each time costs 5 %
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code."""
    errors.debug = errors.as_json = False
    try:
        code = app(arguments, standalone_mode=False, prog_name="cbmir")
        return code if isinstance(code, int) else 0
    except Exit as exit_:
        if exit_.exit_code == EXIT_INTERRUPTED:  # Typer's own answer to Ctrl-C
            errors.show("interrupted")
        return exit_.exit_code
    except TyperException as error:
        if message := error.format_message():  # none where no command was given: the help stands there already
            errors.show(f"{message} (see --help)")
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        errors.show("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        interrupted = isinstance(error, Interrupted)
        if errors.debug and not interrupted:
            raise
        errors.show(_sentence(error))
        return EXIT_INTERRUPTED if interrupted else EXIT_ERROR


def _sentence(error: Exception) -> str:
    if isinstance(error, CbmirError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{error.filename} may not be read or written: ask its owner, or name another place"
    return f"unexpected {type(error).__name__}: {error} (a fault of this program: --debug shows where)"
