// Draws a frame: axis, rows, bands, the picked event and its arrows.
const AXIS = 28, TICKS = 7;   // px; the ticks of a search are in the axis' foot
const TIMES = 11;             // px from its top to the middle of its times
const LABEL_EVERY = 110;      // px between times on the axis
const ARROW = 6, FAR = 60;    // px: its head, and the width of its turn

class Painter {
  constructor(timeline) {
    this.timeline = timeline;
    this.marks = new Marks(timeline);
  }

  frame(g) {
    const { timeline } = this, { theme, width, gutter } = timeline;
    g.setTransform(timeline.ratio, 0, 0, timeline.ratio, 0, 0);
    g.fillStyle = theme.paper;
    g.fillRect(0, 0, timeline.outer, timeline.height);
    g.textBaseline = "middle";
    g.lineWidth = 1;
    timeline.minimap.draw(g);
    this.marks.drawn = 0;
    const grid = this.axis(g);
    for (const pane of timeline.panes) this.pane(g, pane, grid);
    timeline.notes.draw(g);
    this.measured(g);
    g.fillStyle = theme.line;
    g.fillRect(gutter - 1, timeline.minimap.height, 1, timeline.height - timeline.minimap.height);
    return this.marks.drawn;
  }

  // --- time ---------------------------------------------------------------------------------

  // Returns where lines through the lanes belong.
  axis(g) {
    const { timeline } = this, { theme, gutter, width, view: [a, b] } = timeline;
    const y = timeline.minimap.height, step = roundStep((b - a) / Math.max(timeline.room() / LABEL_EVERY, 3));
    const base = baseOf(a, b, step), grid = [], chip = this.chip(g);
    g.font = "11px " + theme.font;
    g.fillStyle = theme.text;
    g.globalAlpha = 0.75;
    if (base) {
      const text = moment(base, smallestIn(base)), w = g.measureText(text).width;
      if (w < gutter - 12) g.fillText(text, gutter - w - 8, y + TIMES);
    }
    for (let t = Math.ceil(a / step) * step; t < b; t += step) {
      const x = Math.round(timeline.x(t));
      grid.push(x);
      const label = base ? "+" + axisLabel(t - base, step, b - base) : axisLabel(t, step, b);
      const end = x + 6 + g.measureText(label).width, free = (!chip || end < chip.x || x > chip.x + chip.w) && !timeline.notes.covers(x, end);
      if (end < width && free) g.fillText(label, x + 4, y + TIMES);
    }
    g.globalAlpha = 1;
    g.fillStyle = theme.line;
    for (const x of grid) g.fillRect(x, y, 1, AXIS);
    g.fillRect(gutter, y + AXIS - 1, width - gutter, 1);
    if (timeline.find) this.ticks(g, y + AXIS - 1 - TICKS);
    return grid;
  }

  ticks(g, top) {
    const { timeline } = this, { theme, gutter, width, view: [a, b] } = timeline;
    const each = TICKS / timeline.panes.length;
    g.fillStyle = theme.soft;
    g.fillRect(gutter, top, width - gutter, TICKS);
    g.fillStyle = theme.accent;
    timeline.panes.forEach((pane, n) => {
      const offset = pane.given.offset || 0, plan = pane.current;
      const answer = plan && pane.tiles.ticks(a + offset, b + offset, plan);
      if (!answer) return;
      const { ticks } = answer.columns, { start, width: bin } = answer.head.ticks;
      const first = Math.max(Math.floor((a + offset - start) / bin), 0);
      for (let i = first; i < ticks.length && start + i * bin - offset < b; i++) {
        if (!ticks[i]) continue;
        const x = Math.max(timeline.x(start + i * bin - offset), gutter);
        g.globalAlpha = 0.35 + 0.65 * ticks[i] / 255;
        g.fillRect(x, top + n * each, Math.max(bin * timeline.scale(), 1.5), each - 0.5);
      }
    });
    g.globalAlpha = 1;
  }

  // --- rows ---------------------------------------------------------------------------------

  pane(g, pane, grid) {
    const { timeline } = this, { theme, gutter, width } = timeline;
    g.save();
    clip(g, gutter, pane.top, timeline.outer - gutter, pane.height);
    g.globalAlpha = 0.5;
    g.fillStyle = theme.line;
    for (const x of grid) g.fillRect(x, pane.top, 1, pane.height);
    g.globalAlpha = 1;
    pane.current = pane.tiles && pane.plan();
    const listed = pane.shown.filter((item) => !item.pinned), pinned = pane.shown.filter((item) => item.pinned);
    this.rows(g, pane, listed, pane.listTop, pane.listHeight);
    const pinnedTop = pane.top + pane.titleHeight;
    if (pinned.length) this.rows(g, pane, pinned, pinnedTop, pane.rows.pinnedHeight);
    clip(g, gutter, pinnedTop, width - gutter, pane.height);
    this.bands(g, pane, pinnedTop);
    this.picked(g, pane);
    g.restore();
    if (pinned.length) {
      g.fillStyle = theme.text;
      g.globalAlpha = 0.35;
      g.fillRect(0, pane.listTop - 1, width, 1);
      g.globalAlpha = 1;
    }
  }

  rows(g, pane, items, top, height) {
    const { theme, gutter, width } = this.timeline;
    g.save();
    clip(g, gutter, top, this.timeline.outer - gutter, height);
    g.font = "11px " + theme.font;
    for (const { row, y, h } of items) {
      if (row.heading) {
        g.fillStyle = theme.soft;
        g.fillRect(gutter, y, this.timeline.outer - gutter, h);
      } else if (row.trackHeight) {
        g.fillStyle = theme.line;
        g.globalAlpha = 0.55;
        g.fillRect(gutter, y + row.trackHeight + 1, width - gutter, 1);
        g.globalAlpha = 1;
      }
    }
    clip(g, gutter, top, width - gutter, height);  // what is drawn of time ends with the axis
    for (const item of items) {
      const lane = item.row.heading ? item.row.summary : item.row.lane;
      if (lane !== null && lane !== undefined && pane.current) this.marks.lane(g, pane, item, lane);
    }
    g.restore();
  }

  bands(g, pane, top) {
    const { timeline } = this, { theme, gutter, width } = timeline, offset = pane.given.offset || 0;
    const h = pane.height, [from, to] = pane.given.window.map((t) => timeline.x(t - offset));
    g.fillStyle = theme.text;
    g.globalAlpha = 0.07;  // outside the analysed window
    if (from > gutter) g.fillRect(gutter, top, Math.min(from, width) - gutter, h);
    if (to < width) g.fillRect(Math.max(to, gutter), top, width - Math.max(to, gutter), h);
    g.globalAlpha = 1;
    if (pane.given.mark) {
      const [a, b] = pane.given.mark.map((t) => timeline.x(t - offset));
      band(g, a, b, top, h, theme.accent, 0.12);
    }
  }

  measured(g) {
    const { timeline } = this, span = timeline.measure.span;
    if (!span) return;
    const { theme, gutter, width } = timeline, top = timeline.minimap.height;
    const [a, b] = span.map((t) => timeline.x(t));
    g.save();
    clip(g, gutter, top, width - gutter, timeline.height - top);
    band(g, a, b, top, timeline.height - top, theme.accent, 0.07);
    const { text, x, w } = this.chip(g);
    g.fillStyle = theme.accent;
    g.beginPath();
    g.roundRect(x, top + 3, w, 17, 4);
    g.fill();
    g.fillStyle = theme.onAccent;
    g.fillText(text, x + 6, top + TIMES + 0.5);
    g.restore();
  }

  // Where the measured length stands, within the axis.
  chip(g) {
    const { timeline } = this, { span } = timeline.measure, { theme, gutter, width } = timeline;
    if (!span) return null;
    g.font = "600 11px " + theme.font;
    const text = duration(span[1] - span[0]), w = g.measureText(text).width + 12;
    const left = Math.max(timeline.x(span[0]), gutter), right = Math.min(timeline.x(span[1]), width);
    const x = clamp((left + right - w) / 2, gutter + 2, Math.max(width - w - 2, gutter + 2));
    return { text, x, w };
  }

  // --- the picked event ---------------------------------------------------------------------

  picked(g, pane) {
    const { timeline } = this, { picked, theme } = timeline;
    if (!picked || picked.recording !== pane.place || picked.start === undefined) return;
    g.lineWidth = 1.5;
    const arrows = this.arrows(pane);
    const offset = pane.given.offset || 0;
    const places = pane.shown.filter(({ row }) => row.lane === picked.lane || (row.heading && row.summary === picked.lane));
    for (const { y, h, pinned } of places) {
      const left = timeline.x(picked.start - offset), w = Math.max(timeline.x(picked.end - offset) - left, 2);
      const x = Math.max(left, timeline.gutter - 8), right = Math.min(left + w, timeline.width + 8);
      if (right < timeline.gutter || x > timeline.width) continue;
      g.save();
      if (!pinned) clip(g, timeline.gutter, pane.listTop, timeline.width, pane.listHeight);
      for (const [color, out] of [[theme.paper, 0.75], [theme.text, 2.25]]) {  // seen upon every colour
        g.strokeStyle = color;
        g.strokeRect(x - out, y - out, right - x + 2 * out, h + 2 * out);
      }
      g.restore();
    }
    for (const [from, to] of arrows) arrow(g, from, to, theme);
    g.lineWidth = 1;
  }

  // From the end of each cause, or from within one that holds its effect, to where that began; a
  // wait is met where it ended, for that is what the operation did.
  arrows(pane) {
    const { timeline } = this, { picked } = timeline, offset = pane.given.offset || 0;
    const events = new Map((picked.chain || []).map((event) => [event.event, event]));
    events.set(picked.event, picked);
    const drawn = [];
    for (const [source, target] of picked.arrows || []) {
      const one = events.get(source), other = events.get(target);
      const from = one && pane.whereIs(one.lane), to = other && pane.whereIs(other.lane);
      if (!from || !to || from.row === to.row) continue;
      const arrives = other.start < one.start ? other.end : other.start;
      const leaves = one.end <= arrives ? one.end : one.end >= other.end ? other.start : one.start;
      // From the edge of one row to the facing edge of the other, so that names stay legible.
      const up = to.y < from.y;
      // Straight down from a range into its call: from the middle, or nothing of it would be seen.
      const edge = leaves === arrives ? from.y + from.h / 2 : up ? from.y : from.y + from.h;
      drawn.push([
        [timeline.x(leaves - offset), edge],
        [timeline.x(arrives - offset), up ? to.y + to.h : to.y],
      ]);
    }
    return drawn;
  }
}

// Along the row where it starts, then across to the row where it ends.
function arrow(g, [x0, y0], [x1, y1], theme) {
  const turn = Math.sign(x1 - x0) * Math.min(Math.abs(x1 - x0), FAR), down = Math.sign(y1 - y0);
  const bend = down * Math.min(Math.abs(y1 - y0) * 0.6, FAR), neck = y1 - down * ARROW;
  const line = new Path2D(), head = new Path2D();
  line.moveTo(x0, y0);
  line.lineTo(x1 - turn, y0);
  line.bezierCurveTo(x1 - turn / 3, y0, x1, neck - bend, x1, neck);
  head.moveTo(x1, y1);
  head.lineTo(x1 - ARROW * 0.65, neck - down);
  head.lineTo(x1 + ARROW * 0.65, neck - down);
  head.closePath();
  head.moveTo(x0 + 2.5, y0);
  head.arc(x0, y0, 2.5, 0, 7);
  for (const [color, width, edge] of [[theme.paper, 4, 2], [theme.text, 1.5, 0]]) {
    g.strokeStyle = g.fillStyle = color;
    g.lineWidth = width;
    g.stroke(line);
    if (edge) g.stroke(head);
    g.fill(head);
  }
}

function band(g, a, b, y, h, color, opacity) {
  b = Math.max(b, a + 2);
  g.fillStyle = color;
  g.globalAlpha = opacity;
  g.fillRect(a, y, b - a, h);
  g.globalAlpha = 0.9;
  g.fillRect(a, y, 1, h);
  g.fillRect(b - 1, y, 1, h);
  g.globalAlpha = 1;
}

function clip(g, x, y, w, h) {
  g.beginPath();
  g.rect(x, y, Math.max(w, 0), Math.max(h, 0));
  g.clip();
}

function roundStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return Math.max([1, 2, 5, 10].map((f) => f * power).find((step) => step >= rough * 0.999), 1e-3);
}

// Deep in a long recording every time begins alike: that part is said once, beside the axis.
function baseOf(a, b, step) {
  if (a <= 0 || Math.log10(b / step) < 4.5) return 0;
  return Math.floor(a / (step * 100)) * step * 100;
}

function smallestIn(t) {
  let power = 1;
  while (power < 1e12 && t % (power * 10) === 0) power *= 10;
  return power;
}

function axisLabel(t, step, largest) {
  const [unit, word] = unitOf(largest);
  const digits = Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9));
  return (t / unit).toFixed(digits) + " " + word;
}
