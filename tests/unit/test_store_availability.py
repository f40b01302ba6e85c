from structlog.testing import capture_logs

from services.common.storage.objects import StoreUnavailable
from services.store.availability import Availability


def test_it_is_not_ready_before_it_has_worked_once() -> None:
    assert Availability().why_not_ready() == "not tried yet"


def test_each_reason_of_an_outage_is_logged_once_and_the_last_one_shown() -> None:
    availability = Availability()
    with capture_logs() as lines:
        for _ in range(2):
            for reason in ("timeout", "unreachable"):
                availability.failed(StoreUnavailable(reason))
            assert availability.why_not_ready() == "unreachable"
            availability.failed(StoreUnavailable("timeout"))
            availability.worked()
            availability.worked()
            assert availability.why_not_ready() is None
    outage = [
        ("store.unavailable", "timeout"),
        ("store.unavailable", "unreachable"),
        ("store.available", None),
    ]
    assert [(line["event"], line.get("reason")) for line in lines] == outage * 2
