// Measures a stretch of time: how long, and what it went to on each device.
const OUTSIDE = "color-mix(in srgb, currentColor 18%, transparent)";  // of what the ledger does not account for

class Measure {
  constructor(timeline) {
    this.timeline = timeline;
    this.panel = timeline.root.querySelector(".panel");
    this.span = null;  // on the axis
    this.answers = [];
    this.round = 0;
    this.panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.close();
      timeline.canvas.focus();
    });
  }

  stretch(a, b) {
    this.span = [Math.min(a, b), Math.max(a, b)];
    this.panel.hidden = true;
    this.timeline.redraw();
  }

  // The picked event, as Perfetto's M does; without one all that is in view.
  selection() {
    const { picked, panes } = this.timeline;
    if (picked?.start === undefined) return this.view();
    const offset = panes[picked.recording].given.offset || 0;
    this.stretch(picked.start - offset, Math.max(picked.end, picked.start + 1) - offset);
    this.ask();
  }

  view() {
    const [a, b] = this.timeline.view, [first, last] = this.timeline.extent();
    this.stretch(Math.max(a, first), Math.min(b, last));
    this.ask();
  }

  close() {
    this.span = null;
    this.answers = [];
    this.round += 1;
    this.timeline.dock.changed();  // first: it passes the focus on, if that is in what is hidden
    this.panel.hidden = true;
    this.timeline.dock.table.clear();
    this.timeline.redraw();
  }

  stretchOf(pane) {
    const offset = pane.given.offset || 0;
    return this.span.map((t) => Math.round(t + offset));
  }

  // Something took the pointer away while it measured: what there is counts, if it is anything.
  end() {
    if (this.span && this.span[1] > this.span[0]) this.ask();
    else this.close();
  }

  async ask() {
    const round = ++this.round, { timeline } = this, { panes } = timeline;
    this.answers = panes.map(() => null);
    this.draw();
    timeline.dock.changed();
    timeline.dock.table.ask();
    await Promise.all(panes.map(async (pane, n) => {
      const [start, end] = this.stretchOf(pane);
      let answer;
      try {
        answer = (await pane.ask("measure", { start, end })).head;
      } catch (error) {
        if (error.name === "AbortError") return;
        answer = { trouble: String(error.message || error) };
      }
      if (round !== this.round) return;
      this.answers[n] = answer;
      this.draw();
    }));
    if (round === this.round) timeline.words.measured(this.answers);
  }

  // --- the panel ----------------------------------------------------------------------------

  draw() {
    const { timeline, panel, span } = this;
    const head = element("div", "head"), close = iconButton("close", "close", "Close (Escape)");
    close.onclick = () => this.close();
    const exact = this.answers.length === 1 && this.answers[0]?.duration;
    head.append(element("b", "", exact || duration(span[1] - span[0])),
      element("span", "", "from " + moment(span[0], (span[1] - span[0]) / 1000)), close);
    const body = element("div", "body");
    timeline.panes.forEach((pane, n) => body.append(...this.recording(pane, this.answers[n])));
    const kept = this.held();
    panel.replaceChildren(head, body, this.buttons());
    panel.hidden = false;
    this.restore(kept);
  }

  // An answer may come while the reader is already in the panel: focus and what was opened stay.
  held() {
    const { panel } = this, buttons = [...panel.querySelectorAll("button, summary")];
    return {
      focus: buttons.indexOf(panel.getRootNode().activeElement),
      open: [...panel.querySelectorAll("details")].map((box) => box.open),
    };
  }

  restore({ focus, open }) {
    this.panel.querySelectorAll("details").forEach((box, n) => { box.open = !!open[n]; });
    if (focus >= 0) this.panel.querySelectorAll("button, summary")[focus]?.focus({ preventScroll: true });
  }

  recording(pane, answer) {
    const parts = timelineTitle(this.timeline, pane);
    if (!answer) return [...parts, element("p", "", "Measuring …")];
    if (answer.trouble) return [...parts, element("p", "", answer.trouble)];
    if (!answer.devices.length) parts.push(element("p", "", "No GPU work was recorded."));
    const length = answer.end - answer.start || 1;
    // One device has room for all its rows; of many, the bar tells, and the rows on demand.
    const brief = this.timeline.panes.length * answer.devices.length > 2;
    for (const device of answer.devices) {
      const box = element(brief ? "details" : "section", "device"), title = element(brief ? "summary" : "div", "line");
      const rows = device.rows.filter((row) => row.ns > 0);
      title.append(element("b", "", device.label), element("span", "", percent(device.busy / length) + " busy"), this.bar(rows));
      box.append(title, this.rows(rows));
      parts.push(box);
    }
    return parts;
  }

  bar(rows) {
    const bar = element("span", "shares-bar");
    for (const row of rows) {
      const part = element("i");
      part.style.background = this.timeline.palette[row.color] || OUTSIDE;
      part.style.flex = `${row.share} 0 0`;
      part.title = `${row.word} ${row.percent}`;
      bar.append(part);
    }
    return bar;
  }

  rows(rows) {
    const table = element("table");
    for (const row of [...rows].sort((one, other) => other.ns - one.ns)) {
      const entry = element("tr"), swatch = element("i"), word = element("td");
      swatch.style.background = this.timeline.palette[row.color] || OUTSIDE;
      word.append(swatch, row.word);
      entry.append(word, element("td", "", row.percent), element("td", "", row.text));
      table.append(entry);
    }
    return table;
  }

  buttons() {
    const { timeline } = this, box = element("div", "buttons"), zoom = element("button", "", "Zoom here");
    zoom.onclick = () => timeline.show(...this.span);
    box.append(zoom);
    for (const pane of timeline.panes) {
      const which = timeline.panes.length > 1 ? ["upper", "lower"][pane.place] + " recording" : "this window";
      const analyse = element("button", "", `Analyse ${which}`);
      analyse.title = `Analyse only this stretch of ${pane.given.name}`;
      analyse.onclick = () => this.analyse(pane);
      box.append(analyse);
    }
    return box;
  }

  analyse(pane) {
    const last = pane.layout?.duration ?? Infinity;
    const span = this.stretchOf(pane).map((t) => clamp(t, 0, last));
    this.timeline.trigger("analyse", { recording: pane.place, span });
  }
}

function timelineTitle(timeline, pane) {
  return timeline.panes.length > 1 ? [element("h4", "", pane.given.name)] : [];
}
