// What the kernel sends: `BarsModel` of nbcanvas/picture/bars.py as JSON, with a growing number and a few words more
// (`LiveView` in nbcanvas/notebook/live.py). Each is complete; none builds on another.

/** How far a bar, or the whole run, is. */
interface Progress {
  state: string;
  total: number;
  done: number;
  failed: number;
  revoked: number;
  ignored: number;
  retried: number;
  running: number;
  fraction: number;
}

export interface Bar extends Progress {
  label: string;
  task: string;
  role: string;
  depth: number;
  tasks: number;
  sent: number;
  unit: string;
  waiting_for: string;
}

export interface Snapshot extends Progress {
  bars: Bar[];
  /** Ended before the run began: what a rerun has from an earlier one. */
  kept: number;
  elapsed: number;
  rate: number | null;
  left: number | null;
  /** Grows with each snapshot of a run. */
  seq: number;
  /** The run's name; an empty string when it has none. */
  name: string;
  /** Whether the run has ended. */
  over: boolean;
  /** Seconds after which the kernel speaks again even if nothing happened. */
  every: number;
}

export function isSnapshot(value: unknown): value is Snapshot {
  return typeof value === "object" && value !== null && Array.isArray((value as Snapshot).bars);
}
