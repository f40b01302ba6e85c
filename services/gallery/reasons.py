"""Why a camera or a device is not online, in words. Pure."""

from collections.abc import Mapping
from typing import Final

_OF_CAMERA: Final[Mapping[str, str]] = {
    "broken": "What comes from it is no picture.",
    "changed": "Its pictures changed their size; it is being started again.",
    "ended": "The recording is over.",
    "exited": "Its program ended, or it was unplugged.",
    "silent": "It was opened, and gave no picture in time.",
    "stalled": "Its pictures stopped.",
    "stopped": "capture is not running.",
    "unavailable": "It cannot be opened.",
}
_LOOK = "On the device, “faceferry status” and the log of capture say more."
_UNKNOWN = "It did not say why."


def of_camera(state: str, why: str | None, device_state: str) -> str:
    """Return why a camera is not online; `""` where it is.

    Args:
        state: what is shown of it.
        why: the word that it said, if it did; from the network, so only words that are known are shown.
        device_state: what is shown of its device's link.
    """
    match state:
        case "online":
            return ""
        case "offline" | "stalled":
            return f"{_OF_CAMERA.get(why or '', _UNKNOWN)} {_LOOK}"
    if device_state == "offline":
        return "Its device cannot be heard."
    return "Nothing was heard of it yet."


def of_device(state: str, *, is_silent: bool) -> str:
    """Return why a device's link to the cloud is not up; `""` where it is.

    Args:
        state: what is shown of it.
        is_silent: whether it has fallen silent, and nobody has said that it has gone.
    """
    match state:
        case "online":
            return ""
        case "offline" if is_silent:
            return "It fell silent without a goodbye: its power, or its network. Its faces wait on it."
        case "offline":
            return "Its connection ended: it was stopped, or its network went. Its faces wait on it."
    return "Nothing was heard of it since the gallery was started."
