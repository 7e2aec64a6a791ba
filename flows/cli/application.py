"""The console script: parse a command line, run it, and turn errors into exit codes.

Exit codes: 0 done, 1 a bug, 2 wrong usage or bad input, 3 with --strict: done, but images could
not be used, 4 stopped and resumable, 5 labels staged but not published.
"""

import os
import signal
import sys

from cyclopts import CycloptsError, MissingArgumentError
from pydantic import ValidationError

from flows.cli import evaluation_commands, label_commands, list_commands, mining_commands  # noqa: F401
from flows.cli.common import app
from flows.cli.terminal import err
from mining.config import MineSettings, TrainSettings, format_validation_errors
from mining.config.system_errors import check_arguments, describe_os_error
from mining.errors import BoxmineError, InputError, RunStoppedError


def main() -> None:
    """The console script."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run_command(sys.argv[1:]))


def run_command(tokens: list[str]) -> int:
    """Run one command line; gives its exit code, errors told in one sentence on stderr."""
    try:
        check_arguments(tokens)
        return app(_spread_lists(tokens), exit_on_error=False, print_error=False, result_action="return_value") or 0
    except CycloptsError as error:
        err.print(f"boxmine: {_usage_fault(error)} See `boxmine --help`.")
        return InputError.exit_code
    except BoxmineError as error:
        err.print(f"boxmine: {error}")
        return error.exit_code
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        refusal = describe_os_error(error)
        err.print(f"boxmine: {refusal}")
        return refusal.exit_code
    except KeyboardInterrupt:
        err.print("boxmine: Stopped. What is finished is kept; give the same command again to carry on.")
        return RunStoppedError.exit_code


def _usage_fault(error: CycloptsError) -> str:
    if isinstance(error.__cause__, ValidationError) and not isinstance(error, MissingArgumentError):
        kind = TrainSettings if "train" in (error.command_chain or ()) else MineSettings
        return format_validation_errors(kind, error.__cause__)
    return " ".join(str(error).split())


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


_LISTS = ("--scales", "--classes")


def _spread_lists(tokens: list[str]) -> list[str]:
    """Give `--scales 1,1.5,2` and `--classes dog,cat` as the parser expects them: the option once per value."""
    spread: list[str] = []
    rest = iter(tokens)
    for token in rest:
        name, _, value = token.partition("=")
        if name not in _LISTS:
            spread.append(token)
            continue
        parts = [part for part in (value or next(rest, "")).split(",") if part.strip()]
        spread += [text for part in parts for text in (name, part.strip())] or [name]
    return spread
