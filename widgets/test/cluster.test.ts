import type { AnyModel } from "@anywidget/types";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import cluster from "../src/cluster/index";
import type { JobRow, Snapshot, WorkerRow } from "../src/cluster/snapshot";
import type { Spoken } from "../src/line";

const worker = (name: string, given: Partial<WorkerRow> = {}): WorkerRow => ({
  name, kind: "Celery", pool: "prefork", slots: 4, active: 3, reserved: 8, scheduled: 1, processed: 120, queues: ["celery"],
  uptime: "2 h", silent: false, ...given,
});
const job = (id: string, state: JobRow["state"], moment: number | null = 90): JobRow => ({
  id, name: "proj.add", short: "add", call: "add(1, 2)", worker: "w1@h", queue: "celery", state, moment,
});
const snapshot = (seq: number, given: Partial<Snapshot> = {}): Snapshot => ({
  server: "redis://:********@h:6379/0", at: 100, trouble: "", workers: [worker("w1@h"), worker("w2@h", { queues: ["gpu", "celery"] })],
  queues: [{ name: "celery", messages: 12, workers: ["w1@h", "w2@h"] }, { name: "gpu", messages: 3, workers: [] }],
  jobs: [job("a1", "active"), job("a2", "active"), job("r1", "reserved", null), job("s1", "scheduled", 160)],
  totals: { workers: 2, silent: 0, slots: 8, queues: 2, messages: 15, active: 2, reserved: 70, scheduled: 1 },
  tasks: [["proj.add", "10/m"], ["proj.sub", ""]], said: { number: 0, text: "", ok: true }, seq, over: false, every: 5, ...given,
});

function modelOf(first: unknown) {
  const listeners = new Map<string, Set<() => void>>();
  const of = (event: string) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  let traits: Spoken = { snapshot: first, control: "IPY_MODEL_control" };
  const sent: Record<string, unknown>[] = [];
  const control = {
    comm_live: true,
    send: (content: Record<string, unknown>) => void sent.push(content),
    on: (event: string, listener: () => void) => void of(event)?.add(listener),
    off: (event: string, listener: () => void) => void of(event)?.delete(listener),
  };
  return {
    sent,
    get: (name: keyof Spoken) => traits[name],
    on: control.on,
    off: control.off,
    take(next: Snapshot) {
      traits = { ...traits, snapshot: next };
      of("change:snapshot")?.forEach((listener) => listener());
    },
    connect(connected: boolean) {
      control.comm_live = connected;
      of("comm_live_update")?.forEach((listener) => listener());
    },
    widget_manager: { get_model: async () => control },
  };
}

async function shown(first: unknown = snapshot(1)) {
  const model = modelOf(first);
  const widget = cluster();
  const forget = widget.initialize({ model: model as unknown as AnyModel<Spoken> });
  await Promise.resolve();
  const el = document.body.appendChild(document.createElement("div"));
  const cleanUp = widget.render({ el });
  await Promise.resolve();
  await Promise.resolve();
  return { model, el, cleanUp, forget, wishes: () => model.sent.filter((wish) => wish["do"] !== "watch") };
}

const text = (el: Element) => el.textContent ?? "";
const named = (el: HTMLElement, label: string) => el.querySelector<HTMLElement>(`[aria-label="${label}"]`) as HTMLElement;
const press = async (button: HTMLElement) => {
  button.click();
  await Promise.resolve();
  await Promise.resolve();
};

beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "setTimeout", "clearTimeout", "performance"] }));
afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

test("it says what there is", async () => {
  const { el } = await shown();
  for (const said of ["redis://:********@h:6379/0", "2 workers", "2 of 8 slots busy", "15 messages waiting", "Celery · prefork · up 2 h · 120 taken",
    "3 of 4", "nobody", "Active 2", "Reserved 70", "and 69 more", "add(1, 2)", "proj.add 10/m"])
    expect(text(el)).toContain(said);
  expect(el.querySelectorAll("[role=meter]")).toHaveLength(2);
  expect(el.querySelector("[role=meter]")?.getAttribute("aria-valuetext")).toBe("3 of 4");
});

test("rows are kept in place, and the focus with them", async () => {
  const { el, model } = await shown();
  const button = named(el, "Add a slot to the pool of w2@h");
  button.focus();
  model.take(snapshot(2, { workers: [worker("w0@h"), worker("w1@h"), worker("w2@h", { active: 4, queues: ["gpu"] })] }));
  expect(document.activeElement).toBe(button);
  expect(named(el, "Add a slot to the pool of w2@h")).toBe(button);
  expect(el.querySelectorAll(".nbc-chip")).toHaveLength(3);
  model.take(snapshot(3, { workers: [] , totals: { ...snapshot(1).totals, workers: 0 } }));
  expect(text(el)).toContain("No worker answers");
});

test("buttons tell the kernel what is wished, once", async () => {
  const { el, wishes } = await shown();
  await press(named(el, "Add a slot to the pool of w1@h"));
  await press(named(el, "Add a slot to the pool of w1@h"));
  await press(named(el, "Take a slot from the pool of w2@h"));
  expect(wishes()).toEqual([{ do: "grow", worker: "w1@h" }, { do: "shrink", worker: "w2@h" }]);
  vi.advanceTimersByTime(3100);
  await press(named(el, "Add a slot to the pool of w1@h"));
  expect(wishes()).toHaveLength(3);
});

test("what cannot be undone asks first, and forgets that it asked", async () => {
  const { el, wishes } = await shown();
  const button = named(el, "Terminate add a1");
  await press(button);
  expect(text(button)).toBe("Sure?");
  expect(wishes()).toEqual([]);
  vi.advanceTimersByTime(4100);
  expect(text(button)).toBe("Terminate");
  await press(button);
  await press(button);
  expect(wishes()).toEqual([{ do: "revoke", id: "a1", terminate: true }]);
  await press(named(el, "Revoke add r1"));
  expect(wishes()[1]).toEqual({ do: "revoke", id: "r1", terminate: false });
  const end = named(el, "Let w2@h take from gpu no more");
  await press(end);
  await press(end);
  expect(wishes()[2]).toEqual({ do: "cancel", worker: "w2@h", queue: "gpu" });
});

test("forms send what was typed, and nothing when nothing was", async () => {
  const { el, wishes } = await shown();
  const field = named(el, "A queue that w1@h is to take from too") as HTMLInputElement;
  field.form?.requestSubmit();
  expect(wishes()).toEqual([]);
  field.value = "  hipri ";
  field.form?.requestSubmit();
  const task = named(el, "Task whose rate is limited") as HTMLInputElement;
  const limit = named(el, "Rate limit, such as 10/m; 0 takes it away") as HTMLInputElement;
  task.value = "proj.sub";
  limit.value = "5/s";
  task.form?.requestSubmit();
  await Promise.resolve();
  await Promise.resolve();
  expect(wishes()).toEqual([{ do: "add", worker: "w1@h", queue: "hipri" }, { do: "limit", task: "proj.sub", limit: "5/s" }]);
  expect(field.value).toBe("");
});

test("what came of it is said", async () => {
  const { el, model } = await shown();
  model.take(snapshot(2, { said: { number: 1, text: "w1@h: pool will grow", ok: true } }));
  expect(text(el.querySelector("[role=status]") as Element)).toBe("✓ w1@h: pool will grow");
  model.take(snapshot(3, { said: { number: 2, text: "w1@h did not answer", ok: false } }));
  expect(text(el.querySelector("[role=status]") as Element)).toBe("✗ w1@h did not answer");
});

test("silence, trouble and the end are said", async () => {
  const { el, model } = await shown();
  model.take(snapshot(2, { workers: [worker("w1@h", { silent: true })] }));
  expect(text(el)).toContain("no answer");
  vi.advanceTimersByTime(20_000);
  expect(text(el)).toContain("as it was 20 s ago");
  model.take(snapshot(3, { trouble: "redis://h is not there" }));
  expect(text(el.querySelector("[role=alert]") as Element)).toBe("redis://h is not there");
  model.connect(false);
  expect(text(el)).toContain("the kernel is gone");
  model.take(snapshot(4, { over: true }));
  expect(text(el)).toContain("stopped");
});

test("times go on between two snapshots", async () => {
  const { el } = await shown();
  expect(text(el)).toContain("10 s");
  vi.advanceTimersByTime(3000);
  expect(text(el)).toContain("13 s");
  expect(text(el.querySelectorAll("[role=tabpanel]")[2] as Element)).toContain("57 s");
});

test("it says that somebody looks, as long as somebody does", async () => {
  const { model, cleanUp, forget } = await shown();
  const watched = () => model.sent.filter((wish) => wish["do"] === "watch").length;
  const first = watched();
  expect(first).toBeGreaterThan(0);
  vi.advanceTimersByTime(5000);
  await Promise.resolve();
  await Promise.resolve();
  expect(watched()).toBeGreaterThan(first);
  cleanUp();
  const before = watched();
  vi.advanceTimersByTime(20_000);
  await Promise.resolve();
  await Promise.resolve();
  expect(watched()).toBe(before);
  forget();
});

test("nothing from data becomes markup", async () => {
  const bad = "<img src=x onerror=pwned()>";
  const { el } = await shown(snapshot(1, {
    server: bad, trouble: bad, workers: [worker(bad, { kind: bad, pool: bad, queues: [bad], uptime: bad })],
    queues: [{ name: bad, messages: 1, workers: [bad] }], jobs: [{ ...job(bad, "active"), call: bad, short: bad, worker: bad, queue: bad }],
    tasks: [[bad, bad]], said: { number: 1, text: bad, ok: true },
  }));
  expect(el.querySelector("img")).toBeNull();
  expect(text(el)).toContain(bad);
});

test("garbage in place of a snapshot shows nothing and breaks nothing", async () => {
  for (const garbage of [null, 3, "x", {}, { workers: 3 }]) {
    const { el } = await shown(garbage);
    expect(el.querySelectorAll("tbody tr")).toHaveLength(0);
  }
});
