"""Headless Chromium through Debian's chromedriver: the W3C WebDriver protocol is a few JSON requests.

https://www.w3.org/TR/webdriver2/
"""

import base64
import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from services.up.brokers import free_port
from tests.support import wait_for_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "ArrowLeft": "\ue012",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "ArrowUp": "\ue013",
    "Home": "\ue011",
    "End": "\ue010",
    "Tab": "\ue004",
}
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)


class WebDriverError(Exception):
    """The browser could not do what it was told."""


class Browser:
    """One browser window.

    Args:
        driver_url: where chromedriver listens.
        profile: an empty folder for the browser's own files.
    """

    def __init__(self, driver_url: str, profile: Path) -> None:
        options = {"args": [*SWITCHES, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._url = driver_url
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._url = f"{driver_url}/session/{answer['sessionId']}"

    def close(self) -> None:
        """End the browser."""
        self._ask("DELETE", "")

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._ask("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: object) -> Any:
        """Run a function's body that calls its last argument with the result."""
        return self._ask("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def click(self, selector: str) -> None:
        """Click on the first element that a CSS selector finds."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[ELEMENT]}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[ELEMENT]}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press a key, wherever the focus is."""
        value = KEYS.get(key, key)
        actions = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def texts(self, selector: str) -> list[str]:
        """Return the text of every element that a CSS selector finds."""
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent.trim())"
        return list(self.run(script, selector))

    def count(self, selector: str) -> int:
        """Return how many elements a CSS selector finds."""
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def look(self, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Be a screen (below 500 pixels a phone), in light or dark mode, of someone who wants no motion."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._devtools("Emulation.setEmulatedMedia", features=[scheme, still])
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 500 else 1,
            mobile=width < 500,
        )

    def screenshot(self, path: Path) -> None:
        """Save what is to be seen as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def without_scripts(self, are_off: bool) -> None:
        """Have pages run no script of their own, or have them run it again."""
        self._devtools("Emulation.setScriptExecutionDisabled", value=are_off)

    def live_in(self, zone: str) -> None:
        """Be in a time zone, such as `Asia/Kolkata`; empty: in the machine's own."""
        self._devtools("Emulation.setTimezoneOverride", timezoneId=zone)

    def forget(self) -> None:
        """Throw away cookies and what was kept of pages."""
        self._devtools("Network.clearBrowserCookies")
        self._devtools("Network.clearBrowserCache")

    def console(self) -> list[str]:
        """Return what the page has complained of since the last time it was asked."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def until(self, claim: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until `claim()` is truthy; fail when it is not in time."""
        deadline = monotonic() + timeout_s
        while not claim():
            if monotonic() > deadline:
                raise TimeoutError(f"still not so after {timeout_s} s at {self.url}")
            sleep(0.05)

    def _devtools(self, command: str, **params: object) -> None:
        self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": params})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(  # noqa: S310 - always http, on loopback
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise WebDriverError(json.load(error)["value"]["message"]) from error


@contextlib.contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """A browser for as long as the context lasts.

    Args:
        folder: an empty one, for the browser's own files.
    """
    port = free_port()
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}", "--silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, 20.0)
        browser = Browser(f"http://127.0.0.1:{port}", folder)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(10)
