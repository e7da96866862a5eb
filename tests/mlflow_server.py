"""An MLflow server in this process that keeps what it is sent; it speaks the part of MLflow's REST API that is used."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class MlflowRuns:
    """What a server was sent.

    Attributes:
        runs: By id, {"info", "tags", "params", "metrics"}; metrics are lists of (key, step, value) in order of arrival.
        text: Everything that was sent, paths and headers included.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.text = ""

    def named(self, training: str) -> dict[str, Any]:
        """The only run of a training."""
        (found,) = [run for run in self.runs.values() if run["tags"]["fedbus.training"] == training]
        return found

    def answer(self, call: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a call; None: there is no such thing."""
        if call == "experiments/get-by-name":
            number = self.experiments.get(body["experiment_name"])
            return number and {"experiment": {"experiment_id": number, "name": body["experiment_name"]}}
        if call == "experiments/create":
            self.experiments[body["name"]] = number = str(len(self.experiments) + 1)
            return {"experiment_id": number}
        if call == "runs/create":
            number = f"run{len(self.runs)}"
            tags = {tag["key"]: tag["value"] for tag in body["tags"]}
            info = {"run_id": number, "run_name": body["run_name"], "status": "RUNNING", "experiment_id": "1"}
            self.runs[number] = {"info": info, "tags": tags, "params": {}, "metrics": []}
            return {"run": self._describe(number)}
        if call == "runs/search":
            words = body["filter"]
            found = [n for n, run in self.runs.items() if all(f"= '{v}'" in words for v in _own(run["tags"]))]
            return {"runs": [self._describe(number) for number in found]}
        if call == "metrics/get-history":
            kept = [m for m in self.runs[body["run_id"]]["metrics"] if m[0] == body["metric_key"]]
            return {"metrics": [{"key": k, "step": s, "value": v, "timestamp": 1} for k, s, v in kept]}
        run = self.runs[body["run_id"]]
        if call == "runs/get":
            return {"run": self._describe(body["run_id"])}
        if call == "runs/update":
            run["info"] |= {key: body[key] for key in ("status",) if key in body}
            return {"run_info": run["info"]}
        assert call == "runs/log-batch", call
        run["params"] |= {each["key"]: each["value"] for each in body.get("params", [])}
        run["metrics"] += [(m["key"], int(m.get("step", 0)), m["value"]) for m in body.get("metrics", [])]
        return {}

    def _describe(self, number: str) -> dict[str, Any]:
        run = self.runs[number]
        pairs = {name: [{"key": k, "value": v} for k, v in run[name].items()] for name in ("tags", "params")}
        return {"info": run["info"], "data": pairs}


def _own(tags: dict[str, str]) -> list[str]:
    return [tags["fedbus.run"], tags["fedbus.training"]]


@contextmanager
def mlflow_server() -> Iterator[tuple[str, MlflowRuns]]:
    """Serve on a free port of this machine; yields the address and what arrives."""
    received = MlflowRuns()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.text += text
            self._answer(json.loads(text))

        def _answer(self, body: dict[str, Any]) -> None:
            received.text += f"{self.path}\n{self.headers}\n"
            call = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
            found = received.answer(call, body)
            text = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST"} if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
