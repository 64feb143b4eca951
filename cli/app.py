"""The ``cbmir`` program: its commands, and how errors reach the person at the terminal."""

from __future__ import annotations

import gc
import os
import re
import sys
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, Exit, TyperException
from typer.main import get_command

from cli.commands import (
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
    serve,
    shell,
    status,
    train,
    upgrade,
    watch,
)
from cli.console import EXIT_COMMAND_LINE, EXIT_ERROR, errors, messages, open_standard_streams, output, sentence
from cli.interruption import EXIT_INTERRUPTED, exit_code
from model.errors import CbmirError, Interrupted, SettingError, was_interrupted

EXIT_BROKEN_PIPE = 141
"""As of a program that SIGPIPE ends: whoever read the results had enough."""

app = typer.Typer(
    name="cbmir",
    help="Content-based medical image retrieval: show me the ones that look like this.",
    epilog="Exit codes: 0 all done · 1 error · 2 a command line that cannot work · 3 done, but some files or queries "
    "were left out · 130 interrupted by Ctrl-C · 143 by SIGTERM. Every option can come from the environment: --index "
    "from CBMIR_INDEX, --model from CBMIR_MODEL…",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("cross-validate")(cross_validate.cross_validate)
app.command("index")(index.index)
app.command("watch")(watch.watch)
app.command("search")(search.search)
app.command("serve")(serve.serve)
app.command("shell")(shell.shell)
app.command("status")(status.status)
app.command("delete")(delete.delete)
app.command("copy")(copy.copy)
app.command("upgrade")(upgrade.upgrade)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("inspect")(inspect.inspect)
app.add_typer(model.model_app, name="model")
app.add_typer(dataset.dataset_app, name="dataset")
app.command("doctor")(doctor.doctor)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        output.print(f"cbmir {version('cbmir')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CBMIR_DEBUG", help="Show tracebacks and Ray's log.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="CBMIR_QUIET", help="Print results and errors only.")
    ] = False,
    version: Annotated[  # noqa: ARG001 (its callback acts)
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Set what holds for every command."""
    errors.debug, messages.quiet = debug, quiet
    _require_working_directory()


def main() -> None:
    """Run the program; every error becomes one sentence on standard error and an exit code."""
    open_standard_streams()
    sys.unraisablehook = _show_if_debugged
    gc.set_threshold(20_000, 20, 20)  # imports make many objects that stay: looking through them each time costs 5 %
    sys.exit(_flushed(run(sys.argv[1:])))


def _show_if_debugged(unraisable: sys.UnraisableHookArgs) -> None:
    """Of an exception in a destructor, which Python itself ignores: libraries raise them when Ctrl-C cuts them off."""
    if errors.debug:
        sys.__unraisablehook__(unraisable)


def run(arguments: list[str]) -> int:
    """Run one command line; return its exit code."""
    errors.debug = errors.as_json = messages.quiet = False
    try:
        code = _command()(arguments, standalone_mode=False, prog_name="cbmir")
        return code if isinstance(code, int) else 0
    except (Exit, TyperException) as ended:
        return _ended(ended)
    except (KeyboardInterrupt, Abort):
        errors.show("interrupted")
        return exit_code()
    except (BrokenPipeError, SystemExit):  # the latter by the console with which Typer prints its help
        return EXIT_BROKEN_PIPE
    except Exception as error:
        if was_interrupted(error) and not isinstance(error, Interrupted):
            errors.show("interrupted")
            return exit_code()
        if errors.debug and not isinstance(error, Interrupted):
            raise
        errors.show(sentence(error))
        return _code(error)


@cache
def _command() -> Any:
    """The commands with their options, which Typer else finds out anew at each call."""
    return get_command(app)


def _ended(ended: Exit | TyperException) -> int:
    """Say why Typer ended the command line, unless it was asked to; return the exit code."""
    if isinstance(ended, Exit):
        if ended.exit_code == EXIT_INTERRUPTED:  # Typer's own answer to Ctrl-C
            errors.show("interrupted")
    elif message := _usage(ended.format_message()):  # none where no command was given: the help stands there already
        errors.show(f"{message} (see --help)")
    return ended.exit_code


def _code(error: Exception) -> int:
    if isinstance(error, Interrupted):
        return exit_code()
    return EXIT_COMMAND_LINE if isinstance(error, SettingError) else EXIT_ERROR


def _flushed(code: int) -> int:
    """Write what is still to be written; whoever read it may be gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python tries again when it ends, and says that it failed
        return EXIT_BROKEN_PIPE
    return code


def _usage(message: str) -> str:
    """Typer's message, with the choice that was nearly hit."""
    message = message.replace("Value error, ", "")
    if found := re.search(r"'([^']*)' is not one of (.*)\.$", message):
        wrong, choices = found[1], re.findall(r"'([^']*)'", found[2])
        if near := get_close_matches(wrong, choices, 1):
            return f"{message} Did you mean {near[0]!r}?"
    return message


def _require_working_directory() -> None:
    """Libraries under torch end the process where there is none, and no relative path means anything."""
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd is this)
    except FileNotFoundError as error:
        raise CbmirError(
            "the working directory of this shell is gone: change to one that exists, and run the command again"
        ) from error
