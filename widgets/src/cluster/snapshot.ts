// What the kernel sends: `ClusterModel` of nbcanvas/picture/cluster.py as JSON, with a growing number and what a
// command came to (`ClusterView` in nbcanvas/notebook/cluster.py). Each is complete; none builds on another.
import type { Complete } from "../store";

export interface WorkerRow {
  name: string;
  kind: string;
  pool: string;
  slots: number | null;
  active: number | null;
  reserved: number | null;
  scheduled: number | null;
  processed: number | null;
  queues: string[];
  uptime: string;
  silent: boolean;
}

export interface QueueRow {
  name: string;
  messages: number | null;
  workers: string[];
}

export type JobState = "active" | "reserved" | "scheduled";

export interface JobRow {
  id: string;
  name: string;
  short: string;
  call: string;
  worker: string;
  queue: string;
  state: JobState;
  moment: number | null;
}

export interface Said {
  /** Grows with each word. */
  number: number;
  text: string;
  ok: boolean;
}

export interface Snapshot extends Complete {
  server: string;
  at: number;
  trouble: string;
  workers: WorkerRow[];
  queues: QueueRow[];
  jobs: JobRow[];
  totals: Record<"workers" | "silent" | "slots" | "queues" | "messages" | JobState, number>;
  tasks: [name: string, limit: string][];
  said: Said;
}

export function isSnapshot(value: unknown): value is Snapshot {
  return typeof value === "object" && value !== null && Array.isArray((value as Snapshot).workers);
}
