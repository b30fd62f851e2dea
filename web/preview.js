// Shows every frame of a clip in the making, moving, on the node that makes it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { panelOn, styled } from "./panel.js";

const WIDGET = "sora_preview";
const HEIGHT = 160; // pixels
const MAKERS = ["SoraSampler", "SoraLongVideo"];

/** The node with this id; ids inside subgraphs read "12:5". */
export function findNode(id) {
  let graph = app.graph;
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

function picture() {
  const element = styled("img", "width: 100%; height: 100%; object-fit: contain; image-rendering: auto;");
  element.alt = "Preview of the clip in the making";
  return element;
}

app.registerExtension({
  name: "sora.preview",
  setup() {
    api.addEventListener("sora.preview", ({ detail }) => {
      const node = findNode(detail.node);
      if (MAKERS.includes(node?.comfyClass)) panelOn(node, WIDGET, picture, HEIGHT).src = detail.image;
    });
  },
});
