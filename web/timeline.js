// Draws on a task's node the clip that it prepares: which frames are given, and how strongly others are made.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./preview.js";
import { panelOn, removePanel, styled } from "./panel.js";

const WIDGET = "sora_timeline";
const HEIGHT = 60; // pixels; workflows/graph.py leaves room for it
const COLUMNS = 256; // at most: of longer clips each stands for several frames
const LEAST = 0.12; // height of what is hardly changed
const GIVEN = "#4d7ea8";
const MADE = "#e08a3c";
const SVG = "http://www.w3.org/2000/svg";
const STYLE = "display: flex; flex-direction: column; gap: 3px; font-size: 11px; color: var(--input-text);";

const drawn = new Map(); // what was last drawn: nodes are made anew when a tab is chosen or a step undone

/** Columns { first, last, strength } of spans [frames, strength]; null is given. In a column of several frames what is
 * made most strongly shows. */
function columnsOf(spans) {
  const total = spans.reduce((sum, [count]) => sum + count, 0);
  const columns = Array.from({ length: Math.min(total, COLUMNS) }, () => null);
  let first = 0;
  for (const [count, strength] of spans) {
    if (strength !== null) {
      const begin = Math.floor((first * columns.length) / total);
      const end = Math.ceil(((first + count) * columns.length) / total);
      for (let i = begin; i < end; i++) columns[i] = Math.max(columns[i] ?? 0, strength);
    }
    first += count;
  }
  return columns;
}

/** A bar over columns: given frames fill the height, made ones rise with their strength. */
function bar(begin, end, strength, total, columns) {
  const rect = document.createElementNS(SVG, "rect");
  const height = strength === null ? 1 : Math.max(LEAST, strength);
  const sides = { x: begin, y: 1 - height, width: end - begin, height, fill: strength === null ? GIVEN : MADE };
  for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
  const title = document.createElementNS(SVG, "title");
  const first = Math.floor((begin * total) / columns);
  const last = Math.ceil((end * total) / columns) - 1;
  const frames = last > first ? `frames ${first} to ${last}` : `frame ${first}`;
  title.textContent = `${frames}: ${strength === null ? "given" : `strength ${strength}`}`;
  rect.append(title);
  return rect;
}

function draw(node, spans) {
  const picture = document.createElementNS(SVG, "svg");
  const columns = columnsOf(spans);
  const total = spans.reduce((sum, [count]) => sum + count, 0);
  const given = spans.reduce((sum, [count, strength]) => sum + (strength === null ? count : 0), 0);
  picture.setAttribute("viewBox", `0 0 ${columns.length} 1`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.style.cssText = "flex: 1; width: 100%; min-height: 0; background: var(--comfy-input-bg); border-radius: 3px;";
  for (let begin = 0, end; begin < columns.length; begin = end) {
    end = begin + 1;
    while (end < columns.length && columns[end] === columns[begin]) end++;
    picture.append(bar(begin, end, columns[begin], total, columns.length));
  }
  const words = document.createElement("div");
  words.textContent = `${total} frames: ${given} given, ${total - given} to be made`;
  panelOn(node, WIDGET, () => styled("div", STYLE), HEIGHT, true).replaceChildren(picture, words);
}

const keyOf = (node) => `${node.graph?.id} ${node.id}`;

app.registerExtension({
  name: "sora.timeline",
  setup() {
    api.addEventListener("executing", ({ detail }) => {
      const node = findNode(detail);
      if (node && drawn.delete(keyOf(node))) removePanel(node, WIDGET);
    });
    api.addEventListener("executed", ({ detail }) => {
      const node = findNode(detail.node);
      const spans = detail.output?.sora_timeline?.at(-1); // of several clips, the last
      if (!node || !spans) return;
      drawn.set(keyOf(node), spans);
      draw(node, spans);
    });
  },
  loadedGraphNode(node) {
    const spans = drawn.get(keyOf(node));
    if (spans) draw(node, spans);
  },
});
