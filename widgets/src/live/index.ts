// The live view of a run, as anywidget wants it: one store a model, a view for each place that shows it.
import type { AnyModel } from "@anywidget/types";
import { Line, type Spoken } from "../line";
import { Store } from "../store";
import { isSnapshot } from "./snapshot";
import { View } from "./view";
import "./live.css";

export type LiveModel = Spoken;

/** anywidget calls this once for each model. */
export default () => {
  let line: Line | undefined;
  const store = new Store(isSnapshot, () => void line?.send({ do: "tell" }).catch(() => store.connect(false)));

  function initialize({ model }: { model: AnyModel<LiveModel> }): () => void {
    line = new Line(model);
    return line.feed(store);
  }

  function render({ el }: { el: HTMLElement }): () => void {
    const view = new View(store, () => line?.send({ do: "cancel" }) ?? Promise.reject(new Error("no line")));
    el.append(view.element);
    return () => view.close();
  }

  return { initialize, render };
};
