// What runs, what is reserved and what is scheduled: a tab each.
import { element, say } from "../element";
import { clock, number } from "../live/words";
import { Button, type Tell } from "./button";
import type { JobRow, JobState, Snapshot } from "./snapshot";
import { type Column, Row, Table } from "./table";

const STATES: { state: JobState; tab: string; when: string; none: string }[] = [
  { state: "active", tab: "Active", when: "for", none: "Nothing runs." },
  { state: "reserved", tab: "Reserved", when: "", none: "Nothing is reserved." },
  { state: "scheduled", tab: "Scheduled", when: "in", none: "Nothing is scheduled." },
];

let views = 0;

export class Jobs {
  readonly element = element("div", "jobs");
  private readonly parts: { state: JobState; tab: HTMLButtonElement; panel: HTMLElement; table: Table<JobRow>; label: string }[];
  private readonly tabs = element("div", "tabs");
  private chosen: JobState = "active";

  constructor(tell: Tell) {
    const view = ++views;
    this.tabs.setAttribute("role", "tablist");
    this.tabs.setAttribute("aria-label", "Tasks that workers have");
    this.parts = STATES.map(({ state, tab: label, when, none }) => {
      const tab = element("button", "tab", label);
      tab.type = "button";
      tab.id = `nbc-tab-${view}-${state}`;
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => this.choose(state));
      const columns: Column[] = [{ head: "task" }, { head: "worker" }, { head: "queue" }];
      columns.push({ head: when || "id", numeric: when !== "", silent: false }, { head: "what to do", silent: true });
      const table = new Table<JobRow>(columns, (job) => job.id, (job, made) => new Job(job, made, tell), label, none);
      const panel = element("div", "panel");
      panel.id = `nbc-panel-${view}-${state}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      panel.tabIndex = 0;
      panel.append(table.element);
      tab.setAttribute("aria-controls", panel.id);
      return { state, tab, panel, table, label };
    });
    this.tabs.append(...this.parts.map(({ tab }) => tab));
    this.tabs.addEventListener("keydown", (event) => this.key(event));
    this.element.append(this.tabs, ...this.parts.map(({ panel }) => panel));
    this.choose("active");
  }

  private key(event: KeyboardEvent): void {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = this.parts.findIndex(({ state }) => state === this.chosen);
    const next = this.parts[(at + step + this.parts.length) % this.parts.length];
    if (!next) return;
    event.preventDefault();
    this.choose(next.state);
    next.tab.focus();
  }

  private choose(chosen: JobState): void {
    this.chosen = chosen;
    for (const { state, tab, panel } of this.parts) {
      const here = state === chosen;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
      panel.hidden = !here;
    }
  }

  show(snapshot: Snapshot, now: number): void {
    for (const { state, tab, table, label } of this.parts) {
      const total = snapshot.totals[state];
      say(tab, `${label} ${number(total)}`);
      table.show(
        snapshot.jobs.filter((job) => job.state === state),
        total,
        now,
      );
    }
  }
}

class Job extends Row<JobRow> {
  private readonly call = element("code", "call");
  private readonly id: string;

  constructor(job: JobRow, columns: Column[], tell: Tell) {
    super(columns);
    this.id = job.id;
    this.call.title = `${job.name}\n${job.id}`;
    this.cells[0]?.append(this.call);
    const runs = job.state === "active";
    const label = `${runs ? "Terminate" : "Revoke"} ${job.short} ${job.id.slice(0, 8)}`;
    const wish = { do: "revoke", id: job.id, terminate: runs };
    this.cells[4]?.append(new Button(runs ? "Terminate" : "Revoke", label, () => tell(wish), runs).element);
    this.cells[4]?.classList.add("nbc-acts");
  }

  show(job: JobRow, now: number): void {
    say(this.call, job.call);
    this.say(1, job.worker);
    this.say(2, job.queue);
    if (job.state === "reserved") this.say(3, this.id.slice(0, 8));
    else if (job.moment === null) this.say(3, "");
    else this.say(3, clock(Math.max(job.state === "active" ? now - job.moment : job.moment - now, 0)));
  }
}
