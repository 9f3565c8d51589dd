// The Cluster view: workers, queues, and the tasks that workers have; with what one can do about them.
import { element, keepKeys, say } from "../element";
import { clock, number } from "../live/words";
import type { Store } from "../store";
import { Button, type Tell } from "./button";
import { Jobs } from "./jobs";
import { Limits } from "./limits";
import { QueuesTable } from "./queues";
import type { Snapshot } from "./snapshot";
import { workersTable } from "./workers";

const CLOCK = 1000; // ms between two looks at the clock

export class View {
  readonly element = element("div", "cluster");
  private readonly server = element("b", "server");
  private readonly sum = element("span", "sum");
  private readonly doubt = element("span", "doubt");
  private readonly trouble = element("div", "trouble");
  private readonly said = element("div", "said");
  private readonly stopButton: Button;
  private readonly workers;
  private readonly queues = new QueuesTable();
  private readonly jobs: Jobs;
  private readonly limits: Limits;
  private readonly stop: () => void;
  private heardOf = 0;

  /** `tell` tells the kernel; it rejects when the kernel cannot be reached. */
  constructor(
    private readonly store: Store<Snapshot>,
    tell: Tell,
  ) {
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Cluster");
    this.stopButton = new Button("Stop", "Stop watching; a still picture stays", () => tell({ do: "stop" }));
    this.workers = workersTable(tell);
    this.jobs = new Jobs(tell);
    this.limits = new Limits(tell);
    this.said.setAttribute("role", "status");
    this.trouble.setAttribute("role", "alert");
    const top = element("div", "top");
    const words = element("span", "words");
    words.append(this.server, this.sum, this.doubt);
    top.append(words, this.stopButton.element);
    this.element.append(
      top,
      this.trouble,
      element("div", "title", "Workers"),
      this.workers.element,
      element("div", "title", "Queues"),
      this.queues.element,
      this.jobs.element,
      this.limits.element,
      this.said,
    );
    this.element.addEventListener("keydown", keepKeys);
    const unfollow = store.follow(() => this.show());
    const ticking = setInterval(() => this.show(), CLOCK);
    this.stop = () => {
      unfollow();
      clearInterval(ticking);
    };
    this.show();
  }

  close(): void {
    this.stop();
  }

  private show(): void {
    this.store.listen();
    const { snapshot, over, connected, silent, age } = this.store;
    this.stopButton.element.hidden = over || !connected;
    this.element.classList.toggle("nbc-over", over || !connected);
    if (!snapshot) return;
    const now = snapshot.at + age;
    const { totals } = snapshot;
    say(this.server, snapshot.server);
    say(this.sum, summary(snapshot));
    const doubted = !connected ? "the kernel is gone" : silent && !over ? `as it was ${clock(age)} ago` : over ? "stopped" : "";
    say(this.doubt, doubted);
    say(this.trouble, snapshot.trouble);
    this.trouble.hidden = !snapshot.trouble;
    this.element.classList.toggle("nbc-doubted", doubted !== "" || snapshot.trouble !== "");
    this.workers.show(snapshot.workers, totals.workers + totals.silent, now);
    this.queues.show(snapshot.queues, totals.queues, now);
    this.jobs.show(snapshot, now);
    this.limits.show(snapshot.tasks);
    if (snapshot.said.number !== this.heardOf) {
      this.heardOf = snapshot.said.number;
      this.said.className = `nbc-said ${snapshot.said.ok ? "nbc-success" : "nbc-failure"}`;
      say(this.said, snapshot.said.text && `${snapshot.said.ok ? "✓" : "✗"} ${snapshot.said.text}`);
    }
  }
}

export function summary({ totals }: Snapshot): string {
  const many = (count: number, word: string) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
  const said = [totals.workers ? many(totals.workers, "worker") : "no worker answers"];
  if (totals.silent) said.push(`${number(totals.silent)} silent`);
  if (totals.workers) said.push(`${number(totals.active)} of ${many(totals.slots, "slot")} busy`);
  said.push(`${many(totals.messages, "message")} waiting`);
  return said.join(" · ");
}
