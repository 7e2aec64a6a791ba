"""The console script: parse a command line, run it, and turn errors into exit codes.

Exit codes: 0 done, 1 a bug, 2 wrong usage or bad input, 3 with --strict: done, but images could not be used, 4 stopped
and resumable, 5 labels staged but not published.
"""

import os
import signal
import sys
from inspect import signature
from typing import get_args

from cyclopts import CycloptsError, MissingArgumentError
from pydantic import ValidationError

from flows.cli import (  # noqa: F401
    audit_commands,
    evaluation_commands,
    import_commands,
    label_commands,
    list_commands,
    mining_commands,
    model_commands,
)
from flows.cli.common import app
from flows.cli.terminal import err, interrupt_requested
from mining.config import Settings, format_validation_errors
from mining.config.system_errors import check_arguments, describe_os_error
from mining.errors import BoxmineError, InputError, RunStoppedError


def main() -> None:
    """Run the command line of this process and exit."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        signal.signal(signal.SIGINT, _interrupt)
    code = run_command(sys.argv[1:])
    running = sys.modules.get("flows.running")
    if running is not None and running.server_was_lost():
        _exit_without_handlers(code)
    sys.exit(code)


def run_command(tokens: list[str]) -> int:
    """Run one command line.

    Returns:
        The exit code; an error is printed on stderr in one sentence.
    """
    try:
        check_arguments(tokens)
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        err.print(f"boxmine: {_format_usage_error(error)} See `boxmine --help`.")
        return InputError.exit_code
    except BoxmineError as error:
        err.print(f"boxmine: {error}")
        return error.exit_code
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refusal = describe_os_error(error)
        err.print(f"boxmine: {refusal}")
        return refusal.exit_code
    except KeyboardInterrupt:
        err.print("boxmine: Stopped. What was finished is kept; run the same command again to do the rest.")
        return RunStoppedError.exit_code


def _format_usage_error(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError) and not isinstance(error, MissingArgumentError):
        return format_validation_errors(_settings_class(error), error.__cause__)
    return " ".join(str(error).split())


def _settings_class(error: CycloptsError) -> type[Settings]:
    """Return the settings class of the command that the error is about."""
    command = app
    for name in error.command_chain or ():
        command = command[name]
    parameters = signature(command.default_command).parameters.values() if command.default_command else ()
    kinds = [kind for parameter in parameters for kind in get_args(parameter.annotation)[:1]]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), Settings)


def _interrupt(*_: object) -> None:
    interrupt_requested.set()
    raise KeyboardInterrupt


def _exit_without_handlers(code: int) -> None:
    # Prefect's exit handlers would try to send each pending event to the lost server, for seconds each
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
