// The Cancel button.
import { element, say } from "../element";

const HINT = "Revoke every task that has not ended";

export class CancelButton {
  readonly element = element("button", "cancel", "Cancel");
  private pressed = false;

  /** `cancel` tells the kernel; it rejects when the kernel cannot be reached. */
  constructor(private readonly cancel: () => Promise<void>) {
    this.element.type = "button";
    this.element.title = HINT;
    this.element.addEventListener("click", () => void this.press());
  }

  show({ over, connected }: { over: boolean; connected: boolean }): void {
    this.element.hidden = over || !connected;
  }

  /** Not `disabled`: a button that is disabled loses the focus, and with it who uses the keyboard. */
  private set busy(busy: boolean) {
    this.pressed = busy;
    this.element.setAttribute("aria-disabled", String(busy));
    say(this.element, busy ? "Cancelling…" : "Cancel");
  }

  private async press(): Promise<void> {
    if (this.pressed) return;
    this.busy = true;
    this.element.title = "A kernel that takes no clicks while a cell runs will cancel when the cell has ended";
    try {
      await this.cancel();
    } catch {
      this.busy = false;
      this.element.title = "The kernel could not be reached; run.cancel() does the same";
    }
  }
}
