"""What needs no running container."""

import itertools
import os
import subprocess

import pytest

from tests.containers.engine import ROOT, start_engine

EDGE = [(), ("gpu.yaml",), ("jetson.yaml",), ("passwords.yaml",), ("gpu.yaml", "passwords.yaml")]
CLOUD = list(itertools.product([(), ("passwords.yaml",)], [(), ("--profile", "selfhost")]))


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    start_engine()


def config(folder: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FACEFERRY_")}
    return subprocess.run(
        ["docker", "compose", *arguments, "config", "-q"],
        cwd=ROOT / "compose" / folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_clean(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("files", EDGE)
def test_edge_files_are_clean_with_the_example_settings(files: tuple[str, ...]) -> None:
    named = [part for file in ("compose.yaml", *files) for part in ("-f", file)]
    assert_clean(config("edge", "--env-file", ".env.example", *named))


@pytest.mark.parametrize(("files", "profile"), CLOUD)
def test_cloud_files_are_clean_with_the_example_settings(
    files: tuple[str, ...], profile: tuple[str, ...]
) -> None:
    named = [part for file in ("compose.yaml", *files) for part in ("-f", file)]
    assert_clean(config("cloud", "--env-file", ".env.example", *named, *profile))


def test_dev_file_is_clean() -> None:
    assert_clean(config(".", "-f", "dev.compose.yaml", FACEFERRY_CLIP="/clip.mp4"))


@pytest.mark.parametrize("folder", ["edge", "cloud"])
def test_without_settings_the_first_missing_one_is_named(folder: str) -> None:
    done = config(folder, "--env-file", "/dev/null")
    assert done.returncode != 0
    assert ".env.example explains" in done.stderr
