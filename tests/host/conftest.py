"""A real ComfyUI server, headless, with this pack as one of its custom nodes.

The host is COMFYUI_PATH, else the ComfyUI that this folder lies in, else ~/comfy/ComfyUI; its Python is
COMFYUI_PYTHON, else its .venv, else the one that runs the tests. Nothing is written into it: models, input, output
and user data lie in a temporary folder. Without a host these tests are skipped with one loud line, or, where
SORA_NEEDS_HOST is set, fail.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import websocket
from prompts import SHIPPED, SIDE
from wan_graphs import write_weights

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "sora_core" / "weights" / "sora-mini.safetensors"


def find_host() -> Path | None:
    candidates = [ROOT.parents[1], Path.home() / "comfy" / "ComfyUI"]
    if named := os.environ.get("COMFYUI_PATH"):
        candidates = [Path(named)]
    return next((path for path in candidates if (path / "main.py").exists() and (path / "comfy").is_dir()), None)


def python_of(host: Path) -> str:
    places = [host / ".venv" / "bin" / "python", host / ".venv" / "Scripts" / "python.exe"]
    found = next((str(path) for path in places if path.exists()), sys.executable)
    return os.environ.get("COMFYUI_PYTHON") or found


def why_not() -> str | None:
    """Why these tests cannot run, or None."""
    if find_host() is None:
        return f"no ComfyUI at {os.environ.get('COMFYUI_PATH') or '~/comfy/ComfyUI'}; set COMFYUI_PATH"
    return None if WEIGHTS.exists() else "the bundled model is missing"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if reason := why_not():
        if os.environ.get("SORA_NEEDS_HOST"):
            raise pytest.UsageError(f"SORA_NEEDS_HOST is set, but {reason}")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if reason := why_not():
        terminalreporter.write_line(f"TESTS ON THE REAL HOST WERE SKIPPED: {reason}", red=True, bold=True)


@dataclass
class Outcome:
    """What came of one prompt."""

    outputs: dict[str, dict[str, Any]]  # what each output node says it saved, by node id
    error: dict[str, Any] | None = None  # the execution_error message
    interrupted: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)


class Server:
    """A running host and its API."""

    def __init__(self, host: Path, base: Path, *options: str) -> None:
        self.host, self.base, self.client = host, base, uuid.uuid4().hex
        for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
            (base / name).mkdir(parents=True)
        (base / "models" / "sora").mkdir()
        (base / "models" / "loras").mkdir()
        (base / "custom_nodes" / "any-name").symlink_to(ROOT)
        (base / "custom_nodes" / "for-tests").symlink_to(Path(__file__).parent / "foreign")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = base / "server.log"
        command = [
            python_of(host), "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(base),
            "--disable-auto-launch", "--disable-api-nodes", "--preview-method", "auto",
            "--database-url", "sqlite:///:memory:", *options,
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.process = subprocess.Popen(
            command, cwd=host, env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT
        )
        self._wait_until_up()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{self.port}/ws?clientId={self.client}", timeout=300)

    def _wait_until_up(self) -> None:
        for _ in range(240):
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        raise RuntimeError(f"the host did not start:\n{self.log.read_text()[-4000:]}")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def queue(self, prompt: dict[str, Any]) -> str:
        status, answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client})
        assert status == 200 and not answer["node_errors"], answer
        return answer["prompt_id"]

    def events(self, prompt_id: str) -> Iterator[dict[str, Any]]:
        """Messages of the websocket until the prompt has ended, whichever way."""
        while True:
            message = self.socket.recv()
            if isinstance(message, bytes):
                continue
            event = json.loads(message)
            yield event
            data = event.get("data", {})
            if data.get("prompt_id") != prompt_id:
                continue
            if event["type"] in ("execution_error", "execution_interrupted"):
                return
            if event["type"] == "executing" and data.get("node") is None:
                return

    def run(self, prompt: dict[str, Any]) -> Outcome:
        """Queue a prompt and follow it to its end."""
        prompt_id = self.queue(prompt)
        events = list(self.events(prompt_id))
        last = events[-1]
        if last["type"] == "execution_error":
            return Outcome({}, error=last["data"], events=events)
        if last["type"] == "execution_interrupted":
            return Outcome({}, interrupted=True, events=events)
        return Outcome(self.get(f"/history/{prompt_id}")[prompt_id]["outputs"], events=events)

    def view(self, saved: dict[str, str], folder: Path) -> Path:
        """Fetch a saved file through the API."""
        query = urllib.parse.urlencode({key: saved[key] for key in ("filename", "subfolder", "type")})
        target = folder / saved["filename"]
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/view?{query}", timeout=60) as answer:
            target.write_bytes(answer.read())
        return target

    def memory(self) -> float:
        """Resident memory of the server, MB."""
        done = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        return int(done.stdout) / 1024


def start(folder: Path, *options: str) -> Server:
    host = find_host()
    assert host is not None
    return Server(host, folder, *options)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("host"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def weights(server: Server) -> Path:
    """The server's folder of models, with small random ones in it."""
    write_weights(server.base / "models")
    return server.base / "models"


@pytest.fixture
def bf16_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A host that keeps transformers in bfloat16, as on most graphics cards."""
    running = start(tmp_path_factory.mktemp("bf16"), "--bf16-unet")
    yield running
    running.close()


@pytest.fixture
def api() -> Any:
    """api(name): a fresh copy of a shipped workflow in API format, made smaller for CI unless `shipped`."""

    def copy(name: str, shipped: bool = False) -> dict[str, Any]:
        prompt = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
        for node in () if shipped else prompt.values():
            for side in {"width", "height"} & node["inputs"].keys():
                if isinstance(value := node["inputs"][side], int) and value <= SHIPPED:
                    node["inputs"][side] = max(64, value * SIDE // SHIPPED // 16 * 16)
        return prompt

    return copy


@pytest.fixture(scope="session")
def kinds() -> dict[str, Any]:
    """The workflow builder's table of node types."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "workflows" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module
    spec.loader.exec_module(module)
    return sys.modules["graph"].KINDS
