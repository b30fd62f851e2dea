// Shows on a node what it has to say: of a run that has begun, and at its end the `text` of its output.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./preview.js";
import { panelOn, removePanel, styled } from "./panel.js";

const WIDGET = "sora_note";
const HEIGHT = 80; // pixels, of four lines; longer notes scroll
const STYLE = "overflow-y: auto; font-size: 12px; line-height: 1.3; color: var(--input-text); user-select: text;";

function tell(node, text) {
  if (!node?.comfyClass?.startsWith("Sora")) return;
  if (text) panelOn(node, WIDGET, () => styled("div", STYLE), HEIGHT, true).textContent = text;
  else removePanel(node, WIDGET);
}

app.registerExtension({
  name: "sora.notes",
  setup() {
    api.addEventListener("executing", ({ detail }) => tell(findNode(detail), ""));
    api.addEventListener("sora.note", ({ detail }) => tell(findNode(detail.node), detail.text));
    api.addEventListener("executed", ({ detail }) => tell(findNode(detail.node), detail.output?.text?.join("\n")));
  },
});
