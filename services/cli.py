"""The `faceferry` command."""

import argparse
import importlib
import io
import os
import sys
from typing import NoReturn, cast

from services.common.errors import SetupError, did_you_mean
from services.common.runtime.arguments import Parser
from services.common.runtime.lifecycle import EXIT_SETUP, setup_error_in
from services.common.runtime.logging import configure_logging
from services.common.version import VERSION

SERVICES = {
    "capture": "take frames from cameras and recordings",
    "detect": "find the faces in frames",
    "forward": "hold faces on disk and bring them to the cloud",
    "store": "put faces into the bucket or folder",
    "gallery": "show what is stored, in a browser",
}
_MOST_SHOWN = 300
COMMANDS = {
    "up": "run all services and both brokers on this machine",
    "faces": "list what is stored, newest first",
    "copy": "copy what is stored, with all that is known about it, to another bucket or folder",
    "index": "show, tidy, repair or rebuild the list of what is stored",
    "cameras": "list the cameras of this machine and its network, with the line for the configuration",
    "models": "list, fetch or verify the detector's models",
    "open": "open sealed faces with a private key, or make one",
    "erase": "erase faces for good, with proof: from the store, and from every device that holds any",
    "retain": "say for how long faces are kept, and see to it that they go in time",
    "status": "show devices, cameras, links and what waits, on one screen",
    "spool": "show what waits for the cloud and what cannot go there, or put that back",
    "pki": "make, renew, revoke and list the certificates of the broker, the store and the devices",
    "check-client": "play the other side to a client of your own, and say what is wrong with it",
    "doctor": "check what is needed, and say how to repair what is missing",
}
EXTRAS = {
    **{name: name for name in SERVICES},
    **dict.fromkeys(("up", "doctor", "check-client"), "all"),
    **dict.fromkeys(("faces", "copy", "index", "open", "erase", "retain"), "store"),
    "cameras": "capture",
    "models": "detect",
    "status": "forward",
    "spool": "forward",
    "pki": "pki",
}
"""The extra of the project with the packages that each of them needs."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status.

    Each command is a module of `services.commands` with `add_arguments` and `run`, and is imported only when
    it is asked for: an image holds one service's packages, not all.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _show_any_name()
    name = arguments[0] if arguments else ""
    try:
        return _run(name, arguments)
    except ModuleNotFoundError as error:
        print(f"faceferry: {_missing(name, error)}", file=sys.stderr)
        return EXIT_SETUP


def _run(name: str, arguments: list[str]) -> int:
    if name in SERVICES:
        return _run_service(name, arguments[1:])
    if name in ("-V", "--version"):
        print(f"faceferry {VERSION}")
        return 0
    if name not in COMMANDS:
        return _explain(name)
    parser = Parser(prog=f"faceferry {name}", description=COMMANDS[name])
    command = importlib.import_module(f"services.commands.{name.replace('-', '_')}")
    command.add_arguments(parser)
    options = parser.read(arguments[1:])
    configure_logging("faceferry", "warning", "console")
    return _run_command(options)


def _missing(name: str, error: ModuleNotFoundError) -> str:
    """Return what to install, or that this image has another service's packages."""
    package, extra = str(error.name).partition(".")[0], EXTRAS[name]
    if package == "services":
        return f"{name} is not available here, because {error.name} is not installed"
    return (
        f"{name} needs {package}, which is not installed: it comes with the extra {extra!r}, as in "
        f"pip install '.[{extra}]' in the project's folder"
    )


def _run_command(options: argparse.Namespace) -> int:
    try:
        return cast("int", options.run(options))
    except (SetupError, BaseExceptionGroup) as error:
        if (problem := setup_error_in(error)) is None:
            raise
        print(f"faceferry: {problem}", file=sys.stderr)
        return EXIT_SETUP
    except BrokenPipeError:
        # The reader of our output has ended, as `head` does; Python would report that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        # A file from the command line or the environment.
        print(f"faceferry: {_shortened(str(error.filename))!r}: {error.strerror}", file=sys.stderr)
        return EXIT_SETUP


def _show_any_name() -> None:
    """Allow output of names that are not UTF-8, as files may have."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _run_service(name: str, arguments: list[str]) -> int:
    """Run one service, which reads its settings from the environment and has no argument but --help."""
    sys.argv = [f"faceferry {name}", *arguments]
    return cast("int", importlib.import_module(f"services.{name}.__main__").main())


def _explain(name: str) -> int:
    is_asked = name in ("", "-h", "--help")
    out = sys.stdout if is_asked else sys.stderr
    if not is_asked:
        meant = did_you_mean(name, (*COMMANDS, *SERVICES))
        print(f"faceferry: there is no command {name!r}{meant}\n", file=out)
    print("usage: faceferry COMMAND [--help]\n", file=out)
    for command, does in COMMANDS.items():
        print(f"  {command:12} {does}", file=out)
    print("\none service each, with settings from the environment:\n", file=out)
    for service, does in SERVICES.items():
        print(f"  {service:12} {does}", file=out)
    return 0 if name in ("-h", "--help") else EXIT_SETUP


def run() -> NoReturn:
    """Run the command line and end the process at once.

    obstore's threads may use the interpreter while it shuts down, which aborts it.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
