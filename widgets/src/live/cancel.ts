// The Cancel button. It speaks through a model of its own: see `CancelModel` in nbcanvas/notebook/widgets.py.
import type { AnyModel } from "@anywidget/types";
import type { LiveModel } from "./index";
import { element } from "./row";

const REFERENCE = "IPY_MODEL_";

interface Sender {
  send(content: unknown): void;
}

export function cancelButton(model: AnyModel<LiveModel>): HTMLButtonElement {
  const button = element("button", "cancel", "Cancel") as HTMLButtonElement;
  button.type = "button";
  button.title = "Revoke every task that has not ended";
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Cancelling…";
    try {
      const id = model.get("cancel_model").slice(REFERENCE.length);
      const other = (await model.widget_manager.get_model(id)) as unknown as Sender;
      other.send({ do: "cancel" });
    } catch {
      button.disabled = false;
      button.textContent = "Cancel";
      button.title = "The kernel could not be reached; run.cancel() does the same";
    }
  });
  return button;
}
