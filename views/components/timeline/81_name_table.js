// The names in a measured stretch as a table that can be sorted and downloaded.
const NAME_COLUMNS = [  // title, value of a row, text, whether larger comes first
  ["kind", (row) => row.kind, (row) => row.kind, false],
  ["name", (row) => row.name, (row) => shorten(row.name), false],
  ["count", (row) => row.count, (row) => counted(row.count), true],
  ["total", (row) => row.total, (row) => duration(row.total), true],
  ["mean", (row) => row.total / row.count, (row) => duration(row.total / row.count), true],
  ["longest", (row) => row.longest, (row) => duration(row.longest), true],
  ["of the stretch", (row) => row.total / row.length, (row) => percent(row.total / row.length), true],
];
const NAMES_DRAWN = 500;
const FORMULA = /^[=+\-@\t\r]/;  // a spreadsheet would compute it

class NameTable {
  constructor(timeline, root) {
    this.timeline = timeline;
    this.root = root;
    this.answers = [];
    this.column = 3;
    this.down = true;
  }

  clear() {
    this.answers = [];
    this.root.hidden = true;
  }

  // Ask what lies in the measured stretch of each recording.
  async ask() {
    const { timeline } = this, { panes, measure } = timeline, round = this.round = (this.round || 0) + 1;
    const answers = await Promise.all(panes.map(async (pane) => {
      const [start, end] = measure.stretchOf(pane);
      try {
        return (await pane.ask("names", { start, end })).head;
      } catch (error) {
        return { trouble: String(error.message || error), rows: [], count: 0, start, end };
      }
    }));
    if (round !== this.round || !measure.span) return;
    this.answers = answers;
    this.draw();
  }

  get rows() {
    const rows = this.answers.flatMap((answer, recording) => answer.rows.map(([kind, name, count, total, longest, event]) => ({
      kind, name, count, total, longest, event, recording, length: Math.max(answer.end - answer.start, 1),
    })));
    const [, value] = NAME_COLUMNS[this.column], sign = this.down ? -1 : 1;
    return rows.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
  }

  draw() {
    const table = element("table"), head = element("thead"), line = element("tr"), body = element("tbody");
    const focused = [...this.root.querySelectorAll("th button")].indexOf(this.root.getRootNode().activeElement);
    NAME_COLUMNS.forEach(([title], n) => line.append(this.heading(title, n)));
    head.append(line);
    for (const row of this.rows.slice(0, NAMES_DRAWN)) body.append(this.row(row));
    table.append(head, body);
    const kept = this.answers.reduce((sum, { rows }) => sum + rows.length, 0);
    const count = this.answers.reduce((sum, answer) => sum + answer.count, 0);
    const trouble = this.answers.map((answer) => answer.trouble).find(Boolean);
    const words = trouble || (kept < count ? `The ${counted(kept)} of ${counted(count)} names with the largest totals` : `${counted(count)} ${count === 1 ? "name" : "names"}`);
    const save = element("button", "", "Download CSV"), top = element("div", "line");
    save.disabled = !kept;
    save.onclick = () => this.download();
    top.append(element("span", "", words), save);
    this.root.replaceChildren(top, table);
    this.root.hidden = false;
    if (focused >= 0) this.root.querySelectorAll("th button")[focused]?.focus({ preventScroll: true });
  }

  heading(title, n) {
    const cell = element("th"), sort = element("button", "", title);
    cell.setAttribute("aria-sort", n !== this.column ? "none" : this.down ? "descending" : "ascending");
    sort.onclick = () => {
      this.down = n === this.column ? !this.down : NAME_COLUMNS[n][3];
      this.column = n;
      this.draw();
    };
    cell.append(sort);
    return cell;
  }

  row(row) {
    const line = element("tr");
    NAME_COLUMNS.forEach(([title, , text], n) => {
      const cell = element("td");
      if (n === 1) {
        const to = element("button", "", text(row));
        to.title = `${row.name} · to the longest`;
        to.onclick = () => this.timeline.picking.goTo(row.recording, row.event);
        cell.append(to);
      } else cell.textContent = text(row);
      line.append(cell);
    });
    return line;
  }

  get csv() {
    const several = this.answers.length > 1, cell = (value) => {
      const text = typeof value === "string" && FORMULA.test(value) ? "'" + value : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const head = ["kind", "name", "count", "total_ns", "mean_ns", "longest_ns", "share_of_stretch"];
    const lines = this.rows.map((row) => [row.kind, row.name, row.count, row.total, Math.round(row.total / row.count),
      row.longest, (row.total / row.length).toFixed(6), ...(several ? [this.timeline.panes[row.recording].given.name] : [])]);
    return [several ? [...head, "recording"] : head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
  }

  download() {
    const link = element("a"), [start, end] = this.timeline.measure.span.map(Math.round);
    link.href = URL.createObjectURL(new Blob([this.csv], { type: "text/csv" }));
    link.download = `whyslow-${start}-${end}-ns.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
}
