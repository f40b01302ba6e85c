"""The cloud broker's configuration, as `compose/cloud/broker/start` puts it together for a Mosquitto."""

import subprocess
from pathlib import Path

import pytest

from tests.cloud_broker import configure

DEPRECATED = ("acl_file", "password_file", "per_listener_settings", "allow_anonymous")


def configured(folder: Path, version: str, **settings: str) -> list[str]:
    """Return the lines that a broker of a version is started with."""
    made = configure(folder, version, **{"TEST_TOPIC": "porch", "PLUGINS": "/nowhere", **settings})
    return (made / "mosquitto.conf").read_text().splitlines()


@pytest.mark.parametrize(
    ("version", "option"),
    [
        ("2.0.11", "allow_anonymous"),
        ("2.0.22", "allow_anonymous"),
        ("of some day", "allow_anonymous"),
        ("2.1.2", "listener_allow_anonymous"),
        ("3.0.0", "listener_allow_anonymous"),
    ],
)
def test_a_broker_is_asked_in_the_words_that_it_knows(tmp_path: Path, version: str, option: str) -> None:
    lines = configured(tmp_path, version)
    assert [line for line in lines if "allow_anonymous" in line] == [f"{option} true", f"{option} false"]
    assert lines[-1].startswith("acl_file")


@pytest.mark.parametrize(
    ("topics", "filters"),
    [
        ("", ["test_topic"]),
        ("faceferry/+/+/face", ["test_topic"]),
        (
            "faceferry/+/+/face, cam/{camera}/faces,{device}/{camera}/snap,hw=lab/door,a b",
            ["cam/+/faces", "+/+/snap", "hw", "a b"],
        ),
    ],
)
def test_bare_images_may_be_written_by_the_one_that_is_named_where_the_store_listens(
    tmp_path: Path, topics: str, filters: list[str]
) -> None:
    folder = configure(tmp_path, "2.0.22", TEST_TOPIC="porch", STORE_TOPICS=topics)
    rules = (folder / "acl").read_text().split("user porch\n")[1]
    assert rules.splitlines() == [
        *(f"topic write {each}" for each in filters),
        "",
        "user _store",
        *(f"topic read {each}" for each in filters),
    ]


@pytest.fixture
def plugins(tmp_path: Path) -> str:
    """A folder with what Mosquitto 2.1 reads its files with."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name in ("acl", "password"):
        (folder / f"mosquitto_{name}_file.so").touch()
    return str(folder)


@pytest.mark.parametrize("version", ["2.1.2", "3.0.0"])
def test_a_broker_with_plugins_is_told_nothing_that_3_0_will_not_know(
    tmp_path: Path, plugins: str, version: str
) -> None:
    lines = configured(tmp_path, version, PLUGINS=plugins)
    assert not [line for line in lines if line.startswith(DEPRECATED)]
    rules = lines.index(f"global_plugin {plugins}/mosquitto_acl_file.so")
    assert lines[rules + 1] == "plugin_opt_acl_file /tmp/broker/acl"
    assert not [line for line in lines if "password" in line and not line.startswith("#")]


@pytest.mark.parametrize("version", ["2.0.11", "2.0.22"])
def test_an_older_broker_is_told_nothing_that_it_does_not_know(
    tmp_path: Path, plugins: str, version: str
) -> None:
    lines = configured(tmp_path, version, PLUGINS=plugins)
    assert not [line for line in lines if "plugin" in line]
    assert "per_listener_settings true" in lines


def test_those_without_a_name_may_read_what_the_health_check_does_and_nothing_else(tmp_path: Path) -> None:
    configured(tmp_path, "2.1.2")
    rules = (tmp_path / "broker" / "acl").read_text().splitlines()
    named = next(number for number, line in enumerate(rules) if line.startswith("user "))
    assert [line for line in rules[:named] if line.startswith("topic")] == ["topic read $SYS/broker/uptime"]


@pytest.mark.parametrize("memory", ["16m", "1.5g", "2G", "536870912", "512MiB", "512mb", "65536k"])
def test_memory_is_understood_as_the_engine_writes_it(tmp_path: Path, memory: str) -> None:
    assert configured(tmp_path, "2.1.2", MEMORY=memory)


@pytest.mark.parametrize("memory", ["", "much", "-1", "15m", "512", "08x", "1m2"])
def test_memory_that_cannot_be_meant_is_named(tmp_path: Path, memory: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as ended:
        configured(tmp_path, "2.1.2", MEMORY=memory)
    assert ended.value.returncode == 2
