// Buttons that tell the kernel something; what cannot be undone asks first, in the button itself.
import { element, say } from "../element";

const SURE = 4000; // ms in which a second click means it
const BUSY = 3000; // ms after which a click that nobody answered can be repeated

/** Tells the kernel; rejects when it cannot be reached. */
export type Tell = (wish: { do: string } & Record<string, string | number | boolean>) => Promise<void>;

export class Button {
  readonly element = element("button", "button");
  private asked = 0;
  private busy = 0;

  constructor(
    private text: string,
    private label: string,
    private readonly act: () => Promise<void>,
    private readonly asks = false,
  ) {
    this.element.type = "button";
    this.rest();
    this.element.addEventListener("click", () => void this.press());
  }

  /** What it is called now. */
  name(text: string, label: string): void {
    if (this.text === text && this.label === label) return;
    this.text = text;
    this.label = label;
    if (!this.asked && !this.busy) this.rest();
  }

  private rest(): void {
    clearTimeout(this.asked);
    this.asked = 0;
    say(this.element, this.text);
    this.element.setAttribute("aria-label", this.label);
    this.element.title = this.label;
    this.element.classList.remove("nbc-asks");
  }

  private ask(): void {
    say(this.element, "Sure?");
    this.element.setAttribute("aria-label", `Sure? ${this.label}`);
    this.element.classList.add("nbc-asks");
    this.asked = setTimeout(() => this.rest(), SURE) as unknown as number;
  }

  private async press(): Promise<void> {
    if (this.busy) return;
    if (this.asks && !this.asked) {
      this.ask();
      return;
    }
    this.rest();
    // Not `disabled`: a button that is disabled loses the focus, and with it who uses the keyboard.
    this.element.setAttribute("aria-disabled", "true");
    this.busy = setTimeout(() => this.free(), BUSY) as unknown as number;
    try {
      await this.act();
    } catch {
      this.free();
      this.element.title = "The kernel could not be reached";
    }
  }

  free(): void {
    clearTimeout(this.busy);
    this.busy = 0;
    this.element.removeAttribute("aria-disabled");
  }
}
