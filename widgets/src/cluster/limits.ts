// Rate limits: which there are, and a form to change one.
import { element, say } from "../element";
import { Button, type Tell } from "./button";

let forms = 0;

export class Limits {
  readonly element = element("form", "limits");
  private readonly task = element("input", "field nbc-task");
  private readonly limit = element("input", "field");
  private readonly names = element("datalist", "tasks");
  private readonly there = element("span", "there");
  private readonly button: Button;
  private known = "";

  constructor(private readonly tell: Tell) {
    this.names.id = `nbc-tasks-${++forms}`;
    this.task.setAttribute("list", this.names.id);
    this.task.setAttribute("aria-label", "Task whose rate is limited");
    this.task.placeholder = "task";
    this.limit.setAttribute("aria-label", "Rate limit, such as 10/m; 0 takes it away");
    this.limit.placeholder = "10/m";
    this.limit.size = 6;
    this.button = new Button("Set", "Set the rate limit of this task on all workers", () => this.set());
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.set();
    });
    this.element.append(element("span", "word", "Rate limit"), this.task, this.limit, this.button.element, this.names, this.there);
  }

  private async set(): Promise<void> {
    const task = this.task.value.trim();
    const limit = this.limit.value.trim();
    this.button.free();
    if (!task || !limit) {
      (task ? this.limit : this.task).focus();
      return;
    }
    await this.tell({ do: "limit", task, limit });
  }

  show(tasks: [string, string][]): void {
    this.element.hidden = tasks.length === 0;
    const known = tasks.map(([name]) => name).join("\n");
    if (known !== this.known) {
      this.known = known;
      this.names.replaceChildren(...tasks.map(([name]) => Object.assign(document.createElement("option"), { value: name })));
    }
    const limited = tasks.filter(([, limit]) => limit);
    say(this.there, limited.map(([name, limit]) => `${name} ${limit}`).join(" · "));
  }
}
