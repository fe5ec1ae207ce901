"""An example service in Python, with its standard library alone.

It asks the service web for the wanted brightness and decides what a lamp
should do; lamps ask it at GET /lamp.

DEPENDENCY_WEB says where web was when this service started. If web moves, its
retained topic <prefix>/service/web/endpoints says where it is now.
"""

import http.server
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.request


def broker():
    """Connects to the broker: by TLS, with this service's certificate, where it has one.

    The files are read at each connect: they are replaced when they are renewed.
    """
    env = os.environ
    s = socket.create_connection((env["DOMINION_IP"], env["DOMINION_PORT"]), timeout=3)
    if not env["DOMINION_URL"].startswith("mqtts:"):
        return s
    try:
        tls = ssl.create_default_context(cafile=env.get("DOMINION_CA_FILE"))
        if "DOMINION_CERT_FILE" in env:
            tls.load_cert_chain(env["DOMINION_CERT_FILE"], env["DOMINION_KEY_FILE"])
        return tls.wrap_socket(s, server_hostname=env["DOMINION_IP"])
    except OSError:  # also that of TLS, and of a file that is not there yet
        s.close()
        raise


def endpoint(service):
    """Returns address:port of a service from its endpoints topic, or None.

    This is all of MQTT 3.1.1 that one retained message takes: CONNECT,
    SUBSCRIBE, and PUBLISH coming back. A real program takes a library.
    """
    env = os.environ
    topic = f"{env['DOMINION_TOPIC_PREFIX']}/service/{service}/endpoints".encode()

    def text(b):
        return len(b).to_bytes(2, "big") + b

    with broker() as s:
        client = text(f"orchestrator-{os.getpid()}".encode())
        connect = text(b"MQTT") + b"\x04\x02\x00\x0a" + client
        subscribe = b"\x00\x01" + text(topic) + b"\x00"
        s.sendall(b"\x10" + bytes([len(connect)]) + connect)
        s.sendall(b"\x82" + bytes([len(subscribe)]) + subscribe)
        stream = s.makefile("rb")
        while True:
            kind = stream.read(1)
            if not kind:
                return None
            size = shift = 0
            while True:
                byte = stream.read(1)[0]
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            body = stream.read(size)
            if kind[0] >> 4 == 3:  # PUBLISH: topic, then the payload
                usable = json.loads(body[2 + len(topic):] or b"[]")
                return "{address}:{port}".format(**usable[0]) if usable else None


class Home:
    """What the orchestrator knows of the home."""

    web = os.environ.get("DEPENDENCY_WEB")
    brightness = None  # unknown

    def follow_web(self):
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.web}/brightness", timeout=2) as answer:
                    now = int(answer.read())
                if now != self.brightness:
                    print(f"web at {self.web} wants brightness {now}")
                self.brightness = now
            except (OSError, ValueError) as error:
                print(f"web does not answer at {self.web}: {error}", file=sys.stderr)
                try:
                    self.web = endpoint("web") or self.web
                except (OSError, ValueError, LookupError) as error:
                    print(f"cannot ask the dominion where web is: {error}", file=sys.stderr)
            time.sleep(2)


HOME = Home()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {
            "/health": "ok",
            "/lamp": "unknown" if HOME.brightness is None else f"on {HOME.brightness}" if HOME.brightness else "off",
        }
        known = self.path in answers
        body = (answers.get(self.path, "ask /lamp") + "\n").encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass  # a line for each health check would bury the others


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=HOME.follow_web, daemon=True).start()
    port = int(os.environ["SERVICE_PORT"])
    print(f"serving on port {port}")
    http.server.ThreadingHTTPServer((os.environ.get("LISTEN", ""), port), Handler).serve_forever()


if __name__ == "__main__":
    main()
