// The queues: how much waits in each, and who takes it.
import { element, say } from "../element";
import { number } from "../live/words";
import type { QueueRow } from "./snapshot";
import { type Column, Row, Table } from "./table";

const COLUMNS: Column[] = [{ head: "queue" }, { head: "messages", numeric: true }, { head: "depth", silent: true }, { head: "taken by" }];
const SHOWN = 4;

export class QueuesTable {
  private longest = 1;
  private readonly table = new Table<QueueRow>(
    COLUMNS,
    (one) => one.name,
    (_, columns) => new Queue(columns, () => this.longest),
    "Queues",
    "No queue is known.",
  );

  get element(): HTMLElement {
    return this.table.element;
  }

  show(queues: QueueRow[], total: number, now: number): void {
    this.longest = Math.max(10, ...queues.map(({ messages }) => messages ?? 0));
    this.table.show(queues, total, now);
  }
}

class Queue extends Row<QueueRow> {
  private readonly bar = element("div", "depth");
  private readonly name = element("bdi", "name");

  constructor(
    columns: Column[],
    private readonly longest: () => number,
  ) {
    super(columns);
    this.cells[0]?.append(this.name);
    const track = element("div", "track");
    track.setAttribute("aria-hidden", "true");
    track.append(this.bar);
    this.cells[2]?.append(track);
  }

  show({ name, messages, workers }: QueueRow): void {
    say(this.name, name);
    this.say(1, messages === null ? "?" : number(messages));
    this.bar.style.width = `${(((messages ?? 0) / this.longest()) * 100).toFixed(1)}%`;
    const rest = workers.length - SHOWN;
    this.say(3, workers.length ? workers.slice(0, SHOWN).join(", ") + (rest > 0 ? ` and ${rest} more` : "") : "nobody");
    this.element.classList.toggle("nbc-alone", workers.length === 0);
  }
}
