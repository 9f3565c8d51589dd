// The live view of a run. It shows the text the kernel keeps in the `text` trait, and follows it.
import type { Render } from "@anywidget/types";

interface LiveModel {
  text: string;
}

const render: Render<LiveModel> = ({ model, el }) => {
  const view = document.createElement("pre");
  view.className = "nbc-live";
  const show = () => {
    view.textContent = model.get("text");
  };
  show();
  el.append(view);
  model.on("change:text", show);
  return () => model.off("change:text", show);
};

export default { render };
