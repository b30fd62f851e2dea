"""The shipped workflows are what the builder writes, and are laid out to be read."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflows"


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module
    spec.loader.exec_module(module)
    return module


BUILD = load_builder()
LINKABLE = sys.modules["graph"].LINKABLE
NAMES = [make.__name__ for make in BUILD.WORKFLOWS]


def test_the_folder_is_what_the_builder_writes(tmp_path: Path) -> None:
    written = {path.relative_to(tmp_path) for path in BUILD.write(tmp_path)}
    shipped = {path.relative_to(FOLDER) for path in FOLDER.rglob("*.json")}
    assert written == shipped
    for path in written:
        assert (tmp_path / path).read_bytes() == (FOLDER / path).read_bytes(), path


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_are_one_graph(name: str) -> None:
    ui = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    api = json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    nodes = {str(node["id"]): node for node in ui["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["type"] for key, node in nodes.items()} == {k: v["class_type"] for k, v in api.items()}
    wires = {
        (str(target), nodes[str(target)]["inputs"][slot]["name"]): [str(source), output]
        for _, source, output, target, slot, _ in ui["links"]
    }
    for key, node in nodes.items():  # the editor stores widgets by position, and one more after every seed
        linked = {i["name"]: LINKABLE[i["name"]][1] for i in node["inputs"] if "widget" in i}
        inputs = {name: linked.get(name, value) for name, value in api[key]["inputs"].items()}
        widgets = [pair for pair in inputs.items() if not isinstance(pair[1], list)]
        expected = [v for name, value in widgets for v in ([value, "fixed"] if name == "seed" else [value])]
        assert node["widgets_values"] == expected, (name, key)
    assert wires == {
        (key, name): value
        for key, node in api.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }


@pytest.mark.parametrize("name", NAMES)
def test_nodes_do_not_overlap_and_wires_run_to_the_right(name: str) -> None:
    ui = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    boxes = {
        node["id"]: (node["pos"][0], node["pos"][1] - sys.modules["graph"].TITLE, node["pos"][0] + node["size"][0],
                     node["pos"][1] + node["size"][1])
        for node in ui["nodes"]
    }  # fmt: skip
    for a, one in boxes.items():
        for b, other in boxes.items():
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert a == b or apart, (name, a, b)
    positions = {node["id"]: node["pos"] for node in ui["nodes"]}
    for _, source, _, target, _, _ in ui["links"]:
        x, y = positions[source]
        assert x < positions[target][0] or (x == positions[target][0] and y < positions[target][1]), (name, source)


@pytest.mark.parametrize("name", NAMES)
def test_every_workflow_has_a_picture(name: str) -> None:
    with Image.open(FOLDER / f"{name}.jpg") as picture:
        assert picture.format == "JPEG" and picture.size == (384, 384)
        assert len(picture.convert("RGB").resize((16, 16)).getcolors(256) or range(257)) > 8  # not one plain colour
