"""Laws of the folder tree: imports run one way, and nothing needs a host to be imported."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path

import torch

from sora_core.checkpoint import Model, save_checkpoint

ROOT = Path(__file__).parent.parent
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "latent_preview", "nodes", "server"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def modules_of_the_core(path: Path) -> set[str]:
    """What a file of the core imports of this repository, lazily too, as `vae` or `world.scene`."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            assert base[:1] == ("sora_core",), f"{path} leaves the core"
            full = (*base, *(node.module or "").split(".")) if node.module else base
            for name in (None, *(alias.name for alias in node.names)):
                file = ROOT.joinpath(*full, *([name] if name else []))
                package_itself = name or node.module
                if file.with_suffix(".py").exists() or (package_itself and (file / "__init__.py").exists()):
                    found.add(".".join(file.relative_to(ROOT / "sora_core").parts))
    return found


def test_the_core_imports_neither_host_nor_nodes() -> None:
    files = list((ROOT / "sora_core").rglob("*.py"))
    assert len(files) > 15
    for path in files:
        assert not imports(path) & (HOST | {"nodes"}), path
        modules_of_the_core(path)


def test_the_core_s_imports_run_one_way() -> None:
    files = [path for path in (ROOT / "sora_core").rglob("*.py") if path.stem != "__main__"]
    places = ((path, path.parent if path.stem == "__init__" else path.with_suffix("")) for path in files)
    graph = {".".join(place.relative_to(ROOT / "sora_core").parts): modules_of_the_core(path) for path, place in places}
    assert "flow" in graph["samplers"] and "config" in graph["dit"]
    tuple(TopologicalSorter(graph).static_order())  # raises where some import one another in a circle
    for name, wanted in graph.items():
        top = name.partition(".")[0]
        low = not top.startswith(("train", "evaluate", "cli"))
        assert not low or not {w for w in wanted if w.startswith(("train", "evaluate", "cli"))}, name
        of_world = top in ("world", "pipeline")  # which has it tell two things of a prompt apart, for sora-mini
        assert not low or of_world or not {w for w in wanted if w.startswith("world")}, name


def test_only_one_package_touches_the_host() -> None:
    files = list((ROOT / "nodes").glob("*.py"))
    assert len(files) > 5
    for path in files:
        assert not imports(path) & HOST, path


def test_every_node_has_a_help_page() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    ids = set(re.findall(r'node_id="(\w+)"', source))
    assert ids and ids == {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}


def test_the_pack_is_imported_without_a_host() -> None:
    spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    assert callable(pack.comfy_entrypoint) and (ROOT / pack.WEB_DIRECTORY).is_dir()


def test_generating_imports_no_training(tiny: Model, tmp_path: Path) -> None:
    """The world only for prompts: to find two things in one, as the bundled model wants it."""
    code = "import sys; from sora_core.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    for apart in (False, True):
        path = tmp_path / f"{apart}.safetensors"
        save_checkpoint(path, replace(tiny, defaults=replace(tiny.defaults, apart=apart)), torch.float32)
        words = ["generate", "a red circle", "--model", str(path), "--out", str(tmp_path / f"{apart}.mp4")]
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        loaded = done.stdout.split()
        assert "sora_core.pipeline" in loaded and (tmp_path / f"{apart}.mp4").exists()
        assert not [name for name in loaded if name.startswith(("sora_core.train", "sora_core.evaluate"))]
        assert ("sora_core.world" in loaded) == apart


def test_both_lists_of_requirements_are_one() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = sorted(line for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(project["dependencies"]) == wanted


def test_torch_is_never_asked_for() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "einops>=0.6.0" in lines and not any(line.startswith("torch") for line in lines)
