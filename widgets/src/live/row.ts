// One stage: made once, then kept up to date in place, so that bars glide and a screen reader keeps its place.
import { element, say } from "../element";
import type { Bar } from "./snapshot";
import { apart, counts, howFar, look, ROLES } from "./words";

const PARTS = ["success", "failure", "revoked", "ignored", "progress", "running"] as const;
const DEEPEST = 12;

/** Texts of several colours, with dots between. */
export function sayApart(target: HTMLElement, plain: string[], coloured: { kind: string; text: string }[]): void {
  const wanted = [...plain.map((text) => ({ kind: "plain", text })), ...coloured];
  while (target.children.length > wanted.length) target.lastElementChild?.remove();
  wanted.forEach(({ kind, text }, place) => {
    const found = target.children[place] as HTMLElement | undefined;
    const part = found ?? target.appendChild(element("span", "part"));
    part.className = `nbc-part nbc-${kind}`;
    say(part, text);
  });
}

export class Row {
  readonly element = element("div", "row");
  private readonly glyph = element("span", "glyph");
  private readonly label = element("span", "label");
  private readonly indent = element("span", "indent");
  private readonly name = element("bdi", "name");
  private readonly role = element("span", "role");
  private readonly meter = element("div", "meter");
  private readonly parts = PARTS.map((name) => element("div", `fill nbc-fill-${name}`));
  private readonly numbers = element("span", "numbers");

  constructor() {
    this.element.setAttribute("role", "listitem");
    this.glyph.setAttribute("aria-hidden", "true");
    this.meter.setAttribute("role", "progressbar");
    this.meter.setAttribute("aria-valuemin", "0");
    this.meter.setAttribute("aria-valuemax", "100");
    this.meter.append(...this.parts);
    this.label.append(this.indent, this.name, this.role);
    this.element.append(this.glyph, this.label, this.meter, this.numbers);
  }

  show(bar: Bar): void {
    const { glyph, kind, word } = look(bar.state);
    const role = ROLES[bar.role];
    const depth = Math.min(bar.depth, DEEPEST);
    this.element.dataset["state"] = bar.state;
    this.element.setAttribute("aria-level", String(depth + 1));
    this.element.title = `${bar.task || bar.label}: ${[word, howFar(bar), ...counts(bar)].join(", ")}`;
    this.glyph.className = `nbc-glyph nbc-${kind}`;
    say(this.glyph, glyph);
    this.indent.style.setProperty("--nbc-depth", String(depth));
    say(this.name, `${role?.glyph ?? ""}${bar.label}`);
    say(this.role, role?.word ?? "");
    this.showMeter(bar);
    this.meter.setAttribute("aria-label", role ? `${bar.label}, ${role.word}` : bar.label);
    this.meter.setAttribute("aria-valuenow", String(Math.floor(bar.fraction * 100)));
    this.meter.setAttribute("aria-valuetext", `${word}, ${howFar(bar)}`);
    sayApart(this.numbers, [howFar(bar)], apart(bar));
  }

  private showMeter(bar: Bar): void {
    const total = Math.max(bar.total, 1);
    const ends = [bar.done / total, bar.failed / total, bar.revoked / total, bar.ignored / total];
    const over = ends.reduce((sum, share) => sum + share, 0);
    const progress = Math.max(bar.fraction - over, 0);
    const running = Math.min(bar.running / Math.max(bar.tasks, 1), Math.max(1 - over - progress, 0));
    [...ends, progress, running].forEach((share, place) => {
      const part = this.parts[place];
      if (part) part.style.width = `${(share * 100).toFixed(2)}%`;
    });
  }
}
