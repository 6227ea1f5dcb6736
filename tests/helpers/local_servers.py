"""Servers on 127.0.0.1 that speak as much of the Climate Data Store, Harmony and CMR as the clients need; and fail."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """Answers with `routes(handler)`; `faults` maps a path's beginning to what goes wrong on its next requests."""

    daemon_threads = True

    def __init__(self, routes: Callable, port: int = 0):
        super().__init__(("127.0.0.1", port), Handler)
        self.routes, self.faults = routes, {}
        self.asked: Counter = Counter()
        self.headers_seen: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are sent apart: the second would wait 40 ms for the first

    def log_message(self, *_) -> None:
        pass

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked[f"{self.command} {self.path.split('?')[0]}"] += 1
        self.server.headers_seen.append(dict(self.headers))
        for start, faults in self.server.faults.items():
            if self.path.startswith(start) and faults:
                return faults.pop(0)(self)
        self.server.routes(self)

    do_GET = do_POST = do_HEAD = do_DELETE = handle_any

    def reply(self, content: dict | bytes, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def status(code: int, message: str, **headers: str) -> Callable:
    return lambda handler: handler.reply({"title": message, "detail": message}, code, **headers)


def dropped(handler: Handler) -> None:
    """The connection closes without an answer."""
    handler.close_connection = True
    handler.connection.close()


def truncated(content: bytes) -> Callable:
    """Half of the body that the header promised, then the connection closes."""

    def fault(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content[: len(content) // 2])
            handler.wfile.flush()
        handler.close_connection = True

    return fault


@contextlib.contextmanager
def serving(routes: Callable, port: int = 0) -> Iterator[Server]:
    server = Server(routes, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class ClimateDataStore:
    """Processes, jobs and results; `answer(request)` gives the bytes of a request's file, or raises to fail the job."""

    def __init__(self, answer: Callable[[dict], bytes], key: str):
        self.answer, self.key, self.jobs, self.polls = answer, key, {}, Counter()
        self.rejects: dict | None = None  # what the metadata of every job say, all of which are rejected then

    def __call__(self, handler: Handler) -> None:
        path = handler.path.split("?")[0]
        base = f"http://{handler.headers['Host']}"
        if path.startswith("/api/catalogue"):
            return handler.reply({"messages": []})
        if path.startswith("/files/"):
            return handler.reply(self.jobs[path.rsplit("/", 1)[1]])
        if handler.headers.get("PRIVATE-TOKEN") != self.key:
            return handler.reply({"title": "Authentication failed", "detail": "operation not allowed"}, 401)
        parts = path.removeprefix("/api/retrieve/v1/").split("/")
        if parts[0] == "processes" and len(parts) == 2:
            return handler.reply({"id": parts[1], "links": []})
        if parts[-1] == "execution":
            job = f"job-{len(self.jobs)}"
            try:
                self.jobs[job] = self.answer(json.loads(handler.body)["inputs"])
            except RuntimeError as error:
                self.jobs[job] = error
            return handler.reply(self._job(base, job, "accepted"), 201)
        job = parts[1]
        if job not in self.jobs:
            return handler.reply({"title": "job not found"}, 404)
        failed = isinstance(self.jobs[job], RuntimeError)
        if parts[-1] == "results" and self.rejects is not None:
            return handler.reply({}, 404)
        if parts[-1] == "results":
            if failed:
                return handler.reply({"title": "The job has failed", "traceback": str(self.jobs[job])}, 200)
            size = len(self.jobs[job])
            asset = {"href": f"{base}/files/{job}", "file:size": size, "type": "application/netcdf"}
            return handler.reply({"asset": {"value": asset}})
        self.polls[job] += 1
        if self.rejects is not None:
            return handler.reply(self._job(base, job, "rejected") | {"metadata": self.rejects})
        ready = "failed" if failed else "successful"
        return handler.reply(self._job(base, job, ready if self.polls[job] > 1 else "running"))

    def _job(self, base: str, job: str, state: str) -> dict:
        url = f"{base}/api/retrieve/v1/jobs/{job}"
        links = [
            {"rel": "monitor", "href": url},
            {"rel": "self", "href": url},
            {"rel": "results", "href": url + "/results"},
        ]
        return {"jobID": job, "processID": "reanalysis", "status": state, "links": links, "metadata": {}}


class Harmony:
    """Login check, one asynchronous job per request, status in bulk and alone, result links, files."""

    def __init__(self, files: Callable[[str], dict[str, bytes]], password: str, fails: bool = False):
        self.files, self.password, self.fails, self.jobs, self.polls = files, password, fails, {}, Counter()
        self.state: dict = {}  # what the status of a job says otherwise than usual
        self.busy = 0  # how often a job says that it is running

    def __call__(self, handler: Handler) -> None:
        import base64

        expected = "Basic " + base64.b64encode(f"name:{self.password}".encode()).decode()
        if handler.headers.get("Authorization") != expected:
            return handler.reply({"error": "Unauthorized"}, 401)
        path = handler.path.split("?")[0]
        base = f"http://{handler.headers['Host']}"
        if path.endswith("/rangeset"):
            job = f"00000000-0000-4000-8000-{len(self.jobs):012d}"
            self.jobs[job] = self.files(handler.path + handler.body.decode("latin1"))
            return handler.reply({"jobID": job, "status": "running"})
        if path.startswith("/files/"):
            return handler.reply(self.jobs[path.split("/")[2]][path.split("/")[3]])
        if path == "/jobs":
            return handler.reply({"jobs": []})
        if path.startswith("/jobs/") and path.count("/") == 2 and path.split("/")[2] in self.jobs:
            return self._status(handler, base, path.split("/")[2])
        asked = json.loads(handler.body)["jobIDs"]
        for job in asked:
            self.polls[job] += 1
        state = "failed" if self.fails else "successful"
        known = [
            {
                "jobID": j,
                "status": state if self.polls[j] > 1 else "running",
                "progress": 100 if self.polls[j] > 1 else 50,
            }
            for j in asked
            if j in self.jobs
        ]
        handler.reply({"jobStatuses": known, "notFoundJobIDs": [j for j in asked if j not in self.jobs]})

    def _status(self, handler: Handler, base: str, job: str) -> None:
        links = [{"rel": "data", "href": f"{base}/files/{job}/{name}"} for name in self.jobs[job]]
        now = "2026-01-01T00:00:00.000Z"
        state = {"status": "failed" if self.fails else "successful", "message": "the service crashed", "progress": 100}
        times = {"createdAt": now, "updatedAt": now, "request": "", "numInputGranules": len(links)}
        if self.busy > 0:
            self.busy -= 1
            state |= {"status": "running", "progress": 0}
        handler.reply(state | times | {"jobID": job, "links": links} | self.state)


class Cmr:
    """A granule search and the granules themselves, for a bearer token."""

    def __init__(self, granules: dict[str, Path], token: str):
        self.granules, self.token = granules, token

    def __call__(self, handler: Handler) -> None:
        if handler.headers.get("Authorization") != f"Bearer {self.token}":
            return handler.reply({"errors": ["Token is not valid"]}, 401)
        base = f"http://{handler.headers['Host']}"
        if handler.path.startswith("/data/"):
            return handler.reply(self.granules[handler.path.rsplit("/", 1)[1]].read_bytes())
        items = [
            {
                "meta": {"native-id": name, "concept-id": f"G{k}-NSIDC", "provider-id": "NSIDC_CPRD"},
                "umm": {
                    "RelatedUrls": [{"URL": f"{base}/data/{name}", "Type": "GET DATA"}],
                    "DataGranule": {
                        "ArchiveAndDistributionInformation": [{"Name": name, "Size": 0.1, "SizeUnit": "MB"}]
                    },
                },
            }
            for k, name in enumerate(self.granules)
        ]
        handler.reply({"hits": len(items), "items": items}, CMR_Hits=str(len(items)))
