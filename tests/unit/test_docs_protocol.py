"""What docs/protocol.md says against what the code says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
SAID_BY = [
    *(
        str(path.relative_to(ROOT))
        for drawer in ("wire", "images")
        for path in sorted((ROOT / "services" / "common" / drawer).glob("*.py"))
    ),
    "services/detect/decoder.py",
    "services/detect/decode_cost.py",
    "services/detect/mailbox.py",
    "services/detect/codec.py",
    "services/detect/service.py",
    "services/forward/receiver.py",
    "services/store/admission.py",
]
NEVER_TOLD = {"repeated", "mailbox_full", "bad_boxes"}
"""Of frames that are sent again, and answered then; and of detect's own answers, which are not answered."""


def test_each_reason_that_a_client_can_be_told_is_on_the_page() -> None:
    found = {
        reason
        for path in SAID_BY
        for reason in re.findall(r'(?:Refused\(|Dropped\(\w+, )"([a-z0-9_]+)"', (ROOT / path).read_text())
    }
    assert len(found) > 20
    assert {reason for reason in found - NEVER_TOLD if f"`{reason}`" not in PAGE} == set()


def test_the_commands_on_the_page_are_those_that_there_are() -> None:
    assert set(re.findall(r"check-client (\w+)", PAGE)) >= {"store", "detect", "capture"}
    for name in re.findall(r"docs/examples/(\w+\.\w+)", PAGE):
        assert (ROOT / "docs" / "examples" / name).exists()
