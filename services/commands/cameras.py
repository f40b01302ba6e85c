import argparse
import json
from dataclasses import asdict

from services.capture.machine import LocalCamera, cameras_of_this_machine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry cameras`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List this machine's cameras, each with the line to put into the configuration."""
    cameras = cameras_of_this_machine()
    for camera in cameras:
        print(json.dumps(asdict(camera), default=str) if options.json else _as_text(camera))
    if not cameras and not options.json:
        print("no camera found; network cameras are not listed: name them by their rtsp:// or http:// URL")
    return 0


def _as_text(camera: LocalCamera) -> str:
    lines = [f"{camera.url}  {camera.name}"]
    lines += [f"    {offered}" for offered in camera.formats]
    lines.append(
        f"    problem: {camera.problem}" if camera.problem else f"    FACEFERRY_CAMERAS={camera.line}"
    )
    return "\n".join(lines)
