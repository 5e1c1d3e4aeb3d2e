"""The entry point: finds the verb, and turns what went wrong into one line and an exit code.

0    ok
1    the job ran and failed
2    the command line is wrong
3    an optional package is missing; the error holds the command that installs it
4    an input file is missing, damaged or not supported
5    the device asked for is not available
130  stopped with Ctrl-C
141  the reader of our output went away
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from lithe.cli.output import print_json
from lithe.errors import FileMissing, InputError, LitheError, MissingDependency, ModelError, UnsupportedOp

VERBS = (
    "run",
    "convert",
    "quantize",
    "prune",
    "cluster",
    "compare",
    "inspect",
    "benchmark",
    "validate",
    "deflex",
    "doctor",
    "cache",
    "demo",
    "completion",
)

FAILED, USAGE, MISSING_PACKAGE, BAD_INPUT, NO_DEVICE, INTERRUPTED, PIPE_CLOSED = 1, 2, 3, 4, 5, 130, 141


class Verbs(click.Group):
    """A group whose commands are modules of this package, imported when they are asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"lithe.cli.{name}").command
        return command

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except BrokenPipeError as error:  # click would end with exit code 1
            raise PipeClosed from error


class PipeClosed(Exception):
    """The reader of our output went away."""


@click.command(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every verb takes --json, and prints one object then. Exit codes: see docs/cli.md.",
)
@click.option("--version", is_flag=True, help="Print the version and stop.")
@click.option("--json", "as_json", is_flag=True, help="With --version: print one JSON object.")
@click.pass_context
def lithe(context: click.Context, version: bool, as_json: bool) -> None:
    """Run, inspect and measure models for devices: .tflite files, with no TensorFlow inside."""
    if version:
        from importlib.metadata import version as installed

        number = installed("lithe")
        if as_json:
            print_json("version", {"version": number})
        else:
            click.echo(f"lithe {number}")
        context.exit(0)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def exit_code(error: LitheError) -> int:
    """The documented exit code for an error of ours."""
    match error:
        case MissingDependency():
            return MISSING_PACKAGE
        case ModelError() | UnsupportedOp() | FileMissing() | InputError():
            return BAD_INPUT
        case _:
            return FAILED


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code. Errors that are not ours keep their traceback."""
    try:
        result = lithe.main(arguments, prog_name="lithe", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return USAGE
    except LitheError as error:
        click.echo(f"error: {error}", err=True)
        return exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except (PipeClosed, BrokenPipeError):
        # The interpreter flushes stdout once more at exit; give it something that takes the bytes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
