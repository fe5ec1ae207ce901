"""paho of Python speaks to the broker: HOST PORT VERSION (4 or 5).

Prints each thing that went well; ends with 1 at the first that does not.
"""

import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, five = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "5"
prefix = "clients/python" + sys.argv[3]
patience = 60


class Peer:
    def __init__(self, name, keep=False, will=None):
        self.messages, up, self.subscribed = queue.Queue(), queue.Queue(), queue.Queue()
        if five:
            self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, prefix + name, protocol=mqtt.MQTTv5)
        else:
            self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, prefix + name, clean_session=not keep)
        self.client.on_connect = lambda c, u, flags, reason, properties: up.put((flags, reason))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, id, codes, properties: self.subscribed.put(codes)
        if will:
            self.client.will_set(will, "gone", qos=1)
        more = {}
        if five:
            more = {"clean_start": not keep, "properties": Properties(PacketTypes.CONNECT)}
            if keep:
                more["properties"].SessionExpiryInterval = 600
        self.client.connect(host, port, 30, **more)
        self.client.loop_start()
        flags, reason = up.get(timeout=patience)
        assert not reason.is_failure, reason
        self.present = flags.session_present

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        codes = self.subscribed.get(timeout=patience)
        assert codes[0].value == qos, codes

    def publish(self, topic, payload, qos, **more):
        self.client.publish(topic, payload, qos, **more).wait_for_publish(patience)

    def expect(self, topic, payload, qos, retain=False):
        m = self.messages.get(timeout=patience)
        got = (m.topic, m.payload.decode(), m.qos, bool(m.retain))
        assert got == (topic, payload, qos, retain), got
        return m

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def die(self):
        self.client.loop_stop()
        self.client.socket().shutdown(socket.SHUT_RDWR)


a, b = Peer("a"), Peer("b")

for peer, other in (a, b), (b, a):
    topic = prefix + "/qos/" + ("a" if peer is a else "b")
    other.subscribe(topic, 2)
    for qos in 0, 1, 2:
        peer.publish(topic, f"with {qos}", qos)
        other.expect(topic, f"with {qos}", qos)
print("qos")

for qos in 0, 1, 2:
    topic = f"{prefix}/retained/{qos}"
    a.publish(topic, "kept", qos, retain=True)
    a.publish(prefix + "/fence", "", 1)  # QoS 0 has no acknowledgement of its own
    b.subscribe(topic, 2)
    b.expect(topic, "kept", qos, True)
    a.publish(topic, "", qos, retain=True)
    b.expect(topic, "", qos)
print("retained")

b.subscribe(prefix + "/will", 1)
Peer("dies", will=prefix + "/will").die()
b.expect(prefix + "/will", "gone", 1)
print("will")

away = Peer("away", keep=True)
assert not away.present
away.subscribe(prefix + "/queue", 2)
away.leave()
for n in range(50):
    a.publish(prefix + "/queue", str(n), 1 + n // 25)
away = Peer("away", keep=True)
assert away.present
for n in range(50):
    away.expect(prefix + "/queue", str(n), 1 + n // 25)
away.leave()
print("session")

if five:
    users = [("a", "1"), ("b", ""), ("a", "2"), ("A", "ä"), ("a", "1")]
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = users
    properties.ContentType = "text/plain"
    b.subscribe(prefix + "/users", 1)
    a.publish(prefix + "/users", "x", 1, properties=properties)
    m = b.expect(prefix + "/users", "x", 1)
    assert m.properties.UserProperty == users, m.properties
    assert m.properties.ContentType == "text/plain", m.properties
    print("properties")

    b.subscribe(prefix + "/ask", 1)
    a.subscribe(prefix + "/answers", 1)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = prefix + "/answers"
    properties.CorrelationData = b"\x00\x01\xff"
    a.publish(prefix + "/ask", "how warm?", 1, properties=properties)
    asked = b.expect(prefix + "/ask", "how warm?", 1).properties
    properties = Properties(PacketTypes.PUBLISH)
    properties.CorrelationData = asked.CorrelationData
    b.publish(asked.ResponseTopic, "21", 1, properties=properties)
    answer = a.expect(prefix + "/answers", "21", 1)
    assert answer.properties.CorrelationData == b"\x00\x01\xff", answer.properties
    print("request")

a.leave()
b.leave()
