// The whole recording above the axis, and the box that says what of it is in view.
const MINIMAP = 46, MINIMAP_BOTH = 64, MINIMAP_PAD = 4, LEAST_LANE = 3;  // px
const GRIP = 6, LEAST_BOX = 4;                        // px

class Minimap {
  constructor(timeline) {
    this.timeline = timeline;
    this.picture = null;
  }

  get height() { return this.timeline.panes.length > 1 ? MINIMAP_BOTH : MINIMAP; }

  forget() { this.picture = null; }

  x(t) {
    const [a, b] = this.timeline.extent();
    return this.timeline.gutter + (t - a) / (b - a) * this.timeline.room();
  }

  time(x) {
    const [a, b] = this.timeline.extent();
    return a + (x - this.timeline.gutter) / this.timeline.room() * (b - a);
  }

  box() {
    const [a, b] = this.timeline.view, { gutter, width } = this.timeline;
    const from = clamp(this.x(a), gutter, width - LEAST_BOX);
    return [from, clamp(this.x(b), from + LEAST_BOX, width)];
  }

  draw(g) {
    const { timeline } = this, { theme, gutter, width, ratio } = timeline, h = this.height;
    this.picture ||= this.paint();
    g.drawImage(this.picture, gutter, 0, this.picture.width / ratio, this.picture.height / ratio);
    const [from, to] = this.box();
    g.fillStyle = theme.paper;
    g.globalAlpha = 0.62;
    g.fillRect(gutter, 0, from - gutter, h - 1);
    g.fillRect(to, 0, width - to, h - 1);
    g.globalAlpha = 1;
    g.strokeStyle = theme.accent;
    g.lineWidth = 1.5;
    g.strokeRect(from + 0.75, 0.75, Math.max(to - from - 1.5, 1), h - 2.5);
    g.lineWidth = 1;
    g.fillStyle = theme.accent;
    if (to - from > 3 * GRIP) {
      for (const x of [from, to - 4]) g.fillRect(x, h / 2 - 8, 4, 16);
    }
    g.fillStyle = theme.line;
    g.fillRect(0, h - 1, width, 1);
    timeline.notes.drawSmall(g, this);
    this.label(g);
  }

  label(g) {
    const { timeline } = this, { theme, gutter } = timeline, [a, b] = timeline.extent();
    g.fillStyle = theme.text;
    g.font = "11px " + theme.font;
    g.globalAlpha = 0.75;
    g.fillText(fit(g, gutter > 130 ? "Whole recording" : "All", gutter - 20), 10, this.height / 2 - 7);
    g.fillText(duration(b - a), 10, this.height / 2 + 8);
    g.globalAlpha = 1;
  }

  // Costly to draw and seldom different: drawn once and kept as a picture.
  paint() {
    const { timeline } = this, { ratio, panes, theme } = timeline;
    const picture = document.createElement("canvas");
    picture.width = Math.max(Math.round(timeline.room() * ratio), 1);
    picture.height = Math.round((this.height - 1) * ratio);
    const g = picture.getContext("2d");
    g.scale(ratio, ratio);
    g.translate(-timeline.gutter, 0);
    const each = (this.height - 1 - MINIMAP_PAD * (panes.length + 1)) / panes.length;
    panes.forEach((pane, n) => {
      const top = MINIMAP_PAD + n * (each + MINIMAP_PAD);
      g.fillStyle = theme.soft;
      g.fillRect(timeline.gutter, top, timeline.room(), each);
      if (pane.overview) this.lanes(g, pane, top, each);
      const mark = pane.given.mark?.map((t) => this.x(t - (pane.given.offset || 0)));
      if (mark) band(g, mark[0], mark[1], 0, this.height, theme.accent, 0.3);
    });
    return picture;
  }

  lanes(g, pane, top, room) {
    const { head, columns } = pane.overview, offset = pane.given.offset || 0;
    const found = new Map(head.lanes.map((lane) => [lane.id, lane]));
    const lanes = pane.layout.minimap.slice(0, Math.max(Math.floor(room / LEAST_LANE), 1));
    const h = room / lanes.length, gap = h > 8 ? 2 : h > 5 ? 1 : 0;
    lanes.forEach((id, n) => {
      const lane = found.get(id);
      if (!lane) return;
      const foot = top + (n + 1) * h - gap, stacked = pane.layout.lanes[id].kind === "ledger" && !lane.exact;
      let bin = NaN, filled = 0;
      for (let i = lane.first; i < lane.first + lane.count; i++) {
        const x = this.x(columns.start[i] - offset), w = Math.max(this.x(columns.end[i] - offset) - x, 0.75);
        if (columns.start[i] !== bin) { bin = columns.start[i]; filled = 0; }
        const share = lane.exact ? 1 : columns.fill[i] / 255;
        const high = stacked ? share : Math.max(share, 0.12);
        g.fillStyle = this.timeline.palette[columns.color[i]];
        g.fillRect(x, foot - (filled + high) * (h - gap), w + 0.25, high * (h - gap));
        if (stacked) filled += share;
      }
    });
  }

  // --- the reader ---------------------------------------------------------------------------

  // What is under the pointer: an edge of the box, its inside, or the rest.
  part(x) {
    const [from, to] = this.box();
    const reach = to - from > 3 * GRIP ? GRIP : Math.min(GRIP / 2, 3);
    if (Math.abs(x - from) <= reach && to - from > LEAST_BOX + 2) return "from";
    if (Math.abs(x - to) <= reach && to - from > LEAST_BOX + 2) return "to";
    return x > from - GRIP && x < to + GRIP ? "box" : "rest";
  }

  press(x) {
    let part = this.part(x);
    const { timeline } = this;
    if (part === "rest") {
      const half = (timeline.view[1] - timeline.view[0]) / 2, at = this.time(x);
      timeline.show(at - half, at + half);
      part = "box";
    }
    this.held = { part, x, view: timeline.view.slice() };
  }

  drag(x) {
    const { part, x: from, view: [a, b] } = this.held, by = this.time(x) - this.time(from);
    if (part === "box") this.timeline.show(a + by, b + by);
    else if (part === "from") this.timeline.show(Math.min(a + by, b - MIN_VIEW), b);
    else this.timeline.show(a, Math.max(b + by, a + MIN_VIEW));
  }
}
