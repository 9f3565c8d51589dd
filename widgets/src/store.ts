// What this page knows of a run, or of a cluster, for all its views: the newest snapshot, when it was heard, whether the kernel is there.
//
// A snapshot is complete, so one that is lost is made good by the next one, and one that comes late or twice is ignored.
// The kernel speaks every few seconds even if nothing happens; when it does not, the views say so, and it is asked once.

/** What every snapshot has. */
export interface Complete {
  /** Grows with each snapshot. */
  seq: number;
  /** Whether nothing more will come. */
  over: boolean;
  /** Seconds after which the kernel speaks again even if nothing happened. */
  every: number;
}

/** So many times the kernel may miss its turn before the views say that it is silent. */
const PATIENCE = 2.5;

export class Store<Snapshot extends Complete> {
  snapshot: Snapshot | undefined;
  /** Whether there is a kernel behind it, as far as the page was told. */
  connected = true;
  private readonly followers = new Set<() => void>();
  private heard: number;
  private asked = false;

  /** `is` knows a snapshot, `ask` asks the kernel to speak, `now` is a clock in milliseconds. */
  constructor(
    private readonly is: (value: unknown) => value is Snapshot,
    private readonly ask: () => void,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.heard = now();
  }

  take(value: unknown): void {
    if (!this.is(value) || (this.snapshot && value.seq <= this.snapshot.seq)) return;
    this.snapshot = value;
    this.heard = this.now();
    this.asked = false;
    this.connected = true;
    this.tell();
  }

  connect(connected: boolean): void {
    if (connected === this.connected) return;
    this.connected = connected;
    this.tell();
  }

  get over(): boolean {
    return this.snapshot?.over ?? false;
  }

  /** Seconds since the newest snapshot came; one that is over grows no older. */
  get age(): number {
    return this.over ? 0 : (this.now() - this.heard) / 1000;
  }

  /** Whether the kernel has said nothing for longer than it should. */
  get silent(): boolean {
    return this.age > PATIENCE * (this.snapshot?.every ?? 1);
  }

  /** Ask a kernel that is silent to speak: once for each silence. */
  listen(): void {
    if (!this.silent || this.asked || !this.connected) return;
    this.asked = true;
    this.ask();
  }

  /** Call `follower` whenever something new is known; returns how to stop it. */
  follow(follower: () => void): () => void {
    this.followers.add(follower);
    return () => void this.followers.delete(follower);
  }

  private tell(): void {
    for (const follower of this.followers) follower();
  }
}
