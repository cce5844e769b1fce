"""Exit codes, errors without tracebacks, and the progress bar."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

from jaxp2p.settings.fields import UsageError as UsageError

OK, VERIFICATION_FAILED, USAGE, UNSOLVED, FILE_TROUBLE, LEFT_UNDONE = 0, 1, 2, 3, 4, 5
INTERRUPTED = 130

EXIT_CODES = {
    OK: "done",
    VERIFICATION_FAILED: "verify: a slot differs from the reference by more than the pass rule allows",
    USAGE: "wrong usage or bad input; every fault of the input is named",
    UNSOLVED: """run, study, tune, hosting: more than 1 % of the slots of a policy were not solved to the
       tolerance, or perfect foresight could not be solved; verify: the reference solver failed on a slot""",
    FILE_TROUBLE: "files cannot be read or written (no space, no permission)",
    LEFT_UNDONE: """run, study: all is solved and written, but under some policy load was not served, energy
       was spilled, or a limit of the grid that the market keeps was violated; tables say how much""",
    INTERRUPTED: "interrupted",
}


def exit_codes(*chosen: int) -> str:
    """Exit codes as the end of a help text; all of them by default."""
    lines = [f"  {code:<5}{EXIT_CODES[code]}" for code in chosen or EXIT_CODES]
    return "\b\nExit codes:\n" + "\n".join(lines)


def counted(number: int, thing: str) -> str:
    """A number of things, for titles: 1 member, 1,200 members."""
    return f"{number:,} {thing}" + "s" * (number != 1)


P = ParamSpec("P")


def fail(message: str, code: int) -> NoReturn:
    """Print to stderr and leave with an exit code."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def lenient_streams() -> None:
    """From now on a letter that the console does not have is spelt out, as in \\u0141, and is no error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Send what is still to be written to standard output nowhere: nothing is left to fail at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # there is no such stream, or none with a number
        pass


def echo_json(text: str) -> None:
    """JSON on standard output; letters that the console does not have as escapes of JSON, so none is lost."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(json.loads(text), indent=2) + "\n"
    typer.echo(text, nl=False)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose expected troubles end in a message and an exit code.

    Anything else is a fault of this program and keeps its traceback.
    """

    @wraps(command)
    def wrapped(*args: P.args, **options: P.kwargs) -> None:
        lenient_streams()
        try:
            command(*args, **options)
        except UsageError as error:
            fail(str(error), USAGE)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            fail(str(error), USAGE)
        except BrokenPipeError:
            drop_output()  # the reader of a pipe has gone; nobody is left to be told
            raise typer.Exit(OK) from None
        except OSError as error:
            fail(f"file trouble: {error}", FILE_TROUBLE)
        except KeyboardInterrupt as stop:
            how = f": {stop}" if str(stop) else ""  # a study says how to continue
            typer.echo(f"error: interrupted{how}", err=True)
            sys.stdout.flush()
            # a compilation may still run in a thread; an orderly exit of Python would crash under it
            os._exit(INTERRUPTED)

    return wrapped


@contextmanager
def user_input() -> Iterator[None]:
    """Within this block a ValueError (InputError is one) is the user's input at fault."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


class RunProgress:
    """Progress of all policies together on stderr, with the time that is left."""

    def __init__(self, policies: Iterable[str], slots: int, *, quiet: bool):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self._done = dict.fromkeys(policies, 0)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            Remaining(compact=True),
        )
        console = Console(stderr=True)
        silent = quiet or not console.is_terminal  # a log file has no use for a moving bar
        self._bar = Progress(*columns, console=console, transient=True, disable=silent)
        self._task = self._bar.add_task("starting", total=max(slots * len(self._done), 1))

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """What is going on, where nothing can be counted."""
        self._bar.update(self._task, description=text)

    def __call__(self, name: str, done: int, total: int) -> None:
        """What `jaxp2p.runs.runner.run` reports: a policy's name (or a stage) and its slots."""
        if name in self._done:
            self._done[name] = done
        text = name.replace("_", " ")
        self._bar.update(self._task, description=text, completed=sum(self._done.values()))
