# Renders templates with Home Assistant's own engine, as its MQTT integration does
# with a payload. Rows of JSON come in and go out, one a line, with one of
#
#   result    what is rendered
#   ignored   the exception because of which Home Assistant ignores the payload
#   refused   it is no template for Home Assistant
#
# in place of the one that was there. Rows that are marked as unsupported are left
# as they are: what they render may depend on the time.
import asyncio
import json
import logging
import sys

from homeassistant.components.mqtt.models import MqttValueTemplate, MqttValueTemplateException
from homeassistant.core import HomeAssistant
from homeassistant.helpers.template import Template


def render(row, hass):
    template = Template(row["template"], hass)
    try:
        template.ensure_valid()
    except Exception:
        return {"refused": True}
    try:
        return {"result": MqttValueTemplate(template).async_render_with_possible_json_value(row["payload"])}
    except MqttValueTemplateException as error:
        return {"ignored": str(error).split(":")[0]}
    except Exception as error:
        return {"ignored": type(error).__name__}


async def main():
    logging.disable(logging.CRITICAL)
    hass = HomeAssistant("/nonexistent")
    for line in sys.stdin:
        row = json.loads(line)
        if not row.get("unsupported"):
            row = {"template": row["template"], "payload": row["payload"]} | render(row, hass)
        print(json.dumps(row, ensure_ascii=False))


asyncio.run(main())
