// Draws on a task's node the clip that it prepares: how strongly every frame is made, and which are given.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./preview.js";

const WIDGET = "sora_timeline";
const HEIGHT = 60; // pixels
const GIVEN = "#4d7ea8";
const MADE = "#e08a3c";
const SVG = "http://www.w3.org/2000/svg";

function stripOf(node) {
  const known = node.widgets?.find((widget) => widget.name === WIDGET);
  if (known) return known.element;
  const strip = document.createElement("div");
  strip.style.cssText = "display: flex; flex-direction: column; gap: 3px; font-size: 11px; color: var(--input-text);";
  const widget = node.addDOMWidget(WIDGET, "timeline", strip, {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.serialize = false; // not in the workflow
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return strip;
}

/** A bar of one span: given frames fill the height, made ones rise with their strength. */
function bar(first, count, strength) {
  const rect = document.createElementNS(SVG, "rect");
  const height = strength || 1;
  const sides = { x: first, y: 1 - height, width: count, height, fill: strength ? MADE : GIVEN };
  for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
  const title = document.createElementNS(SVG, "title");
  const frames = count > 1 ? `frames ${first} to ${first + count - 1}` : `frame ${first}`;
  title.textContent = `${frames}: ${strength ? `strength ${strength}` : "given"}`;
  rect.append(title);
  return rect;
}

/** spans: [frames, strength] one after the other. */
function draw(node, spans) {
  const picture = document.createElementNS(SVG, "svg");
  const total = spans.reduce((sum, [count]) => sum + count, 0);
  picture.setAttribute("viewBox", `0 0 ${total} 1`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.style.cssText = "flex: 1; width: 100%; min-height: 0; background: var(--comfy-input-bg); border-radius: 3px;";
  let first = 0;
  let given = 0;
  for (const [count, strength] of spans) {
    picture.append(bar(first, count, strength));
    first += count;
    given += strength ? 0 : count;
  }
  const words = document.createElement("div");
  words.textContent = `${total} frames: ${given} given, ${total - given} to be made`;
  stripOf(node).replaceChildren(picture, words);
}

app.registerExtension({
  name: "sora.timeline",
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const node = findNode(detail.node);
      if (node && detail.output?.sora_timeline) draw(node, detail.output.sora_timeline);
    });
  },
});
