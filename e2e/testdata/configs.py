# Judges configs of MQTT discovery with Home Assistant's own code. Rows of JSON come
# in and go out, one a line, with "refused", what it says against the config, in
# place of the one that was there. Rows that are marked as elsewhere are refused by
# something else than the schemas, and left as they are.
import asyncio
import importlib
import json
import logging
import sys

from homeassistant.components.mqtt import discovery
from homeassistant.components.mqtt.const import SUPPORTED_COMPONENTS
from homeassistant.components.mqtt.device_trigger import TRIGGER_DISCOVERY_SCHEMA
from homeassistant.core import HomeAssistant


class Refusals(logging.Handler):
    def __init__(self):
        super().__init__()
        self.all = []

    def emit(self, record):
        self.all.append(record.getMessage())


refusals = Refusals()


def entity(platform, config):
    if not config:  # it removes the component
        return
    if discovery.TOPIC_BASE in config:
        discovery._replace_topic_base(config)
    module = importlib.import_module("homeassistant.components.mqtt." + platform)
    module.DISCOVERY_SCHEMA(config)
    if platform == "device_automation":
        TRIGGER_DISCOVERY_SCHEMA(config)


def judge(hass, topic, payload):
    match = discovery.TOPIC_MATCHER.fullmatch(topic.removeprefix("homeassistant/"))
    if not match:
        return "illegal topic"
    component, node_id, object_id = match.groups()
    if component == "device":
        device = discovery._parse_device_payload(hass, payload, topic, object_id, node_id)
        for config in device.get("components", {}).values():
            platform = config.pop("platform")
            if config:
                config = discovery.MQTTDiscoveryPayload(config)
                config["device"], config["origin"] = device["device"], device["origin"]
                discovery._merge_common_device_options(config, device)
            entity(platform, config)
        return ""
    if component not in SUPPORTED_COMPONENTS:
        return "no component"
    config = discovery.MQTTDiscoveryPayload(json.loads(payload))
    if not discovery._async_process_discovery_migration(config):
        discovery._replace_all_abbreviations(config)
        if not discovery._valid_origin_info(config):
            return ""
    entity(component, config)
    return ""


async def main():
    hass = HomeAssistant("/nonexistent")
    hass.data[discovery.DATA_MQTT] = type("Data", (), {"discovery_already_discovered": set(), "discovery_discovered_and_disabled": {}})()
    logging.disable(logging.INFO)
    discovery._LOGGER.addHandler(refusals)
    discovery._LOGGER.propagate = False
    for line in sys.stdin:
        row = json.loads(line)
        if not row.get("elsewhere"):
            row.pop("refused", None)
            refusals.all = []
            try:
                refused = judge(hass, row["topic"], row["payload"])
            except Exception as error:
                refused = str(error)
            if refused or refusals.all:
                row["refused"] = refused or refusals.all[0].removesuffix(f": '{row['payload']}'")
        print(json.dumps(row, ensure_ascii=False))


asyncio.run(main())
