// Elements are made once and then kept up to date in place: a selection, the focus and a screen reader keep their place.

export function element<K extends keyof HTMLElementTagNameMap>(tag: K, name: string, text = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.className = `nbc-${name}`;
  made.textContent = text;
  return made;
}

/** Set a text only when it changes: a selection in the page survives. */
export function say(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

/** Plain keys stay here: to JupyterLab, a focused button is command mode, where x cuts the cell. */
export function keepKeys(event: KeyboardEvent): void {
  const passes = event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab";
  if (!passes && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
}
