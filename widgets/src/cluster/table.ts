// A table whose rows are made once each and kept up to date in place, in the order that is given.
import { element, say } from "../element";

export interface Column {
  head: string;
  /** Numbers stand at the right. */
  numeric?: boolean;
  /** Said to a screen reader only. */
  silent?: boolean;
}

export abstract class Row<Data> {
  readonly element = document.createElement("tr");
  protected readonly cells: HTMLElement[];

  constructor(columns: Column[]) {
    this.cells = columns.map(({ numeric }, place) => {
      const cell = document.createElement(place === 0 ? "th" : "td");
      if (place === 0) cell.setAttribute("scope", "row");
      if (numeric) cell.className = "nbc-numeric";
      return cell;
    });
    this.element.append(...this.cells);
  }

  protected say(place: number, text: string): void {
    const cell = this.cells[place];
    if (cell) say(cell, text);
  }

  abstract show(data: Data, now: number): void;
}

export class Table<Data> {
  readonly element = element("div", "table");
  private readonly body = document.createElement("tbody");
  private readonly none: HTMLElement;
  private readonly more = element("div", "more");
  private readonly table = document.createElement("table");
  private rows = new Map<string, Row<Data>>();

  constructor(
    private readonly columns: Column[],
    private readonly key: (data: Data) => string,
    private readonly make: (data: Data, columns: Column[]) => Row<Data>,
    label: string,
    none: string,
  ) {
    const head = document.createElement("tr");
    for (const { head: text, numeric, silent } of columns) {
      const cell = document.createElement("th");
      cell.setAttribute("scope", "col");
      if (numeric) cell.className = "nbc-numeric";
      cell.append(element("span", silent ? "spoken" : "head", text));
      head.append(cell);
    }
    const heads = document.createElement("thead");
    heads.append(head);
    this.table.setAttribute("aria-label", label);
    this.table.append(heads, this.body);
    this.none = element("div", "none", none);
    this.element.append(this.table, this.none, this.more);
  }

  show(data: Data[], total: number, now: number): void {
    const rows = new Map<string, Row<Data>>();
    data.forEach((one, place) => {
      const key = this.key(one);
      const row = this.rows.get(key) ?? this.make(one, this.columns);
      rows.set(key, row);
      row.show(one, now);
      const there = this.body.children[place];
      if (there !== row.element) this.body.insertBefore(row.element, there ?? null);
    });
    while (this.body.children.length > rows.size) this.body.lastElementChild?.remove();
    this.rows = rows;
    this.table.hidden = data.length === 0;
    this.none.hidden = data.length > 0;
    say(this.more, total > data.length ? `and ${total - data.length} more` : "");
  }
}
