// What the kernel sends: `BarsModel` of nbcanvas/picture/bars.py as JSON, with a growing number and the run's name.

export interface Bar {
  label: string;
  task: string;
  role: string;
  depth: number;
  tasks: number;
  total: number;
  done: number;
  failed: number;
  revoked: number;
  retried: number;
  running: number;
  sent: number;
  fraction: number;
  state: string;
  unit: string;
  waiting_for: string;
}

export interface Snapshot {
  bars: Bar[];
  state: string;
  total: number;
  done: number;
  failed: number;
  revoked: number;
  retried: number;
  running: number;
  fraction: number;
  elapsed: number;
  rate: number | null;
  left: number | null;
  seq: number;
  name: string;
}
