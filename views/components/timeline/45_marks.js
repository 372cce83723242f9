// Draws the marks of one lane: events, ledger shares, counters.
const LEAST_MARK = 1, LEAST_HEIGHT = 3, LEAST_GAP = 3;  // px
const LABEL_FROM = 28, LABEL_HEIGHT = 11;               // px; smaller marks have no name on them
const LEAST_CAPPED = 8;  // px high; the line that caps a match would hide the colour of a lower one
const DIM = 0.28;  // marks that the search did not find
const SPECIAL = { iterations: 0.22, findings: 1 };      // opacity of lanes that stand behind the rest
const HIT = 256;

class Marks {
  constructor(timeline) {
    this.timeline = timeline;
    this.heads = new Int32Array(2 * HIT).fill(-1);  // first rectangle of each colour
    this.room(4096);
    this.drawn = 0;
  }

  room(size) {
    this.size = size;
    this.next = new Int32Array(size);
    this.box = new Float32Array(4 * size);
  }

  // `item` is where the lane is: { row, y, h }.
  lane(g, pane, item, lane) {
    const { timeline } = this, { view } = timeline, offset = pane.given.offset || 0;
    const info = pane.layout.lanes[lane], a = view[0] + offset, b = view[1] + offset;
    const at = { y: item.y, h: item.h, offset, info, scale: timeline.scale(), a, left: timeline.gutter };
    if (item.row.heading) { at.y += 6; at.h -= 12; }
    else if (item.row.deeper) at.h -= 1;  // a line between it and what it holds
    for (const segment of pane.tiles.segments(lane, a, b, pane.current)) {
      if (segment.part.last === segment.part.first) continue;
      if (segment.part.counter) this.counter(g, segment, at);
      else this.events(g, segment, at);
    }
  }

  x(at, t) { return clamp(at.left + (t - at.a) * at.scale, at.left - 4, this.timeline.width + 4); }

  snap(v) { return Math.round(v * this.timeline.ratio) / this.timeline.ratio; }

  events(g, segment, at) {
    const { part } = segment, stacked = at.info.kind === "ledger" && !part.exact;
    const used = stacked ? this.stack(segment, at) : this.line(segment, at);
    this.fill(g, used, searched(part, at), SPECIAL[at.info.kind] || 1);
    if (at.info.kind === "iterations") this.dividers(g, segment, at);
    if (at.h >= LABEL_HEIGHT && !stacked) this.names(g, segment, at);
  }

  // Rectangles are drawn colour by colour, because changing the colour costs more than drawing.
  put(used, key, n, x, y, w, h) {
    if (n >= this.size) {
      const { next, box } = this;
      this.room(2 * this.size);
      this.next.set(next);
      this.box.set(box);
    }
    if (this.heads[key] < 0) used.push(key);
    this.next[n] = this.heads[key];
    this.heads[key] = n;
    const o = 4 * n;
    this.box[o] = x; this.box[o + 1] = y; this.box[o + 2] = w; this.box[o + 3] = h;
  }

  line({ part, from, to }, at) {
    const { start, end, color, fill, hit } = part.answer.columns, used = [], ratio = this.timeline.ratio;
    let n = 0;
    for (let i = above(end, part.first, part.last, from); i < part.last && start[i] < to; i++) {
      const x = this.snap(this.x(at, Math.max(start[i], from)));
      let w = Math.max(this.snap(this.x(at, Math.min(end[i], to))) - x, LEAST_MARK);
      let h = at.h;
      if (part.exact) { if (w > LEAST_GAP) w -= 1 / ratio; }
      else h = Math.max(this.snap(h * fill[i] / 255), LEAST_HEIGHT);
      this.put(used, color[i] + (hit[i] ? HIT : 0), n++, x, at.y + at.h - h, w, h);
    }
    return used;
  }

  stack({ part, from, to }, at) {
    const { start, end, color, fill, hit } = part.answer.columns, used = [], foot = at.y + at.h;
    let n = 0, bin = NaN, filled = 0, low = foot;
    for (let i = above(end, part.first, part.last, from); i < part.last && start[i] < to; i++) {
      if (start[i] !== bin) { bin = start[i]; filled = 0; low = foot; }
      filled += fill[i];
      const x = this.snap(this.x(at, Math.max(start[i], from)));
      const w = Math.max(this.snap(this.x(at, Math.min(end[i], to))) - x, LEAST_MARK);
      const high = this.snap(foot - at.h * Math.min(filled / 255, 1));
      if (high < low) this.put(used, color[i] + (hit[i] ? HIT : 0), n++, x, high, w, low - high);
      low = high;
    }
    return used;
  }

  fill(g, used, hits, opacity) {
    const { box, next, heads } = this, { palette, theme } = this.timeline;
    for (const key of used.sort((one, other) => one - other)) {  // hits last, upon the rest
      g.fillStyle = palette[key & 255];
      g.globalAlpha = hits && key < HIT ? DIM * opacity : opacity;
      for (let n = heads[key]; n >= 0; n = next[n]) {
        g.fillRect(box[4 * n], box[4 * n + 1], box[4 * n + 2], box[4 * n + 3]);
        this.drawn += 1;
      }
      if (hits && key >= HIT) {
        g.fillStyle = theme.text;
        g.globalAlpha = 1;
        for (let n = heads[key]; n >= 0; n = next[n]) {
          if (box[4 * n + 3] >= LEAST_CAPPED) g.fillRect(box[4 * n], box[4 * n + 1], box[4 * n + 2], 2);
        }
      }
      heads[key] = -1;
    }
    g.globalAlpha = 1;
  }

  dividers(g, { part, from, to }, at) {
    const { start, end } = part.answer.columns;
    g.fillStyle = this.timeline.theme.text;
    g.globalAlpha = 0.45;
    for (let i = above(end, part.first, part.last, from); i < part.last && start[i] < to; i++) {
      if (start[i] >= from) g.fillRect(this.snap(this.x(at, start[i])), at.y, 1, at.h);
    }
    g.globalAlpha = 1;
  }

  // One name for each stretch of one event, however many bins it fills.
  names(g, { part, from, to }, at) {
    const { start, end, color, fill, name, event, hit } = part.answer.columns;
    const { inks, theme } = this.timeline, right = this.timeline.width, words = part.answer.head.names;
    const plain = at.info.kind === "iterations", hits = searched(part, at), middle = at.y + at.h / 2 + 0.5;
    for (let i = above(end, part.first, part.last, from); i < part.last && start[i] < to; i++) {
      const first = i;
      if (!part.exact) {
        if (fill[i] < 250) continue;
        while (i + 1 < part.last && event[i + 1] === event[first] && fill[i + 1] >= 250 && start[i + 1] === end[i]) i += 1;
      }
      if ((Math.min(end[i], to) - Math.max(start[first], from)) * at.scale < LABEL_FROM) continue;
      const x = this.x(at, start[first]) + 4;
      const shown = Math.max(x, at.left + 4);
      const text = fit(g, shorten(words[name[first]] || ""), Math.min(this.x(at, end[i]), right) - shown - 4);
      if (!text) continue;
      g.globalAlpha = hits && !hit[first] ? 0.6 : 1;
      g.fillStyle = plain || (hits && !hit[first]) ? theme.text : inks[color[first]];
      g.fillText(text, shown, middle);
    }
    g.globalAlpha = 1;
  }

  // The band between lowest and highest value, and the area below it.
  counter(g, { part, from, to }, at) {
    const { time, until, low, high } = part.answer.columns, scale = scaleOf(at.info);
    const range = scale.high - scale.low || 1;
    const first = above(until, part.first, part.last, from);
    const y = (value) => at.y + at.h - 1 - clamp((value - scale.low) / range, 0, 1) * (at.h - 2);
    const foot = y(0), area = new Path2D(), band = new Path2D(), steps = new Path2D();
    let right = NaN;
    for (let i = first; i < part.last && time[i] < to; i++) {
      const x = this.snap(this.x(at, Math.max(time[i], from)));
      const w = Math.max(this.snap(this.x(at, Math.min(until[i], to))) - x, 1 / this.timeline.ratio);
      const top = y(high[i]), bottom = y(low[i]);
      area.rect(x, Math.min(top, foot), w, Math.abs(foot - top));
      if (!part.exact) band.rect(x, top, w, Math.max(bottom - top, 1));
      else if (x === right) steps.lineTo(x, top);
      else steps.moveTo(x, top);
      if (part.exact) steps.lineTo(right = x + w, top);
      this.drawn += 1;
    }
    g.fillStyle = this.timeline.theme.text;
    g.globalAlpha = 0.12;
    g.fill(area);
    g.globalAlpha = 0.34;
    g.fill(band);
    g.strokeStyle = this.timeline.theme.text;
    g.globalAlpha = 0.7;
    g.stroke(steps);
    g.globalAlpha = 1;
  }
}

// A search is about what was recorded or about what the analysis says; the other is not dimmed.
function searched(part, at) { return part.answer.hits && part.answer.head.searched.includes(at.info.kind); }
