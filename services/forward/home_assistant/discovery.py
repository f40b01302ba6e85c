"""The messages of which Home Assistant makes entities (MQTT discovery): one, retained, a device or camera.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. Its templates see no MQTT
properties, so what they read is small JSON.
"""

from collections.abc import Mapping

from services.common.version import VERSION
from services.common.wire.message import Message, to_json
from services.common.wire.topics import ROOT, Source, camera_topic, device_topic

_PREFIX = "homeassistant"
_ONLINE = "{{ 'online' if value == 'online' else 'offline' }}"
"""A stalled camera counts as offline: it shows no people, either."""

Component = dict[str, object]


def device_config(device: str) -> Message:
    """Return the message that announces a device: its link to the cloud, and the faces that wait for it."""
    state = device_topic(device, "forward/home")
    components: dict[str, Component] = {
        "cloud": {
            "platform": "binary_sensor",
            "name": "Cloud",
            "device_class": "connectivity",
            "value_template": "{{ 'ON' if value_json.cloud else 'OFF' }}",
        },
        "waiting": {
            "platform": "sensor",
            "name": "Faces waiting",
            "icon": "mdi:tray-full",
            "state_class": "measurement",
            "value_template": "{{ value_json.waiting }}",
        },
        "oldest": {
            "platform": "sensor",
            "name": "Oldest face waiting",
            "device_class": "duration",
            "unit_of_measurement": "s",
            "state_class": "measurement",
            "value_template": "{{ value_json.oldest_s }}",
        },
    }
    told = {
        "device": {"identifiers": [_id(device)], "name": device, "manufacturer": "Faceferry"},
        "availability": [_forward(device)],
        "components": {
            key: {**each, "state_topic": state, "entity_category": "diagnostic", **_ids(key, each, device)}
            for key, each in components.items()
        },
    }
    return _config(_id(device), told)


def camera_config(source: Source, content_type: str) -> Message:
    """Return the message that announces a camera: its latest picture, whether a person is there, its counts.

    Args:
        source: the camera.
        content_type: of its pictures, `image/jpeg` for instance.
    """
    state = camera_topic(source, "home")
    components: dict[str, Component] = {
        "latest": {
            "platform": "image",
            "name": "Latest visitor",
            "image_topic": camera_topic(source, "latest"),
            "content_type": content_type,
        },
        "somebody": {
            "platform": "binary_sensor",
            "name": "Somebody there",
            "device_class": "occupancy",
            "state_topic": state,
            "value_template": "{{ 'ON' if value_json.people > 0 else 'OFF' }}",
            # Unknown while the camera gives no pictures.
            "availability": [_forward(source.device), _camera(source)],
            "availability_mode": "all",
        },
        "visits_today": {
            "platform": "sensor",
            "name": "Visits today",
            "icon": "mdi:account-multiple",
            "state_class": "total_increasing",
            "state_topic": state,
            "value_template": "{{ value_json.visits_today }}",
        },
        "last_seen": {
            "platform": "sensor",
            "name": "Last seen",
            "device_class": "timestamp",
            "state_topic": state,
            "value_template": "{{ value_json.last_seen }}",
        },
    }
    told = {
        "device": {
            "identifiers": [_id(*source)],
            "name": f"{source.device} {source.camera}",
            "manufacturer": "Faceferry",
            "via_device": _id(source.device),
        },
        "availability": [_forward(source.device)],
        "components": {key: {**each, **_ids(key, each, *source)} for key, each in components.items()},
    }
    return _config(_id(*source), told)


def _config(name: str, told: Mapping[str, object]) -> Message:
    origin = {"origin": {"name": "Faceferry", "sw_version": VERSION}}
    return Message(
        topic=f"{_PREFIX}/device/{name}/config",
        payload=to_json({**told, **origin, "qos": 1}),
        qos=1,
        retain=True,
        content_type="application/json",
    )


def _id(*names: str) -> str:
    """Return an unambiguous identifier: names of devices and cameras have no underscore."""
    return "_".join((ROOT, *names))


def _ids(key: str, component: Component, *names: str) -> Component:
    platform = component["platform"]
    slug = "_".join((*names, key)).replace("-", "_")
    return {"unique_id": f"{_id(*names)}_{key}", "default_entity_id": f"{platform}.{slug}"}


def _forward(device: str) -> Component:
    return {"topic": device_topic(device, "forward/status")}


def _camera(source: Source) -> Component:
    return {"topic": camera_topic(source, "status"), "value_template": _ONLINE}
