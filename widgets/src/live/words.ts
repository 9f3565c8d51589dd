// How states, numbers and times are said: the same as in the still (nbcanvas/picture/markup.py and bars.py).
import type { Bar, Snapshot } from "./snapshot";

export interface Look {
  word: string;
  glyph: string;
  /** The class that gives it its colour. */
  kind: string;
}

const LOOKS: Record<string, Look> = {
  SUCCESS: { word: "succeeded", glyph: "✓", kind: "success" },
  FAILURE: { word: "failed", glyph: "✗", kind: "failure" },
  REVOKED: { word: "revoked", glyph: "⊘", kind: "revoked" },
  REJECTED: { word: "rejected", glyph: "⊗", kind: "revoked" },
  IGNORED: { word: "ignored", glyph: "∅", kind: "waiting" },
  PROGRESS: { word: "running", glyph: "▶", kind: "running" },
  STARTED: { word: "running", glyph: "▶", kind: "running" },
  RETRY: { word: "waiting to retry", glyph: "↻", kind: "retry" },
  RECEIVED: { word: "received", glyph: "●", kind: "sent" },
  SENT: { word: "sent", glyph: "→", kind: "sent" },
};
const WAITING: Look = { word: "waiting", glyph: "○", kind: "waiting" };

export const look = (state: string): Look => LOOKS[state] ?? WAITING;

export const ROLES: Record<string, { glyph: string; word: string }> = {
  link: { glyph: "↳ ", word: "link" },
  errback: { glyph: "⚠ ", word: "errback" },
  replacement: { glyph: "⇢ ", word: "replacement" },
  child: { glyph: "+ ", word: "started by a task" },
};

/** A whole number, with its thousands apart from ten thousand on. */
export function number(count: number): string {
  const digits = Math.round(count).toString();
  return Math.abs(count) >= 10_000 ? digits.replace(/\B(?=(\d{3})+$)/g, "\u202f") : digits;
}

/** Seconds as a person would say them. */
export function duration(seconds: number): string {
  if (seconds < 0.001) return "<1 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 119.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880
    ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
    : `${Math.floor(minutes / 1440)} days`;
}

/** How far a stage is: `63/100`. */
export function howFar(bar: Bar): string {
  if (bar.waiting_for) return bar.waiting_for;
  return `${number(bar.done)}/${number(bar.total)}${bar.unit === "item" ? " items" : ""}`;
}

/** What did not go smoothly, each with the class of its colour. */
export function apart(of: Bar | Snapshot): { kind: string; text: string }[] {
  return [
    { count: of.failed, kind: "failure", glyph: "✗", word: "failed" },
    { count: of.revoked, kind: "revoked", glyph: "⊘", word: "revoked" },
    { count: of.ignored, kind: "waiting", glyph: "∅", word: "ignored or rejected" },
    { count: of.retried, kind: "retry", glyph: "↻", word: "retried" },
  ]
    .filter(({ count }) => count > 0)
    .map(({ count, kind, glyph, word }) => ({ kind, text: `${glyph} ${number(count)} ${word}` }));
}

/** How many calls are doing what, for who wants to know exactly. */
export function counts(bar: Bar): string[] {
  return [
    { count: bar.running, word: "at work" },
    { count: bar.sent, word: "on their way" },
    { count: bar.failed, word: "failed" },
    { count: bar.revoked, word: "revoked" },
    { count: bar.ignored, word: "ignored or rejected" },
    { count: bar.retried, word: "retried" },
  ]
    .filter(({ count }) => count > 0)
    .map(({ count, word }) => `${number(count)} ${word}`);
}

/** A clock that is watched: seconds are told up to two hours. */
export function clock(seconds: number): string {
  if (seconds < 119.5 || seconds >= 7200) return duration(seconds);
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** The run in a few words, `since` seconds after the snapshot was made. */
export function summary(snapshot: Snapshot, since: number): string[] {
  const elapsed = snapshot.elapsed + since;
  const said = [`${number(snapshot.done)} of ${number(snapshot.total)} task${snapshot.total === 1 ? "" : "s"}`];
  if (snapshot.kept > 0) said.push(`${number(snapshot.kept)} kept`);
  if (snapshot.running > 0) said.push(`${number(snapshot.running)} at work`);
  said.push(clock(elapsed));
  if (snapshot.rate !== null) {
    const rate = (snapshot.rate * snapshot.elapsed) / elapsed; // it falls while nothing ends
    said.push(`${rate >= 10 ? number(rate) : rate.toFixed(1)}/s`);
  }
  const left = snapshot.left === null ? 0 : snapshot.left - since;
  if (left > 0) said.push(left < 0.95 ? "under 1 s left" : `about ${clock(left)} left`);
  return said;
}

/** Why the view may be wrong, or an empty string. */
export function doubt(connected: boolean, silent: boolean, since: number): string {
  if (!connected) return "the kernel is gone: what ran in it has ended with it";
  return silent ? `no word from the kernel for ${clock(since)}` : "";
}
