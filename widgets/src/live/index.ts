// The live view of a run: a bar for each stage, how long it takes, and a Cancel button.
//
// A snapshot is complete, so there is nothing to lose: whatever arrives late is older than what is shown, and ignored.
// Between snapshots only the clock moves. When the run ends the kernel puts a still in this view's place.
import type { AnyModel, Render } from "@anywidget/types";
import { cancelButton } from "./cancel";
import { element, Row, say, sayApart } from "./row";
import type { Snapshot } from "./snapshot";
import { apart, look, summary } from "./words";
import "./live.css";

export interface LiveModel {
  snapshot: Snapshot | Record<string, never>;
  cancel_model: string;
}

const CLOCK = 200; // ms
const SPOKEN = 5000; // ms between two sentences to a screen reader

class View {
  readonly element = element("div", "live");
  private readonly rows: Row[] = [];
  private readonly list = element("div", "rows");
  private readonly state = element("b", "state");
  private readonly said = element("span", "said");
  private readonly spoken = element("div", "spoken");
  private snapshot: Snapshot | undefined;
  private received = 0;
  private lastSpoken = Number.NEGATIVE_INFINITY;

  constructor(button: HTMLButtonElement) {
    this.element.setAttribute("role", "group");
    this.spoken.setAttribute("aria-live", "polite");
    const foot = element("div", "foot");
    foot.append(this.state, this.said, button);
    this.element.append(this.list, foot, this.spoken);
    this.element.addEventListener("keydown", keepKeys);
  }

  take(snapshot: Snapshot | Record<string, never>): void {
    if (!isSnapshot(snapshot) || (this.snapshot && snapshot.seq <= this.snapshot.seq)) return;
    this.snapshot = snapshot;
    this.received = performance.now();
    while (this.rows.length > snapshot.bars.length) this.rows.pop()?.element.remove();
    snapshot.bars.forEach((bar, place) => {
      let row = this.rows[place];
      if (!row) {
        row = this.rows[place] = new Row();
        this.list.append(row.element);
      }
      row.show(bar);
    });
    const { glyph, kind, word } = look(snapshot.state);
    this.state.className = `nbc-state nbc-${kind}`;
    say(this.state, `${glyph} ${word}`);
    this.element.setAttribute("aria-label", snapshot.name ? `run ${snapshot.name}` : "canvas");
    this.tick();
  }

  /** Let time pass. */
  tick(): void {
    if (!this.snapshot) return;
    const now = performance.now();
    const words = summary(this.snapshot, (now - this.received) / 1000);
    const troubles = apart(this.snapshot);
    sayApart(this.said, words, troubles);
    if (now - this.lastSpoken >= SPOKEN) {
      this.lastSpoken = now;
      say(this.spoken, [look(this.snapshot.state).word, words[0], ...troubles.map(({ text }) => text)].join(", "));
    }
  }
}

function isSnapshot(value: Snapshot | Record<string, never>): value is Snapshot {
  return Array.isArray(value["bars"]);
}

/** Plain keys stay here: to JupyterLab, a focused button is command mode, where x cuts the cell. */
function keepKeys(event: KeyboardEvent): void {
  const passes = event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab";
  if (!passes && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
}

const render: Render<LiveModel> = ({ model, el }: { model: AnyModel<LiveModel>; el: HTMLElement }) => {
  const view = new View(cancelButton(model));
  const follow = () => view.take(model.get("snapshot"));
  follow();
  el.append(view.element);
  model.on("change:snapshot", follow);
  const clock = setInterval(() => view.tick(), CLOCK);
  return () => {
    clearInterval(clock);
    model.off("change:snapshot", follow);
  };
};

export default { render };
