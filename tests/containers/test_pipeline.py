"""Both sides as their users run them, joined by nothing but the published TLS port."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import skip
from tests.containers.bucket import Bucket
from tests.containers.engine import SERVICES, Project, docker, service_of, until
from tests.containers.site import Site

pytestmark = pytest.mark.timeout(400)

CLASSROOM_FACES = 180
CUT_S = 60


@pytest.fixture(scope="module")
def bucket(site: Site) -> Bucket:
    return Bucket(site.s3_port, {"AWS_SHARED_CREDENTIALS_FILE": str(site.cloud / "aws-credentials")})


def arrives(ids: Iterable[str], bucket: Bucket, timeout_s: float) -> float:
    """Wait until these faces are stored, each once."""
    wanted = set(ids)
    took_s = until(
        lambda: wanted <= set(bucket.ids()), timeout_s, lambda: f"missing {len(wanted - set(bucket.ids()))}"
    )
    found = bucket.ids()
    assert len(found) == len(set(found))
    return took_s


def play(edge: Project, clip: str, camera: str) -> None:
    """Have a clip as the only camera, every frame of it once."""
    edge.configure(FACEFERRY_CAMERAS=f"{camera}=file:///recordings/{clip}?paced=1")
    edge("up", "-d", "--no-build", "--no-deps", "capture")


def found(edge: Project, least: int, known: set[str]) -> set[str]:
    """Wait until detect has found so many new faces; return them."""
    until(lambda: len(edge.ids("detect", "detect.face_found") - known) >= least, 60)
    return edge.ids("detect", "detect.face_found") - known


def test_all_faces_of_a_clip_are_in_the_bucket_within_a_minute(
    cloud: Project, edge: Project, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cloud.containers()
    started = time.monotonic()
    edge.up()
    ids = found(edge, CLASSROOM_FACES - 2, set())
    arrives(ids, bucket, 60 - (time.monotonic() - started))
    took_s = time.monotonic() - started
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(ids)} faces in the bucket {took_s:.1f} s after `docker compose up` at the edge\n"
        )
    assert abs(len(bucket.ids()) - CLASSROOM_FACES) <= 2


def test_every_container_is_confined(cloud: Project, edge: Project) -> None:
    containers = cloud.containers() + edge.containers()
    assert {service_of(one) for one in containers} == {
        *("broker", "capture", "detect", "forward", "store", "s3")
    }
    for one in containers:
        host, name = one["HostConfig"], one["Name"]
        assert one["Config"]["User"] == "10001:10001", name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["Privileged"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert host["Memory"] > 0, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}, name
        assert one["State"]["Health"]["Status"] == "healthy", name


def test_the_kernel_agrees(cloud: Project, edge: Project) -> None:
    for one in cloud.containers() + edge.containers():
        for pid in docker("top", one["Id"], "-eo", "pid").split()[1:]:
            status = Path(f"/proc/{pid}/status").read_text()
            told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert told["Uid"].split() == ["10001"] * 4
            assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
            assert told["NoNewPrivs"].strip() == "1"


def test_a_service_can_be_stopped_before_it_is_up(edge: Project) -> None:
    """As the first process of a container Python would hear nothing then, and be killed ten seconds later."""
    edge("restart", "forward")
    edge("stop", "forward")
    state = edge.containers("forward")[0]["State"]
    edge.up()
    assert state["ExitCode"] in (0, 128 + signal.SIGTERM)


def test_one_face_is_followed_with_one_grep(cloud: Project, edge: Project) -> None:
    for project, services in ((cloud, ["store"]), (edge, ["capture", "detect", "forward"])):
        for line in project("logs", "--no-log-prefix", "--no-color", *services).splitlines():
            event = json.loads(line)
            assert event["service"] in services
            assert event["event"]
    face = min(edge.ids("detect", "detect.face_found"))
    lines = edge("logs", "--no-log-prefix").splitlines() + cloud("logs", "--no-log-prefix").splitlines()
    told = {
        (event["service"], event["event"]) for line in lines if face in line for event in [json.loads(line)]
    }
    assert told == {
        ("detect", "detect.face_found"),
        ("forward", "forward.face_taken"),
        ("store", "store.face_stored"),
    }


def test_services_start_in_seconds(cloud: Project, edge: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """They do so in under 2 s; this machine may have other things to do."""
    for one in edge.containers() + cloud.containers():
        if (name := service_of(one)) in SERVICES:
            listening = [line for line in events(one["Id"]) if line["event"] == "health.listening"][-1]
            took_s = (instant(listening["timestamp"]) - instant(one["State"]["StartedAt"])).total_seconds()
            with capsys.disabled():
                sys.stdout.write(f"\n{name:8} listens {took_s:.2f} s after its start")
            assert 0 < took_s < 10


def instant(text: str) -> datetime:
    """Read the engine's times, which have nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text))


def events(container: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logs(container).splitlines() if line.startswith("{")]


def test_only_the_edge_network_reaches_the_local_broker(edge: Project, site: Site) -> None:
    broker = edge.containers("broker")[0]
    assert not broker["HostConfig"]["PortBindings"]
    assert list(broker["NetworkSettings"]["Networks"]) == [f"{edge.name}_edge"]
    assert json.loads(docker("network", "inspect", f"{edge.name}_edge"))[0]["Internal"]
    # detect sees nothing but the broker: what an image library may be talked into cannot call home.
    asked = "import socket; socket.create_connection(('" + site.host + f"', {site.mqtt_port}), 3)"
    done = subprocess.run(
        ["docker", "exec", edge.containers("detect")[0]["Id"], "python3", "-c", asked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "OSError" in done.stderr or "TimeoutError" in done.stderr


def test_with_the_wire_cut_for_a_minute_all_faces_arrive_afterwards(edge: Project, bucket: Bucket) -> None:
    known = set(edge.ids("detect", "detect.face_found"))
    wire, forward = f"{edge.name}_outside", edge.containers("forward")[0]["Id"]
    docker("network", "disconnect", wire, forward)
    cut_at = time.monotonic()
    play(edge, "head-pose-face-detection-female-and-male.mp4", "cut")
    ids = found(edge, 105, known)
    until(lambda: ids <= edge.ids("forward", "forward.face_taken"), 30)
    assert not ids & set(bucket.ids())
    time.sleep(max(0, CUT_S - (time.monotonic() - cut_at)))
    docker("network", "connect", wire, forward)
    arrives(ids, bucket, 60)


def test_the_spool_survives_down_and_up(cloud: Project, edge: Project, bucket: Bucket) -> None:
    known = set(edge.ids("detect", "detect.face_found"))
    cloud("stop", "--timeout", "5", "broker")
    play(edge, "face-demographics-walking-and-pause.mp4", "down")
    ids = found(edge, 118, known)
    until(lambda: ids <= edge.ids("forward", "forward.face_taken"), 30)
    held = json.loads(
        edge("exec", "-T", "forward", "python3", "-m", "services.forward.spool.holdings", "--json")
    )
    assert held["faces"] >= len(ids)
    edge("down", "--timeout", "5")
    # Without a camera: nothing but the spool has these faces now.
    edge("up", "-d", "--no-build", "broker", "detect", "forward")
    cloud("start", "broker")
    arrives(ids, bucket, 60)


def test_with_replicas_and_standbys_each_killed_in_turn_nothing_is_lost(
    cloud: Project, edge: Project, bucket: Bucket
) -> None:
    if os.geteuid() != 0:
        skip("only root may kill a container's process behind the engine's back")
    # Thirty frames a second with one face in each; what is lost of a live camera is frames, never faces.
    edge.configure(FACEFERRY_CAMERAS="live=file:///recordings/book.mkv?loop=1")
    cloud.up("--scale", "store=2")
    edge.up("--scale", "detect=3", "--scale", "forward=2", "--scale", "capture=2")
    assert (
        len(says(edge, "capture", "capture.standing_by"))
        == len(says(edge, "forward", "spool.standing_by"))
        == 1
    )
    known = set(bucket.ids())
    until(lambda: set(bucket.ids()) - known, 60)
    for one in edge.containers() + cloud.containers():
        kill(one)
    new = set(bucket.ids())
    until(lambda: len(set(bucket.ids()) - new) > 30, 60)
    edge("stop", "--timeout", "5", "capture")
    assert len(says(edge, "detect", "detect.face_found")) == 3
    assert len(says(cloud, "store", "store.face_stored")) == 2
    arrives(edge.ids("forward", "forward.face_taken"), bucket, 60)
    puts = [line for line in cloud.events("store") if line["event"] == "store.face_stored" and line["is_new"]]
    assert len(puts) == len({line["id"] for line in puts})


def says(project: Project, service: str, event: str) -> list[str]:
    """Which of a service's replicas have logged this event."""
    containers = [one["Id"] for one in project.containers(service)]
    return [one for one in containers if any(line["event"] == event for line in events(one))]


def logs(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def kill(container: Mapping[str, Any]) -> None:
    """End a container's process as a crash would, and wait until the engine has brought it back."""
    pid = container["State"]["Pid"]

    def is_back() -> bool:
        state = json.loads(docker("inspect", container["Id"]))[0]["State"]
        return state["Running"] and state["Pid"] not in (0, pid) and state["Health"]["Status"] == "healthy"

    os.kill(pid, signal.SIGKILL)
    until(is_back, 30, lambda: f"{container['Name']} is not back")
