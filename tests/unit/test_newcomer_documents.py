import pytest

from tests.newcomer.documents import block, blocks, command, parse

TEXT = """\
# Page

```sh
./scripts/up      # all of it
# by itself a comment
./scripts/test \\
    tests/unit
```

## Part

```console
$ ls clip.mkv
clip.mkv
```
```sh
sudo install /dev/stdin file <<'END'
# no comment
END
echo "done"
```
"""


def test_blocks_are_found_with_their_place_heading_and_language() -> None:
    found = list(parse(TEXT, "page.md"))
    assert [(one.place, one.heading, one.language) for one in found] == [
        ("page.md:4", "Page", "sh"),
        ("page.md:13", "Part", "console"),
        ("page.md:17", "Part", "sh"),
    ]


def test_commands_keep_what_continues_them_and_leave_out_comments_and_answers() -> None:
    first, second, third = parse(TEXT, "page.md")
    assert first.commands() == ["./scripts/up      # all of it", "./scripts/test \\\n    tests/unit"]
    assert second.commands() == ["ls clip.mkv"]
    assert third.commands() == [
        "sudo install /dev/stdin file <<'END'\n# no comment\nEND",
        'echo "done"',
    ]


def test_a_heading_in_a_block_is_none() -> None:
    (only,) = parse("## A\n```sh\n# comment\ntrue\n```\n", "page.md")
    assert only.heading == "A"
    assert only.commands() == ["true"]


def test_what_a_reader_has_to_exchange_must_stand_there() -> None:
    first = next(parse(TEXT, "page.md"))
    assert first.exchanged(("tests/unit", "tests/x"), ("up", "down")).commands()[1].endswith("tests/x")
    with pytest.raises(ValueError, match=r"page\.md:4: 'clip' does not stand there"):
        first.exchanged(("clip", "other"))


def test_a_block_or_command_is_named_by_what_only_it_has() -> None:
    assert block("README.md", "./scripts/test ").commands()[0].startswith("./scripts/up")
    assert command("README.md", "./scripts/test").startswith("./scripts/test")
    assert command("docs/cameras.md", "install -m 600 /dev/stdin secrets/cameras")
    with pytest.raises(ValueError, match=r"README\.md: \d+ commands begin with '\./scripts/up'"):
        command("README.md", "./scripts/up")
    with pytest.raises(ValueError, match="0 blocks contain"):
        block("README.md", "this stands nowhere")


@pytest.mark.parametrize(
    "document",
    ["install", "operations", "troubleshooting", "cameras", "security", "notify", "home-assistant"],
)
def test_who_is_in_the_group_docker_needs_no_sudo_for_what_is_typed_there(document: str) -> None:
    every = [one for each in blocks(f"docs/{document}.md") for one in each.commands()]
    assert every
    assert [one for one in every if "sudo" in one.split()] == []
