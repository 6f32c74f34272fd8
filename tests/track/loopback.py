"""A stand-in for a W&B server on loopback: accepts a run, its history, its files and its tables."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = {"id": "p", "name": "dehaze-bench", "entity": {"id": "e", "name": "someone"}}


class Server(ThreadingHTTPServer):
    """Remembers every upload: `uploads` maps the path of a request to its body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uploads: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread for the length of the block."""
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _answer(operation: str, variables: dict[str, Any], url: str) -> dict[str, Any]:
    def target(name: str) -> dict[str, Any]:
        return {"name": name, "displayName": name, "uploadUrl": f"{url}/upload/{name}", "uploadHeaders": []}

    manifest = {"artifactManifest": {"id": "m", "file": {"id": "f", **target("wandb_manifest.json")}}}
    if operation == "CreateRunFiles":
        files = [target(name) for name in variables["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
    if operation == "CreateArtifactFiles":
        names = [spec["name"] for spec in variables.get("input", variables)["artifactFiles"]]
        nodes = [
            {"id": name, **target(name), "artifact": {"id": "a"}, "storagePath": name, "uploadMultipartUrls": None}
            for name in names
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
    bucket = {"id": "r", "name": variables.get("name"), "displayName": "run", "description": None}
    bucket |= {"config": "{}", "sweepName": None, "historyLineCount": 0, "project": PROJECT}
    artifact = {"id": "a", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
    viewer = {"id": "u", "entity": "someone", "username": "u", "flags": "{}", "teams": {"edges": []}}
    return {
        "Viewer": {"viewer": viewer, "serverInfo": None},
        "ServerFeaturesQuery": {"serverInfo": {"features": []}},
        "RunResumeStatus": {"model": {"bucket": None, **PROJECT}},
        "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
        "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": None}},
        "CreateArtifact": {"createArtifact": {"artifact": artifact}},
        "CreateArtifactManifest": {"createArtifactManifest": manifest},
        "UpdateArtifactManifest": {"updateArtifactManifest": manifest},
        "CommitArtifact": {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}},
    }[operation]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self._body()
        if self.path != "/graphql":
            self.server.uploads[self.path] = self.server.uploads.get(self.path, b"") + body
            return self._reply({})
        request = json.loads(body)
        found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        operation = request.get("operationName") or (found[1] if found else "")
        try:
            reply = {"data": _answer(operation, request.get("variables") or {}, self.server.url)}
        except KeyError:
            reply = {"errors": [{"message": f"unknown operation {operation}"}]}  # type: ignore[dict-item]
        return self._reply(reply)

    do_PUT = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline().strip(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
