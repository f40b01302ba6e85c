import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how long a newcomer waits."""
    reports = [one for each in terminalreporter.stats.values() for one in each]
    told = [pair for one in reports if getattr(one, "when", "") == "call" for pair in one.user_properties]
    if told:
        terminalreporter.section("how long it took")
    for name, seconds in told:
        terminalreporter.line(f"{seconds:5.0f} s  {name}")
