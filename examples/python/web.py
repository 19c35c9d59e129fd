"""What the two programs share: a few routes, over WSGI.

POST /clients {"name": ...}  makes a client and shows its key, this once
GET  /me                     needs X-API-Key, like all that follow
PUT  /me {"name": ...}       saves the client again
POST /me/key                 gives it a new key
"""

import json
import signal
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def serve(app):
    """Serves on a free port of 127.0.0.1 until SIGTERM or Ctrl-C; says where as a line of JSON."""
    server = make_server("127.0.0.1", 0, app, handler_class=QuietHandler)
    stop = threading.Thread(target=server.shutdown)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.start())
    print(json.dumps({"msg": "listening", "url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def read_json(environ):
    return json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or "{}")


def respond(start_response, status, body):
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]
