// The line to the kernel: a model of its own, on which the kernel never publishes (`ControlModel` in
// nbcanvas/notebook/widgets.py says why).
import type { AnyModel } from "@anywidget/types";

export interface Spoken {
  snapshot: unknown;
  control: string;
}

/** What anywidget's types leave out of a model of ipywidgets. */
interface ControlModel {
  comm_live: boolean;
  send(content: unknown): void;
  on(event: string, listener: () => void): void;
  off(event: string, listener: () => void): void;
}

/** What takes what the kernel publishes: a `Store`. */
interface Fed {
  take(value: unknown): void;
  connect(connected: boolean): void;
}

const REFERENCE = "IPY_MODEL_";

/** What is said to the kernel: what to do, and with what. */
export type Wish = { do: string } & Record<string, string | number | boolean>;

export class Line {
  constructor(private readonly model: AnyModel<Spoken>) {}

  /** Say something to the kernel; rejects when it cannot be reached. */
  async send(content: Wish): Promise<void> {
    const control = await this.control();
    if (!control.comm_live) throw new Error("the kernel is gone");
    control.send(content);
  }

  /** Call `told` with whether the kernel is there, whenever that changes; returns how to stop it. */
  watch(told: (connected: boolean) => void): () => void {
    let stop = () => {};
    let stopped = false;
    this.control().then(
      (control) => {
        if (stopped) return;
        const listener = () => told(control.comm_live);
        control.on("comm_live_update", listener);
        listener(); // a notebook that was saved with its widgets has models without a kernel
        stop = () => control.off("comm_live_update", listener);
      },
      () => {}, // a run that has ended has no line any more; one that goes on is found out by its silence
    );
    return () => {
      stopped = true;
      stop();
    };
  }

  /** Give a store what the kernel publishes, and whether it is there; returns how to stop that. */
  feed(store: Fed): () => void {
    const take = () => store.take(this.model.get("snapshot"));
    take();
    this.model.on("change:snapshot", take);
    const unwatch = this.watch((connected) => store.connect(connected));
    return () => {
      unwatch();
      this.model.off("change:snapshot", take);
    };
  }

  private control(): Promise<ControlModel> {
    const id = this.model.get("control").slice(REFERENCE.length);
    return this.model.widget_manager.get_model(id) as unknown as Promise<ControlModel>;
  }
}
