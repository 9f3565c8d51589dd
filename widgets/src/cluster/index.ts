// The Cluster view, as anywidget wants it: one store a model, a view for each place that shows it.
import type { AnyModel } from "@anywidget/types";
import { Line, type Spoken } from "../line";
import { Store } from "../store";
import { isSnapshot } from "./snapshot";
import { View } from "./view";
import "./cluster.css";

/** ms between two words to the kernel that somebody looks: when nobody does, it asks the workers nothing. */
const WATCHED = 5000;

/** anywidget calls this once for each model. */
export default () => {
  let line: Line | undefined;
  let views = 0;
  const store = new Store(isSnapshot, () => watched());
  const watched = () => void line?.send({ do: "watch" }).catch(() => store.connect(false));

  function initialize({ model }: { model: AnyModel<Spoken> }): () => void {
    line = new Line(model);
    const unfeed = line.feed(store);
    const look = setInterval(() => {
      if (views > 0 && !store.over && document.visibilityState === "visible") watched();
    }, WATCHED);
    return () => {
      clearInterval(look);
      unfeed();
    };
  }

  function render({ el }: { el: HTMLElement }): () => void {
    const view = new View(store, (wish) => line?.send(wish) ?? Promise.reject(new Error("no line")));
    views += 1;
    if (!store.over) watched();
    el.append(view.element);
    return () => {
      views -= 1;
      view.close();
    };
  }

  return { initialize, render };
};
