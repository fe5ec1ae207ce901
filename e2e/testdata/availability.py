# Plays messages to the availability of Home Assistant's MQTT entities. Rows of
# JSON come in and go out, one a line: a config as it would be discovered, without
# its device and origin, and messages of a topic and a payload each. What goes out
# says which components are available in the end, or that Home Assistant refuses
# the config.
import asyncio
import json
import logging
import sys
from types import SimpleNamespace

from homeassistant.components.mqtt import discovery, sensor
from homeassistant.components.mqtt.entity import MqttAvailabilityMixin
from homeassistant.components.mqtt.models import DATA_MQTT
from homeassistant.core import HomeAssistant


class Entity(MqttAvailabilityMixin):
    def __init__(self, hass, config):
        super().__init__(config)
        self.hass, self.entity_id, self._attr_name = hass, "sensor.x", "x"
        self._available = dict.fromkeys(self._avail_topics, False)

    def take(self, topic, payload):
        if topic not in self._avail_topics:
            return
        try:
            self._availability_message_received(SimpleNamespace(topic=topic, payload=payload))
        except Exception:
            pass  # Home Assistant logs it


def discovered(hass, row):
    """Returns the configs of the components, by their keys."""
    payload = {"device": {"identifiers": ["x"]}, "origin": {"name": "test"}} | json.loads(json.dumps(row["config"]))
    if not row.get("device"):
        discovery._replace_all_abbreviations(payload)
        parts = {"": discovery.MQTTDiscoveryPayload(payload)}
    else:
        payload = discovery._parse_device_payload(hass, json.dumps(payload), "homeassistant/device/x/config", "x", None)
        if not payload:
            raise ValueError
        parts = {}
        for key, config in payload["components"].items():
            config.pop("platform")
            if part := discovery.MQTTDiscoveryPayload(config):
                part["device"], part["origin"] = payload["device"], payload["origin"]
                discovery._merge_common_device_options(part, payload)
                parts[key] = part
    for part in parts.values():
        if "~" in part:
            discovery._replace_topic_base(part)
    return {key: sensor.DISCOVERY_SCHEMA(part) for key, part in parts.items()}


def play(hass, row):
    try:
        entities = {key: Entity(hass, config) for key, config in discovered(hass, row).items()}
    except Exception:
        return {"refused": True}
    for topic, payload in row["messages"]:
        for entity in entities.values():
            entity.take(topic, payload)
    return {"available": {key: entity.available for key, entity in entities.items() if entity._avail_topics}}


async def main():
    logging.disable(logging.CRITICAL)
    hass = HomeAssistant("/nonexistent")
    hass.data[DATA_MQTT] = SimpleNamespace(client=SimpleNamespace(connected=True))
    for line in sys.stdin:
        row = json.loads(line)
        for key in ("available", "refused"):
            row.pop(key, None)
        print(json.dumps(row | play(hass, row), ensure_ascii=False))


asyncio.run(main())
