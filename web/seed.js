// The seed of a long clip stays after a run: under another one a clip that was cancelled begins anew instead of going on.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "sora.seed",
  nodeCreated(node) {
    if (node.comfyClass !== "SoraLongVideo") return;
    const seed = node.widgets?.find((widget) => widget.name === "seed");
    for (const control of seed?.linkedWidgets ?? []) control.value = "fixed"; // a workflow that is opened sets its own
  },
});
