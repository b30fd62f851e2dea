// Shows every frame of a clip in the making, moving, on the node that makes it.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

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

function pictureOf(node) {
  const known = node.widgets?.find((widget) => widget.name === WIDGET);
  if (known) return known.element;
  const picture = document.createElement("img");
  picture.style.cssText = "width: 100%; height: 100%; object-fit: contain; image-rendering: auto;";
  picture.alt = "Preview of the clip in the making";
  const widget = node.addDOMWidget(WIDGET, "preview", picture, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
  });
  widget.serialize = false; // not in the workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return picture;
}

app.registerExtension({
  name: "sora.preview",
  setup() {
    api.addEventListener("sora.preview", ({ detail }) => {
      const node = findNode(detail.node);
      if (MAKERS.includes(node?.comfyClass)) pictureOf(node).src = detail.image;
    });
  },
});
