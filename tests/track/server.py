"""A stand-in for a W&B server on loopback: it keeps runs, files and artifacts as a real one does, and can misbehave.

It speaks the GraphQL operations and uploads that wandb 0.31 uses. Lines of a run's history are kept by their offset, so
sending the same lines again changes nothing and sending them at new offsets shows as doubled history. An artifact whose
digest is known is not asked for again.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY, PROJECT = "someone", "dehaze-bench"
HISTORY, SUMMARY, EVENTS = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl"


@dataclass
class Run:
    """What the server holds of one run; `lines` are those of the file stream, by file name and offset."""

    id: str
    name: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    upserts: int = 0

    def history(self) -> list[dict[str, Any]]:
        """The rows of the history by offset, without W&B's own timing fields."""
        rows = [json.loads(line) for _, line in sorted(self.lines.get(HISTORY, {}).items())]
        return [{k: v for k, v in row.items() if k not in ("_runtime", "_timestamp")} for row in rows]

    def summary(self) -> dict[str, Any]:
        """The summary as it was sent last."""
        lines = self.lines.get(SUMMARY, {})
        return dict(json.loads(lines[max(lines)])) if lines else {}


@dataclass
class Artifact:
    """One committed or pending version; `files` are the uploads behind its manifest."""

    id: str
    type: str
    name: str
    digest: str
    run: str
    metadata: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


@dataclass
class Faults:
    """How the server misbehaves: never answers, answers with a status, late, refuses operations, is gone.

    `after` so many requests it misbehaves as `then` says.
    """

    silent: bool = False
    status: int = 200
    delay: float = 0.0
    refuse: tuple[str, ...] = ()
    dead: bool = False
    after: int = 0
    then: Faults | None = None


class Server(ThreadingHTTPServer):
    """Keeps what it is sent; `faults` may be changed while it runs."""

    daemon_threads = True

    def __init__(self, faults: Faults | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.faults = faults or Faults()
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.views: dict[str, dict[str, str]] = {}
        self.operations: list[str] = []
        self.keys: set[str] = set()
        self.requests = 0
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def artifact(self, name: str) -> list[Artifact]:
        """The committed versions of an artifact."""
        return [a for a in self.artifacts.values() if a.name == name and a.committed]

    def tables(self, run: str) -> dict[str, dict[str, Any]]:
        """The tables that a run logged, by file name, with `files` beside `columns` and `data`."""
        found = {}
        for artifact in self.artifacts.values():
            for name, body in artifact.files.items():
                if artifact.run == run and artifact.committed and name.endswith(".table.json"):
                    found[name] = {**json.loads(body), "files": artifact.files}
        return found

    def die(self) -> None:
        """Refuse new connections and drop the open ones, as a machine that goes down."""
        self.faults.silent = True
        self.socket.close()
        for connection in list(self._open):
            with_errors_ignored(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that was killed is part of the tests."""


def with_errors_ignored(connection: socket.socket) -> None:
    """Shut a connection that may be closed already."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(faults: Faults | None = None) -> Iterator[Server]:
    """Run a server in a thread for the length of the block."""
    server = Server(faults)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.faults.silent = True
        server.shutdown()
        server.server_close()
        thread.join(5)


def _answer(server: Server, operation: str, given: dict[str, Any]) -> dict[str, Any]:
    project = {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}
    if operation == "Viewer":
        viewer = {"id": "u", "entity": ENTITY, "username": "u", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": None}
    if operation == "ServerFeaturesQuery":
        return {"serverInfo": {"features": []}}
    if operation == "OrganizationCoreWeaveOrganizationID":
        return {"entity": {"organization": None}}
    if operation == "RunResumeStatus":
        return {"model": {"bucket": _resumed(server.runs.get(given["name"])), **project}}
    if operation == "UpsertBucket":
        return {"upsertBucket": _upsert(server, given, project)}
    if operation == "CreateRunFiles":
        files = [_target(server, f"run/{given['run']}", name) for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
    if operation == "CreateArtifact":
        return {"createArtifact": {"artifact": _artifact(server, given.get("input", given))}}
    if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
        where = given.get("artifactID") or given.get("artifactManifestID")
        manifest = {"id": where, "file": {"id": "f", **_target(server, f"manifest/{where}", "wandb_manifest.json")}}
        return {operation[0].lower() + operation[1:]: {"artifactManifest": manifest}}
    if operation == "CreateArtifactFiles":
        nodes = []
        for spec in given.get("input", given)["artifactFiles"]:
            target = _target(server, f"artifact/{spec['artifactID']}", spec["name"])
            more = {"artifact": {"id": spec["artifactID"]}, "storagePath": spec["name"], "uploadMultipartUrls": None}
            nodes.append({"node": {"id": spec["name"], **target, **more}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}
    if operation == "UpsertView2":
        view = server.views.setdefault(given.get("id") or f"v{len(server.views)}", {})
        view |= {"displayName": given["displayName"], "spec": given["spec"], "project": given["projectName"]}
        view["name"] = view.get("name") or given["name"] or f"nw-view{len(server.views)}-v"
        found = next(key for key, value in server.views.items() if value is view)
        return {"upsertView": {"view": {"id": found, "name": view["name"]}, "inserted": not given.get("id")}}
    if operation == "View":
        nodes = [
            {"node": {"id": key, **view}} for key, view in server.views.items() if view["name"] == given["viewName"]
        ]
        return {"project": {"allViews": {"edges": nodes}}}
    if operation == "CommitArtifact":
        artifact = server.artifacts[given["artifactID"]]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}
    raise KeyError(operation)


def _target(server: Server, folder: str, name: str) -> dict[str, Any]:
    url = f"{server.url}/upload/{folder}/{urllib.parse.quote(name)}"
    return {"name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}


def _upsert(server: Server, given: dict[str, Any], project: dict[str, Any]) -> dict[str, Any]:
    known = given["name"] in server.runs
    run = server.runs.setdefault(given["name"], Run(given["name"]))
    run.upserts += 1
    run.name = given.get("displayName") or run.name
    run.group = given.get("groupName") or run.group
    if given.get("config"):
        run.config = {k: v["value"] for k, v in json.loads(given["config"]).items() if k != "_wandb"}
    bucket = {"id": run.id, "name": run.id, "displayName": run.name, "description": None, "sweepName": None}
    bucket |= {"config": given.get("config") or "{}", "project": project}
    bucket |= {"historyLineCount": len(run.lines.get(HISTORY, {}))}
    return {"bucket": bucket, "inserted": not known}


def _resumed(run: Run | None) -> dict[str, Any] | None:
    """What the server tells of a run that exists; the counts decide where a client goes on."""
    if run is None:
        return None
    lines = {name: [body for _, body in sorted(run.lines.get(name, {}).items())] for name in (HISTORY, EVENTS, SUMMARY)}
    return {
        "id": run.id,
        "name": run.id,
        "displayName": run.name,
        "summaryMetrics": lines[SUMMARY][-1] if lines[SUMMARY] else "{}",
        "logLineCount": 0,
        "historyLineCount": len(lines[HISTORY]),
        "eventsLineCount": len(lines[EVENTS]),
        "historyTail": json.dumps(lines[HISTORY][-1:]),
        "eventsTail": json.dumps(lines[EVENTS][-1:]),
        "config": json.dumps({name: {"value": value} for name, value in run.config.items()}),
        "tags": [],
        "notes": None,
        "wandbConfig": json.dumps({"t": {}}),
    }


def _artifact(server: Server, given: dict[str, Any]) -> dict[str, Any]:
    name, digest = given["artifactCollectionName"], given["digest"]
    for old in server.artifacts.values():
        if (old.name, old.digest, old.committed) == (name, digest, True):
            return {"id": old.id, "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": old.id}}}
    new = Artifact(f"a{len(server.artifacts)}", given["artifactTypeName"], name, digest, given.get("runName") or "", {})
    new.metadata = json.loads(given.get("metadata") or "{}")
    server.artifacts[new.id] = new
    return {"id": new.id, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self._body()
        server = self.server
        with server.lock:
            server.requests += 1
            if server.faults.then is not None and server.requests > server.faults.after:
                server.faults = server.faults.then
                if server.faults.dead:
                    server.die()
        faults = server.faults
        if faults.silent:
            while server.faults.silent and server.fileno() != -1:
                time.sleep(0.05)
            self.close_connection = True
            return
        if faults.delay:
            time.sleep(faults.delay)
        if self.headers.get("Authorization", "").startswith("Basic "):
            server.keys.add(base64.b64decode(self.headers["Authorization"][6:]).decode().partition(":")[2])
        if faults.status != 200:
            return self._reply({"errors": [{"message": "refused by the test"}]}, faults.status)
        with server.lock:
            return self._reply(self._take(body))

    do_PUT = do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _take(self, body: bytes) -> dict[str, Any]:
        server, path = self.server, urllib.parse.unquote(self.path)
        if path == "/graphql":
            request = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
            operation = request.get("operationName") or (found[1] if found else "")
            server.operations.append(operation)
            if operation in server.faults.refuse:
                return {"errors": [{"message": f"{operation} is refused by the test"}]}
            try:
                return {"data": _answer(server, operation, request.get("variables") or {})}
            except KeyError as error:
                server.unknown.append(f"{operation}: {error} {request.get('variables')}")
                return {"errors": [{"message": f"unknown operation {operation}"}]}
        if upload := re.fullmatch(r"/upload/(run|artifact|manifest)/([^/]+)/(.+)", path):
            kind, where, name = upload.groups()
            if kind == "run":
                server.runs[where].files[name] = body
            elif kind == "artifact":
                server.artifacts[where].files[name] = body
        elif stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            run, sent = server.runs[stream[1]], json.loads(body)
            for name, chunk in (sent.get("files") or {}).items():
                lines = run.lines.setdefault(name, {})
                lines.update({chunk["offset"] + index: line for index, line in enumerate(chunk["content"])})
            run.exit_code = sent.get("exitcode", run.exit_code)
        return {}

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

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
