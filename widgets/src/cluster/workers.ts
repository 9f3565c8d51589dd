// The workers: how busy each is, what it takes from, and the size of its pool.
import { element, say } from "../element";
import { number } from "../live/words";
import { Button, type Tell } from "./button";
import type { WorkerRow } from "./snapshot";
import { type Column, Row, Table } from "./table";

const COLUMNS: Column[] = [
  { head: "worker" },
  { head: "busy" },
  { head: "reserved", numeric: true },
  { head: "scheduled", numeric: true },
  { head: "takes from" },
];

const said = (count: number | null) => (count === null ? "" : number(count));

export function workersTable(tell: Tell): Table<WorkerRow> {
  return new Table(
    COLUMNS,
    (one) => one.name,
    (one, columns) => new Worker(one, columns, tell),
    "Workers",
    "No worker answers: what is sent waits until one is there.",
  );
}

class Worker extends Row<WorkerRow> {
  private readonly dot = element("span", "dot");
  private readonly kind = element("span", "kind");
  private readonly meter = element("div", "meter");
  private readonly fill = element("div", "fill nbc-fill-running");
  private readonly busy = element("span", "busy");
  private readonly queues: Queues;
  private readonly pool = element("span", "pool");

  constructor(first: WorkerRow, columns: Column[], tell: Tell) {
    super(columns);
    const worker = first.name;
    this.dot.setAttribute("aria-hidden", "true");
    this.meter.setAttribute("role", "meter");
    this.meter.setAttribute("aria-label", `${worker}: slots that are busy`);
    this.meter.setAttribute("aria-valuemin", "0");
    this.meter.append(this.fill);
    const name = element("bdi", "name", worker);
    this.cells[0]?.append(this.dot, name, this.kind);
    const busy = element("div", "busyness");
    busy.append(this.meter, this.busy, this.pool);
    this.cells[1]?.append(busy);
    this.queues = new Queues(worker, tell);
    this.cells[4]?.append(this.queues.element);
    const shrink = new Button("−", `Take a slot from the pool of ${worker}`, () => tell({ do: "shrink", worker }));
    const grow = new Button("+", `Add a slot to the pool of ${worker}`, () => tell({ do: "grow", worker }));
    this.pool.append(shrink.element, grow.element);
  }

  show(one: WorkerRow): void {
    this.element.classList.toggle("nbc-silent", one.silent);
    this.dot.className = `nbc-dot ${one.silent ? "nbc-failure" : "nbc-success"}`;
    say(this.dot, one.silent ? "○" : "●");
    const done = one.processed === null ? "" : `${number(one.processed)} taken`;
    const facts = [one.kind, one.pool, one.uptime && `up ${one.uptime}`, done].filter(Boolean);
    say(this.kind, one.silent ? "no answer" : facts.join(" · "));
    const slots = one.slots ?? 0;
    const active = one.active ?? 0;
    this.fill.style.width = `${slots ? (Math.min(active / slots, 1) * 100).toFixed(1) : 0}%`;
    this.meter.setAttribute("aria-valuemax", String(slots));
    this.meter.setAttribute("aria-valuenow", String(Math.min(active, slots)));
    this.meter.setAttribute("aria-valuetext", `${active} of ${slots}`);
    this.meter.hidden = one.silent;
    say(this.busy, one.silent ? "" : `${said(one.active)} of ${said(one.slots)}`);
    this.say(2, said(one.reserved));
    this.say(3, said(one.scheduled));
    this.queues.show(one.queues, one.silent);
    this.pool.hidden = one.silent || one.slots === null;
  }
}

/** The queues a worker takes from, each with a way to end that, and a field for one more. */
class Queues {
  readonly element = element("div", "queues");
  private readonly chips = new Map<string, HTMLElement>();
  private readonly field = element("input", "field");
  private readonly add: Button;

  constructor(
    private readonly worker: string,
    private readonly tell: Tell,
  ) {
    this.field.type = "text";
    this.field.placeholder = "add a queue";
    this.field.size = 8;
    this.field.setAttribute("aria-label", `A queue that ${worker} is to take from too`);
    this.add = new Button("Add", `Let ${worker} take from this queue too`, () => this.more());
    const form = element("form", "adds");
    form.append(this.field, this.add.element);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.more();
    });
    this.element.append(form);
  }

  private async more(): Promise<void> {
    const queue = this.field.value.trim();
    this.add.free();
    if (!queue) {
      this.field.focus();
      return;
    }
    this.field.value = "";
    await this.tell({ do: "add", worker: this.worker, queue });
  }

  show(queues: string[], silent: boolean): void {
    this.element.hidden = silent;
    for (const [queue, chip] of this.chips) {
      if (queues.includes(queue)) continue;
      chip.remove();
      this.chips.delete(queue);
    }
    for (const queue of queues) {
      if (this.chips.has(queue)) continue;
      const { worker } = this;
      const chip = element("span", "chip");
      const label = `Let ${worker} take from ${queue} no more`;
      const end = new Button("×", label, () => this.tell({ do: "cancel", worker, queue }), true);
      chip.append(element("bdi", "queue", queue), end.element);
      this.chips.set(queue, chip);
      this.element.insertBefore(chip, this.element.lastElementChild);
    }
  }
}
