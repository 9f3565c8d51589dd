// The live view: a bar for each stage, how long it takes, and a Cancel button.
import { element, keepKeys, say } from "../element";
import type { Store } from "../store";
import { CancelButton } from "./cancel";
import { Row, sayApart } from "./row";
import type { Bar, Snapshot } from "./snapshot";
import { apart, doubt, type Look, look, summary } from "./words";

const CLOCK = 200; // ms between two looks at the clock
const LOST: Look = { glyph: "⊗", kind: "waiting", word: "lost" };
const SPOKEN = 5000; // ms between two sentences to a screen reader

export class View {
  readonly element = element("div", "live");
  private rows = new Map<string, Row>();
  private readonly list = element("div", "rows");
  private readonly state = element("b", "state");
  private readonly said = element("span", "said");
  private readonly doubt = element("span", "doubt");
  private readonly spoken = element("div", "spoken");
  private readonly button: CancelButton;
  private readonly stop: () => void;
  private lastSpoken = Number.NEGATIVE_INFINITY;
  private lastDoubt = "";
  private home: HTMLElement | null = null;

  /** `cancel` tells the kernel to cancel; it rejects when the kernel cannot be reached. */
  constructor(
    private readonly store: Store<Snapshot>,
    cancel: () => Promise<void>,
  ) {
    this.button = new CancelButton(cancel);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "canvas");
    this.list.setAttribute("role", "list");
    this.spoken.setAttribute("aria-live", "polite");
    const foot = element("div", "foot");
    const sum = element("span", "sum");
    sum.append(this.state, this.said, this.doubt);
    foot.append(sum, this.button.element);
    this.element.append(this.list, foot, this.spoken);
    this.element.addEventListener("keydown", keepKeys);
    this.element.addEventListener("focusin", () => {
      this.home = this.element.closest<HTMLElement>(".jp-Notebook");
    });
    this.element.addEventListener("focusout", (event) => {
      if (event.relatedTarget) this.home = null; // it went on; when the view goes, it goes nowhere
    });
    const unfollow = store.follow(() => this.show());
    const clock = setInterval(() => this.tick(), CLOCK);
    this.stop = () => {
      unfollow();
      clearInterval(clock);
    };
    this.show();
  }

  /** The view goes: nothing moves any more, and who had the focus in it gets it in the notebook. */
  close(): void {
    this.stop();
    if (document.activeElement === document.body) this.home?.focus();
  }

  private show(): void {
    const { snapshot, over, connected } = this.store;
    this.button.show({ over, connected });
    if (!snapshot) return;
    this.showRows(snapshot.bars);
    this.element.setAttribute("aria-label", snapshot.name ? `run ${snapshot.name}` : "canvas");
    this.tick();
  }

  /** Each stage keeps its row when others come between: a bar glides only from what it was itself. */
  private showRows(bars: Bar[]): void {
    const rows = new Map<string, Row>();
    bars.forEach((bar, place) => {
      const stage = [bar.task, bar.role, bar.depth].join("\n");
      let key = stage;
      for (let nth = 2; rows.has(key); nth++) key = `${stage}\n${nth}`;
      const row = this.rows.get(key) ?? new Row();
      rows.set(key, row);
      row.show(bar);
      const there = this.list.children[place];
      if (there !== row.element) this.list.insertBefore(row.element, there ?? null);
    });
    while (this.list.children.length > bars.length) this.list.lastElementChild?.remove();
    this.rows = rows;
  }

  /** Let time pass. */
  private tick(): void {
    this.store.listen();
    const { snapshot, over, age, connected, silent } = this.store;
    if (!snapshot) return;
    const lost = !connected && !over;
    const doubted = over ? "" : doubt(connected, silent, age);
    this.element.classList.toggle("nbc-doubted", doubted !== "");
    say(this.doubt, doubted);
    const { glyph, kind, word } = lost ? LOST : look(snapshot.state);
    this.state.className = `nbc-state nbc-${kind}`;
    say(this.state, `${glyph} ${word}`);
    const words = lost ? summary({ ...snapshot, rate: null, left: null, running: 0 }, 0) : summary(snapshot, age);
    sayApart(this.said, words, apart(snapshot));
    this.speak(snapshot, word, words, doubted);
  }

  /** Tell a screen reader, rarely; what may be wrong at once, but without its clock. */
  private speak(snapshot: Snapshot, word: string, words: string[], doubted: string): void {
    const now = performance.now();
    const news = (doubted !== "") !== (this.lastDoubt !== "") || snapshot.over;
    if (!news && (doubted || now - this.lastSpoken < SPOKEN)) return;
    this.lastSpoken = now;
    this.lastDoubt = doubted;
    const troubles = apart(snapshot).map(({ text }) => text);
    say(this.spoken, [word, words[0], ...troubles, ...(doubted ? [doubted] : [])].join(", "));
  }
}
