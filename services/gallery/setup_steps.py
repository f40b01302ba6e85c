"""The steps from an empty store to the first face, and which are done. Pure."""

from dataclasses import dataclass

from services.gallery.presence import Presence

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One of the steps to the first face.

    Attributes:
        title: the step in a few words.
        is_done: whether it is done.
        hint: its state, or what to do.
        command: a command line that does or explains it; `""` without one.
    """

    title: str
    is_done: bool
    hint: str
    command: str = ""


def setup_steps(presence: Presence) -> list[Step]:
    """Return the steps to the first face, in order."""
    online = sorted(device for device in presence.devices if presence.device(device) == "online")
    cameras = sorted(str(source) for source, state in presence.cameras.items() if state == "online")
    return [_device(presence, online), _camera(presence, cameras), _face(is_ready=bool(cameras))]


def _device(presence: Presence, online: list[str]) -> Step:
    title = "A device connects"
    if online:
        return Step(title, is_done=True, hint=f"{_named(online)} here.")
    if presence.devices:
        named = ", ".join(sorted(presence.devices)[:MOST_NAMED])
        hint = f"{named} is known, and not connected. There, this says why:"
        return Step(title, is_done=False, hint=hint, command="faceferry doctor")
    hint = "None was heard of yet. Make it a bundle here, unpack that in compose/edge there, and start it:"
    return Step(title, is_done=False, hint=hint, command="faceferry pki device NAME")


def _camera(presence: Presence, cameras: list[str]) -> Step:
    title = "A camera gives pictures"
    if cameras:
        return Step(title, is_done=True, hint=f"{_named(cameras)} online.")
    down = [source for source in sorted(presence.cameras, key=str) if presence.cameras[source] != "unknown"]
    if down:
        hint = f"{down[0]}: {presence.reason(down[0])}"
        return Step(title, is_done=False, hint=hint, command="faceferry status")
    hint = "Name it in FACEFERRY_CAMERAS on the device, which shows what is plugged in:"
    return Step(title, is_done=False, hint=hint, command="faceferry cameras")


def _face(*, is_ready: bool) -> Step:
    hint = (
        "Look into the camera, from a few steps away and with light on your face. The first picture comes"
        " within a second or two, and this page shows it by itself."
        if is_ready
        else "It comes here by itself as soon as there is one; the page need not be loaded again."
    )
    return Step("Somebody comes", is_done=False, hint=hint)


def _named(names: list[str]) -> str:
    """Return `porch is`, `lobby, porch are`, or the first few and how many others are."""
    some, others = ", ".join(names[:MOST_NAMED]), len(names) - MOST_NAMED
    return f"{some} and {others} more are" if others > 0 else f"{some} {'is' if len(names) == 1 else 'are'}"
