"""Home Assistant's own core with its MQTT integration, and nothing else of it.

Runs in an environment of its own, which has the package homeassistant: `python core.py PORT FOLDER`. What it
has made of what a broker says is written to `FOLDER/seen.json` whenever it changes.
"""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.components.image import DATA_COMPONENT, ImageEntity
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry
from homeassistant.setup import async_setup_component


async def main(port: int, folder: Path) -> None:
    """Connect to the broker of a port of this machine, and say what there is, until killed."""
    (folder / "configuration.yaml").touch()
    hass = core.HomeAssistant(str(folder))
    loader.async_setup(hass)
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    # Its pages are not what is tried here.
    hass.http = SimpleNamespace(register_view=lambda *_: None)
    hass.config.components |= {"http", "file_upload"}
    await loader.async_get_custom_components(hass)
    await bootstrap.async_load_base_functionality(hass)
    assert await async_setup_component(hass, "homeassistant", {})
    broker = entry(port)
    await hass.config_entries.async_add(broker)
    assert broker.state is config_entries.ConfigEntryState.LOADED, broker.state
    await hass.async_start()
    before = None
    while True:
        told = json.dumps(await seen(hass), default=str)
        if told != before:
            (folder / "fresh").write_text(told)
            (folder / "fresh").replace(folder / "seen.json")
            before = told
        await asyncio.sleep(0.2)


def entry(port: int) -> config_entries.ConfigEntry:
    """Return what a person enters: where the broker is."""
    now = datetime.now(UTC)
    return config_entries.ConfigEntry(
        created_at=now,
        modified_at=now,
        data={"broker": "127.0.0.1", "port": port, "protocol": "5", "discovery": True},
        disabled_by=None,
        discovery_keys=MappingProxyType({}),
        domain="mqtt",
        minor_version=2,
        options={},
        source="user",
        subentries_data=None,
        title="MQTT",
        unique_id=None,
        version=1,
    )


async def seen(hass: core.HomeAssistant) -> dict[str, object]:
    """Return entities with their states, devices with where they belong, and pictures by their size."""
    registry = device_registry.async_get(hass)
    devices = {device.id: device for device in registry.devices.values()}
    return {
        "states": {each.entity_id: [each.state, dict(each.attributes)] for each in hass.states.async_all()},
        "devices": {
            device.name: devices[device.via_device_id].name if device.via_device_id else None
            for device in devices.values()
        },
        "pictures": {
            image.entity_id: await picture(image)
            for image in (hass.data[DATA_COMPONENT].entities if DATA_COMPONENT in hass.data else ())
        },
        "problems": problems,
    }


async def picture(image: ImageEntity) -> str | None:
    """Return a picture's bytes as hexadecimal, if there is one."""
    try:
        content = await image.async_image()
    except HomeAssistantError:
        return None
    return content.hex() if content else None


problems: list[str] = []


class Listener(logging.Handler):
    """Keeps what is said of MQTT that is wrong."""

    def emit(self, record: logging.LogRecord) -> None:
        if "mqtt" in record.name:
            problems.append(record.getMessage())


if __name__ == "__main__":
    logging.getLogger().addHandler(Listener(logging.WARNING))
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
