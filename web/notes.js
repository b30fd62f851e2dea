// Shows on a node what it has to say: of a run that has begun, and at its end the `text` of its output.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./preview.js";

const WIDGET = "sora_note";
const HEIGHT = 80; // pixels, of four lines; longer notes scroll

function tell(node, text) {
  if (!node?.comfyClass?.startsWith("Sora")) return;
  const known = node.widgets?.find((widget) => widget.name === WIDGET);
  if (!text) {
    if (known) node.removeWidget(known);
    return;
  }
  const note = known?.element ?? document.createElement("div");
  note.textContent = text;
  if (known) return;
  note.style.cssText = "overflow-y: auto; font-size: 12px; line-height: 1.3; color: var(--input-text); user-select: text;";
  const widget = node.addDOMWidget(WIDGET, "note", note, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.serialize = false; // not in the workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
}

app.registerExtension({
  name: "sora.notes",
  setup() {
    api.addEventListener("executing", ({ detail }) => tell(findNode(detail), ""));
    api.addEventListener("sora.note", ({ detail }) => tell(findNode(detail.node), detail.text));
    api.addEventListener("executed", ({ detail }) => tell(findNode(detail.node), detail.output?.text?.join("\n")));
  },
});
