// A part of a node that is only shown: neither in the prompt nor in the workflow.

/** The panel of this name on a node, or a new one around `element`, for which the node grows. */
export function panelOn(node, name, element, height, most) {
  const known = node.widgets?.find((widget) => widget.name === name);
  if (known) return known.element;
  const sizes = most ? { getMaxHeight: () => height } : {};
  const widget = node.addDOMWidget(name, "panel", element(), {
    serialize: false, // not in the prompt
    hideOnZoom: false,
    getMinHeight: () => height,
    ...sizes,
  });
  widget.serialize = false; // not in the workflow
  const [width, tall] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], tall)]);
  return widget.element;
}

/** Takes the panel of this name off a node, if it has one. */
export function removePanel(node, name) {
  const known = node?.widgets?.find((widget) => widget.name === name);
  if (known) node.removeWidget(known);
}

export function styled(tag, css) {
  const element = document.createElement(tag);
  element.style.cssText = css;
  return element;
}
