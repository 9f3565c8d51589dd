import type { AnyModel } from "@anywidget/types";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import live, { type LiveModel } from "../src/live/index";
import type { Bar, Snapshot } from "../src/live/snapshot";
import { duration, howFar, number, summary } from "../src/live/words";

const bar = (given: Partial<Bar> = {}): Bar => ({
  label: "add ×100", task: "add", role: "", depth: 0, tasks: 100, total: 100, done: 40, failed: 3, revoked: 0, retried: 2,
  running: 4, sent: 53, fraction: 0.43, state: "STARTED", unit: "task", waiting_for: "", ...given,
});

const snapshot = (seq: number, given: Partial<Snapshot> = {}): Snapshot => ({
  bars: [bar(), bar({ label: "tsum", task: "tsum", tasks: 1, total: 1, done: 0, failed: 0, retried: 0, running: 0,
    fraction: 0, state: "WAITING", waiting_for: "waiting for 57" })],
  state: "STARTED", total: 101, done: 40, failed: 3, revoked: 0, retried: 2, running: 4, fraction: 0.43, elapsed: 2,
  rate: 20, left: 3, seq, name: "total", ...given,
});

/** A model of two traits and another model behind its manager: enough of anywidget's to render against. */
function modelOf(first: Snapshot) {
  const listeners = new Set<() => void>();
  const sent: unknown[] = [];
  let traits: LiveModel = { snapshot: first, cancel_model: "IPY_MODEL_button" };
  const other = { send: (content: unknown) => void sent.push(content) };
  return {
    sent,
    asked: [] as string[],
    get: (name: keyof LiveModel) => traits[name],
    on: (_event: string, listener: () => void) => void listeners.add(listener),
    off: (_event: string, listener: () => void) => void listeners.delete(listener),
    take(next: Snapshot) {
      traits = { ...traits, snapshot: next };
      for (const listener of listeners) listener();
    },
    get widget_manager() {
      const { asked } = this;
      return { get_model: async (id: string) => (asked.push(id), other) };
    },
  };
}

async function shown(first = snapshot(1)) {
  const model = modelOf(first);
  const el = document.body.appendChild(document.createElement("div"));
  const render = live.render as unknown as (context: { model: AnyModel<LiveModel>; el: HTMLElement }) => () => void;
  const cleanUp = await render({ model: model as unknown as AnyModel<LiveModel>, el });
  return { model, el, cleanUp };
}

const meters = (el: HTMLElement) => [...el.querySelectorAll<HTMLElement>("[role=progressbar]")];

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] }));
afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

test("each stage has a progress bar that says how far it is", async () => {
  const { el } = await shown();
  const [add, tsum] = meters(el);
  expect(add?.getAttribute("aria-valuenow")).toBe("43");
  expect(add?.getAttribute("aria-label")).toBe("add ×100");
  expect(tsum?.getAttribute("aria-valuetext")).toBe("waiting, waiting for 57");
  expect(el.textContent).toContain("40/100");
  expect(el.textContent).toContain("✗ 3 failed");
  expect(el.textContent).toContain("↻ 2 retried");
  const widths = [...(add?.children ?? [])].map((part) => (part as HTMLElement).style.width);
  expect(widths).toEqual(["40%", "3%", "0%", "0%", "4%"]);
});

test("a newer snapshot moves the bars in place, an older one is ignored", async () => {
  const { el, model } = await shown(snapshot(5));
  const before = meters(el)[0];
  model.take(snapshot(6, { bars: [bar({ fraction: 0.9, done: 87 })], done: 87 }));
  expect(meters(el)).toEqual([before]);
  expect(before?.getAttribute("aria-valuenow")).toBe("90");
  model.take(snapshot(4));
  expect(before?.getAttribute("aria-valuenow")).toBe("90");
});

test("time passes between snapshots", async () => {
  const { el } = await shown();
  expect(el.textContent).toContain("2.0 s");
  expect(el.textContent).toContain("about 3.0 s left");
  vi.advanceTimersByTime(2000);
  expect(el.textContent).toContain("4.0 s");
  expect(el.textContent).toContain("about 1.0 s left");
});

test("a screen reader hears of it every five seconds at most", async () => {
  const { el, model } = await shown();
  const spoken = el.querySelector("[aria-live=polite]");
  expect(spoken?.textContent).toBe("running, 40 of 101 tasks, ✗ 3 failed, ↻ 2 retried");
  model.take(snapshot(2, { done: 50 }));
  vi.advanceTimersByTime(3000);
  expect(spoken?.textContent).toContain("40 of 101");
  vi.advanceTimersByTime(3000);
  expect(spoken?.textContent).toContain("50 of 101");
});

test("Cancel speaks through the button's own model, once", async () => {
  const { el, model } = await shown();
  const button = el.querySelector("button");
  button?.click();
  button?.click();
  await vi.waitFor(() => expect(model.sent).toEqual([{ do: "cancel" }]));
  expect(model.asked).toEqual(["button"]);
  expect(button?.disabled).toBe(true);
});

test("Cancel can be tried again when the kernel was not reached", async () => {
  const { el, model } = await shown();
  Object.defineProperty(model, "widget_manager", { get: () => ({ get_model: () => Promise.reject(new Error("gone")) }) });
  const button = el.querySelector("button");
  button?.click();
  await vi.waitFor(() => expect(button?.disabled).toBe(false));
  expect(button?.textContent).toBe("Cancel");
});

test("a task's name is text, whatever it looks like", async () => {
  const { el } = await shown(snapshot(1, { bars: [bar({ label: "<img src=x onerror=alert(1)>" })], name: "<b>" }));
  expect(el.querySelector("img")).toBeNull();
  expect(el.textContent).toContain("<img src=x onerror=alert(1)>");
});

test("plain keys stay in the view, shortcuts with a modifier pass", async () => {
  const { el } = await shown();
  const heard: string[] = [];
  document.body.addEventListener("keydown", (event) => void heard.push(event.key));
  const button = el.querySelector("button");
  for (const init of [{ key: "x" }, { key: "Enter" }, { key: "Enter", shiftKey: true }, { key: "s", ctrlKey: true }]) {
    button?.dispatchEvent(new KeyboardEvent("keydown", { ...init, bubbles: true }));
  }
  expect(heard).toEqual(["Enter", "s"]);
});

test("nothing moves any more after the clean-up", async () => {
  const { el, model, cleanUp } = await shown();
  cleanUp();
  const text = el.textContent;
  model.take(snapshot(2, { done: 99 }));
  vi.advanceTimersByTime(60_000);
  expect(el.textContent).toBe(text);
  expect(vi.getTimerCount()).toBe(0);
});

test("before the first snapshot there is an empty view, not an error", async () => {
  const { el } = await shown({} as Snapshot);
  expect(meters(el)).toEqual([]);
});

// The same words as nbcanvas/picture/markup.py and bars.py.
test.each([[0.0004, "0 ms"], [0.5, "500 ms"], [1, "1.0 s"], [59.6, "60 s"], [160, "3 min"], [7260, "2 h 1 min"]])(
  "%d seconds are said as %s", (seconds, text) => expect(duration(seconds)).toBe(text));

test("numbers, items and sums are said as in the still", () => {
  expect(number(9999)).toBe("9999");
  expect(number(1234567)).toBe("1\u202f234\u202f567");
  expect(howFar(bar({ unit: "item", done: 12, total: 400 }))).toBe("12/400 items");
  expect(summary(snapshot(1, { total: 1, rate: null, left: null }), 0)).toEqual(["40 of 1 task", "2.0 s"]);
});
