"""Notes over HTTP: GET / lists them, GET /NAME shows one, PUT /NAME keeps one. Standard library only."""

from __future__ import annotations

import argparse
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = re.compile(r"[a-z0-9-]{1,40}")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if not name:
            notes = sorted(entry.removesuffix(".txt") for entry in os.listdir(directory()))
            self.answer(200, json.dumps({"version": os.environ.get("NOTES_VERSION", ""), "notes": notes}))
        elif NAME.fullmatch(name) and os.path.exists(path(name)):
            with open(path(name), encoding="utf-8") as file:
                self.answer(200, file.read())
        else:
            self.answer(404, "no such note\n")

    def do_PUT(self) -> None:
        name = self.path.strip("/")
        if not NAME.fullmatch(name):
            self.answer(400, "a name has lower-case letters, digits and -\n")
            return
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with open(path(name), "w", encoding="utf-8") as file:
            file.write(text)
        self.answer(201, "kept\n")

    def answer(self, status: int, text: str) -> None:
        """Send a whole answer."""
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def directory() -> str:
    """Where the notes are."""
    return os.environ.get("NOTES_DIR", ".")


def path(name: str) -> str:
    """The file of a note."""
    return os.path.join(directory(), f"{name}.txt")


def self_test() -> None:
    """What the build checks."""
    assert NAME.fullmatch("a-note-1") and not NAME.fullmatch("../passwd")


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    server = ThreadingHTTPServer((options.host, int(os.environ.get("NOTES_PORT", "8137"))), Handler)
    print(f"serving on {options.host}:{server.server_port}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
