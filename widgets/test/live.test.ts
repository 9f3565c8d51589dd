import type { AnyModel } from "@anywidget/types";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import live, { type LiveModel } from "../src/live/index";
import type { Bar, Snapshot } from "../src/live/snapshot";
import { clock, duration, howFar, number, summary } from "../src/live/words";

const bar = (given: Partial<Bar> = {}): Bar => ({
  label: "add ×100", task: "add", role: "", depth: 0, tasks: 100, total: 100, done: 40, failed: 3, revoked: 0, ignored: 0,
  retried: 2, running: 4, sent: 53, fraction: 0.43, state: "STARTED", unit: "task", waiting_for: "", ...given,
});

const snapshot = (seq: number, given: Partial<Snapshot> = {}): Snapshot => ({
  bars: [bar(), bar({ label: "tsum", task: "tsum", tasks: 1, total: 1, done: 0, failed: 0, retried: 0, running: 0,
    fraction: 0, state: "WAITING", waiting_for: "waiting for 57" })],
  state: "STARTED", total: 101, done: 40, failed: 3, revoked: 0, ignored: 0, retried: 2, running: 4, kept: 0, fraction: 0.43,
  elapsed: 2, rate: 20, left: 3, seq, name: "total", over: false, every: 5, ...given,
});

/** A model of two traits and another model behind its manager: enough of anywidget's to render against. */
function modelOf(first: unknown) {
  const listeners = new Map<string, Set<() => void>>();
  const of = (event: string) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  const tell = (event: string) => of(event)?.forEach((listener) => listener());
  let traits: LiveModel = { snapshot: first, control: "IPY_MODEL_control" };
  const sent: unknown[] = [];
  const control = {
    comm_live: true,
    send: (content: unknown) => void sent.push(content),
    on: (event: string, listener: () => void) => void of(event)?.add(listener),
    off: (event: string, listener: () => void) => void of(event)?.delete(listener),
  };
  return {
    sent,
    asked: [] as string[],
    get: (name: keyof LiveModel) => traits[name],
    on: control.on,
    off: control.off,
    take(next: Snapshot) {
      traits = { ...traits, snapshot: next };
      tell("change:snapshot");
    },
    connect(connected: boolean) {
      control.comm_live = connected;
      tell("comm_live_update");
    },
    get widget_manager() {
      const { asked } = this;
      return { get_model: async (id: string) => (asked.push(id), control) };
    },
  };
}

type Model = ReturnType<typeof modelOf>;

/** A model in a page, as anywidget makes it; `view` shows it (once more). */
async function opened(first: unknown = snapshot(1), change: (model: Model) => void = () => {}) {
  const model = modelOf(first);
  change(model);
  const widget = live();
  const forget = widget.initialize({ model: model as unknown as AnyModel<LiveModel> });
  await Promise.resolve();
  return {
    model,
    forget,
    view() {
      const el = document.body.appendChild(document.createElement("div"));
      return { el, cleanUp: widget.render({ el }) };
    },
  };
}

async function shown(first: unknown = snapshot(1), change?: (model: Model) => void) {
  const page = await opened(first, change);
  return { ...page, ...page.view() };
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
  expect(widths).toEqual(["40%", "3%", "0%", "0%", "0%", "4%"]);
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

test("a stage keeps its row when others come between, go, or change places", async () => {
  const { el, model } = await shown(snapshot(1, { bars: [bar(), bar({ label: "tsum", task: "tsum" })] }));
  const [add, tsum] = meters(el);
  const grafted = bar({ label: "swap", task: "swap", role: "replacement", depth: 1 });
  model.take(snapshot(2, { bars: [bar(), grafted, bar({ label: "tsum", task: "tsum" }), bar()] }));
  expect(meters(el)[0]).toBe(add);
  expect(meters(el)[2]).toBe(tsum);
  expect(meters(el).map((meter) => meter.getAttribute("aria-label"))).toEqual(
    ["add ×100", "swap, replacement", "tsum", "add ×100"]);
  model.take(snapshot(3, { bars: [bar({ label: "tsum", task: "tsum" }), bar()] }));
  expect(meters(el)).toEqual([tsum, add]);
});

test("time passes between snapshots", async () => {
  const { el } = await shown();
  expect(el.textContent).toContain("2.0 s");
  expect(el.textContent).toContain("about 3.0 s left");
  vi.advanceTimersByTime(2000);
  expect(el.textContent).toContain("4.0 s");
  expect(el.textContent).toContain("about 1.0 s left");
  expect(el.textContent).toContain("10/s"); // nothing ended meanwhile
  vi.advanceTimersByTime(2000);
  expect(el.textContent).not.toContain("left"); // it takes longer than it seemed
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
  expect(new Set(model.asked)).toEqual(new Set(["control"]));
  expect(button?.getAttribute("aria-disabled")).toBe("true");
  expect(button?.disabled).toBe(false); // or it would lose the focus
});

test("Cancel can be tried again when the kernel was not reached", async () => {
  const { el } = await shown(snapshot(1), (model) =>
    Object.defineProperty(model, "widget_manager", { get: () => ({ get_model: () => Promise.reject(new Error("gone")) }) }));
  const button = el.querySelector("button");
  button?.click();
  await vi.waitFor(() => expect(button?.title).toContain("could not be reached"));
  expect(button?.textContent).toBe("Cancel");
  expect(button?.getAttribute("aria-disabled")).toBe("false");
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
  expect(vi.getTimerCount()).toBe(1);
  cleanUp();
  const text = el.textContent;
  model.take(snapshot(2, { done: 99 }));
  vi.advanceTimersByTime(60_000);
  expect(el.textContent).toBe(text);
  expect(vi.getTimerCount()).toBe(0);
});

test("before the first snapshot there is an empty view, not an error", async () => {
  const { el } = await shown({});
  expect(meters(el)).toEqual([]);
});

test("a view that comes late shows what the others show, and the same clock", async () => {
  const page = await opened(snapshot(1));
  const first = page.view();
  page.model.take(snapshot(2, { done: 70, elapsed: 10 }));
  vi.advanceTimersByTime(7000);
  const second = page.view();
  expect(second.el.textContent).toBe(first.el.textContent);
  expect(second.el.textContent).toContain("17 s");
  first.cleanUp(); // closing one leaves the other
  page.model.take(snapshot(3, { done: 71 }));
  expect(second.el.textContent).toContain("71 of 101");
  expect(first.el.textContent).not.toContain("71 of 101");
});

test("a run that is over has no button and no clock", async () => {
  const { el, model } = await shown();
  model.take(snapshot(2, { over: true, state: "FAILURE", left: null, running: 0 }));
  expect(el.querySelector("button")?.hidden).toBe(true);
  const text = el.textContent;
  expect(text).toContain("✗ failed");
  vi.advanceTimersByTime(60_000);
  model.connect(false);
  expect(el.textContent).toBe(text);
});

test("a kernel that is silent is asked once, and the view says so until it speaks again", async () => {
  const { el, model } = await shown();
  vi.advanceTimersByTime(12_000);
  expect(el.textContent).not.toContain("no word");
  vi.advanceTimersByTime(8_000);
  expect(el.textContent).toContain("no word from the kernel for 20 s");
  await vi.waitFor(() => expect(model.sent).toEqual([{ do: "tell" }]));
  vi.advanceTimersByTime(60_000);
  expect(model.sent).toHaveLength(1);
  model.take(snapshot(2));
  expect(el.textContent).not.toContain("no word");
  vi.advanceTimersByTime(20_000);
  await vi.waitFor(() => expect(model.sent).toHaveLength(2));
});

test("a kernel that speaks every five seconds is not silent", async () => {
  const { el, model } = await shown();
  for (let seq = 2; seq < 40; seq++) {
    vi.advanceTimersByTime(5_000);
    expect(el.textContent).not.toContain("no word");
    model.take(snapshot(seq));
  }
  expect(model.sent).toEqual([]);
});

test("a kernel that is gone takes its run with it", async () => {
  const { el, model } = await shown();
  model.connect(false);
  expect(el.textContent).toContain("the kernel is gone");
  expect(el.textContent).toContain("lost");
  expect(el.querySelector("button")?.hidden).toBe(true);
  expect(el.querySelector("[aria-live]")?.textContent).toContain("the kernel is gone");
  const text = el.textContent;
  vi.advanceTimersByTime(60_000);
  expect(el.textContent).toBe(text); // the clock stands, nobody is asked
  expect(model.sent).toEqual([]);
  model.connect(true); // it was the network
  expect(el.querySelector(".nbc-doubt")?.textContent).toContain("no word from the kernel");
  model.take(snapshot(2));
  expect(el.querySelector(".nbc-doubt")?.textContent).toBe("");
  expect(el.querySelector("[aria-live]")?.textContent).not.toContain("the kernel is gone");
});

test("a model that has no kernel from the start says so", async () => {
  const { el } = await shown(snapshot(1), (model) => model.connect(false));
  await vi.waitFor(() => expect(el.textContent).toContain("the kernel is gone"));
});

test("the focus goes to the notebook when the view goes", async () => {
  const { el, cleanUp } = await shown();
  const notebook = document.body.appendChild(document.createElement("div"));
  notebook.className = "jp-Notebook";
  notebook.tabIndex = -1;
  notebook.append(el);
  el.querySelector("button")?.focus();
  el.remove();
  cleanUp();
  expect(document.activeElement).toBe(notebook);
});

test("a view that had no focus takes none", async () => {
  const { el, cleanUp } = await shown();
  const elsewhere = document.body.appendChild(document.createElement("input"));
  el.querySelector("button")?.focus();
  elsewhere.focus();
  el.remove();
  cleanUp();
  expect(document.activeElement).toBe(elsewhere);
});

test("stages stand at their depth, with the word for what hangs on a task", async () => {
  const { el } = await shown(snapshot(1, { bars: [bar(), bar({ label: "report", role: "errback", depth: 2 })] }));
  const [first, second] = el.querySelectorAll("[role=list] > [role=listitem]");
  expect(first?.getAttribute("aria-level")).toBe("1");
  expect(second?.getAttribute("aria-level")).toBe("3");
  expect(second?.textContent).toContain("⚠ reporterrback");
  expect(meters(el)[1]?.getAttribute("aria-label")).toBe("report, errback");
});

test("what was ignored is counted and drawn apart", async () => {
  const { el } = await shown(snapshot(1, { bars: [bar({ ignored: 20 })] }));
  expect(el.textContent).toContain("∅ 20 ignored or rejected");
  expect((meters(el)[0]?.children[3] as HTMLElement).style.width).toBe("20%");
});

test("a bar never draws more than it is long", async () => {
  const { el, model } = await shown();
  const some = dice(7);
  for (let seq = 2; seq < 300; seq++) {
    const total = some(50);
    const counts = { done: 0, failed: 0, revoked: 0, ignored: 0 };
    for (const name of ["done", "failed", "revoked", "ignored"] as const) {
      counts[name] = some(total + 1 - counts.done - counts.failed - counts.revoked - counts.ignored);
    }
    const over = counts.done + counts.failed + counts.revoked + counts.ignored;
    const fraction = total ? Math.min(1, (over + some(3) / 3) / total) : 1;
    model.take(snapshot(seq, { bars: [bar({ total, tasks: total, ...counts, fraction, running: some(60) })] }));
    const widths = [...(meters(el)[0]?.children ?? [])].map((part) => Number.parseFloat((part as HTMLElement).style.width));
    expect(widths.every((width) => width >= 0)).toBe(true);
    expect(widths.reduce((sum, width) => sum + width, 0)).toBeLessThanOrEqual(100.05);
  }
});

/** Numbers that look random, and are the same in every run. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("however messages are lost, doubled and shuffled, the newest that came is shown", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const some = dice(seed);
    const came: Snapshot[] = [];
    for (let seq = 2; seq <= 40; seq++) {
      for (let copies = some(3); copies > 0; copies--) {
        const stages = 1 + some(4);
        const bars = Array.from({ length: stages }, (_, at) => bar({ label: `stage ${at} of ${seq}`, done: some(100) }));
        came.push(snapshot(seq, { bars, done: seq }));
      }
    }
    for (let at = came.length - 1; at > 0; at--) {
      const other = some(at + 1);
      [came[at], came[other]] = [came[other] as Snapshot, came[at] as Snapshot];
    }
    const all = await shown();
    let newest = 0;
    for (const one of came) {
      all.model.take(one);
      newest = Math.max(newest, one.seq);
      expect(all.el.textContent).toContain(`${newest} of 101 tasks`); // it never goes back
    }
    const last = came.filter(({ seq }) => seq === newest)[0] as Snapshot;
    const alone = await shown();
    alone.model.take(last);
    expect(all.el.textContent).toBe(alone.el.textContent); // the newest alone says as much as all of them
    all.cleanUp();
    alone.cleanUp();
  }
});

test("nothing is listened to any more when the model goes", async () => {
  const { el, model, forget } = await shown();
  const text = el.textContent;
  forget();
  model.take(snapshot(2, { done: 99 }));
  model.connect(false);
  expect(el.textContent).toBe(text);
});

// The same words as nbcanvas/picture/markup.py and bars.py.
test.each([[0, "<1 ms"], [0.0009, "<1 ms"], [0.001, "1 ms"], [0.5, "500 ms"], [1, "1.0 s"], [59.6, "60 s"], [160, "3 min"], [7260, "2 h 1 min"]])(
  "%d seconds are said as %s", (seconds, text) => expect(duration(seconds)).toBe(text));

test("numbers, items and sums are said as in the still", () => {
  expect(number(9999)).toBe("9999");
  expect(number(1234567)).toBe("1\u202f234\u202f567");
  expect(howFar(bar({ unit: "item", done: 12, total: 400 }))).toBe("12/400 items");
  expect(summary(snapshot(1, { total: 1, rate: null, left: null }), 0)).toEqual(
    ["40 of 1 task", "4 at work", "2.0 s"]);
  expect(summary(snapshot(1, { kept: 12_000, running: 0, rate: null, left: null }), 0)).toEqual(
    ["40 of 101 tasks", "12\u202f000 kept", "2.0 s"]);
  expect(clock(155)).toBe("2 min 35 s");
  expect(clock(8000)).toBe("2 h 13 min");
});
