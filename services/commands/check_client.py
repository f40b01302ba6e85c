"""Tests an MQTT client against the protocol, by playing the other side."""

import argparse
import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from services.common.errors import SetupError
from services.common.runtime.arguments import broker, name, port, seconds
from services.conformance.camera_judge import CameraJudge
from services.conformance.detector_judge import DetectorJudge
from services.conformance.face_judge import FaceJudge
from services.conformance.play import Judge, own_broker, play

PARTS = {
    "store": "takes faces as in the cloud, for a client that publishes them",
    "forward": "takes faces as at the edge, for a client that publishes them",
    "detect": "takes frames and answers them, for a client that is a camera",
    "capture": "sends frames and takes faces, for a client that is a detector",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry check-client`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "what it plays:\n" + "\n".join(f"  {part:8} {does}" for part, does in PARTS.items())
    parser.add_argument("plays", choices=PARTS, help="see below")
    parser.add_argument(
        "--broker", type=broker, metavar="URL", help="default: one of its own, on this machine"
    )
    parser.add_argument("--port", type=port, default=0, help="of its own broker; default: any free one")
    parser.add_argument(
        "--device", type=name, default="porch", help="whose camera it plays, for capture (default: porch)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a JPEG with a face, for capture")
    parser.add_argument(
        "--timeout", type=seconds(86_400), default=60.0, metavar="S", help="the client's time (default: 60)"
    )
    parser.add_argument(
        "--client",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="COMMAND",
        help="starts the client, all that follows; MQTT_URL tells it the broker",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the verdict; return 1 unless each rule was seen to be kept."""
    judge = _judge(options)
    with nullcontext(options.broker) if options.broker else own_broker(options.port) as url:
        print(f"broker: {url}", flush=True)
        asyncio.run(play(judge, url, options.client, options.timeout))
    print(*judge.verdict.lines(), sep="\n")
    return 0 if judge.verdict.is_fine else 1


def _judge(options: argparse.Namespace) -> Judge:
    if options.plays == "detect":
        return CameraJudge()
    if options.plays == "capture":
        if options.picture is None:
            raise SetupError("--picture names a JPEG with a face, which the detector is shown")
        return DetectorJudge(options.device, options.picture.read_bytes(), lambda: datetime.now(UTC))
    return FaceJudge(options.plays)
