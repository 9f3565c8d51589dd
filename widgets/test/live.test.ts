import type { AnyModel } from "@anywidget/types";
import { expect, test } from "vitest";
import live from "../src/live/index";

/** A model of one trait: enough of anywidget's to render against. */
function modelOf(text: string) {
  const listeners = new Set<() => void>();
  return {
    get: () => text,
    on: (_event: string, listener: () => void) => void listeners.add(listener),
    off: (_event: string, listener: () => void) => void listeners.delete(listener),
    change(next: string) {
      text = next;
      for (const listener of listeners) listener();
    },
  };
}

test("the view follows the model until it is cleaned up", async () => {
  const model = modelOf("add 0/3");
  const el = document.createElement("div");
  const render = live.render as unknown as (context: {
    model: AnyModel;
    el: HTMLElement;
  }) => (() => void) | Promise<() => void>;
  const cleanUp = await render({ model: model as unknown as AnyModel, el });
  expect(el.textContent).toBe("add 0/3");
  model.change("add 3/3");
  expect(el.textContent).toBe("add 3/3");
  cleanUp();
  model.change("gone");
  expect(el.textContent).toBe("add 3/3");
});
