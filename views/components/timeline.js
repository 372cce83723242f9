// The timeline on a canvas. It asks the server for what a view shows and redraws old marks at once.
const GUTTER = 176, AXIS = 26, HEAD = 24, LANE = 22, GAP = 3;
const LEDGER = 2.2, ROOM = 360, TALLEST = 46;  // lanes grow into the room there is, px
const MARGIN = 0.5;          // fetched on both sides of the view, so that a pan has something to show
const MIN_VIEW = 100;        // ns
const FETCH_AFTER = 40, TELL_AFTER = 350;  // ms
const instances = new WeakMap();

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  let timeline = instances.get(parentElement);
  if (!timeline) {
    timeline = new Timeline(parentElement);
    instances.set(parentElement, timeline);
  }
  timeline.tell = setStateValue;
  timeline.trigger = setTriggerValue;
  timeline.update(data);
}

class Timeline {
  constructor(parent) {
    this.root = parent.querySelector(".timeline");
    this.canvas = parent.querySelector("canvas");
    this.tip = parent.querySelector(".tip");
    this.status = parent.querySelector(".status");
    this.legend = parent.querySelector(".legend");
    this.stats = { loads: 0, draws: 0, marks: 0, error: "" };
    window.__whyslow_timeline = this;
    parent.querySelector(".in").onclick = () => this.zoom(0.5, this.middle());
    parent.querySelector(".out").onclick = () => this.zoom(2, this.middle());
    parent.querySelector(".window").onclick = () => this.show(...this.data.window_span);
    parent.querySelector(".all").onclick = () => this.show(0, this.data.duration);
    this.toMark = parent.querySelector(".mark");
    this.toMark.onclick = () => this.show(...around(this.data.mark));
    this.listen();
    new ResizeObserver(() => this.data && this.resize()).observe(this.root);
  }

  update(data) {
    const fresh = !this.data || data.view_key !== this.data.view_key;
    const other = !this.data || data.lanes_key !== this.data.lanes_key;
    this.data = data;
    this.ink = data.palette.map(inkOn);
    this.toMark.style.display = data.mark ? "" : "none";
    if (other) this.tile = null;
    if (fresh) this.view = data.view.slice();
    if (fresh || other) this.picked = data.picked;  // [lane, begin, end]
    this.canvas.setAttribute("aria-label", data.summary);
    this.legend.replaceChildren(...data.legend.map((color) => {
      const entry = document.createElement("span"), swatch = document.createElement("i");
      swatch.style.background = data.palette[color];
      entry.append(swatch, data.colors[color]);
      return entry;
    }));
    this.layout();
    this.resize();
    if (other || fresh) this.load();
  }

  layout() {
    let y = AXIS, group = null;
    this.rows = [];
    const lanes = this.data.lanes, heads = new Set(lanes.map((lane) => lane.group)).size;
    const units = lanes.reduce((sum, lane) => sum + (lane.stacked ? LEDGER : 1), 0);
    const room = (ROOM - AXIS - heads * HEAD - lanes.length * GAP) / Math.max(units, 1);
    const unit = Math.round(Math.min(Math.max(room, LANE), TALLEST));
    this.data.lanes.forEach((lane, index) => {
      if (lane.group !== group) {
        this.rows.push({ heading: lane.group, y, h: HEAD });
        y += HEAD;
        group = lane.group;
      }
      const h = Math.round(lane.stacked ? unit * LEDGER : unit);
      this.rows.push({ lane, index, y, h });
      y += h + GAP;
    });
    this.height = y + 4;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.width = Math.max(this.root.clientWidth, GUTTER + 100);
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.canvas.style.height = this.height + "px";
    this.ratio = ratio;
    this.draw();
  }

  // --- the view -----------------------------------------------------------------------------

  scale() { return (this.width - GUTTER) / (this.view[1] - this.view[0]); }
  x(t) { return GUTTER + (t - this.view[0]) * this.scale(); }
  time(x) { return this.view[0] + (x - GUTTER) / this.scale(); }
  middle() { return (this.view[0] + this.view[1]) / 2; }
  zoom(factor, at) {
    const [a, b] = this.view;
    this.show(at - (at - a) * factor, at + (b - at) * factor);
  }
  show(a, b) {
    let length = Math.min(Math.max(b - a, MIN_VIEW), this.data.duration * 1.1);
    const slack = this.data.duration * 0.05;
    a = Math.min(Math.max(a, -slack), this.data.duration + slack - length);
    this.view = [a, a + length];
    this.hideTip();
    this.draw();
    clearTimeout(this.fetching);
    this.fetching = setTimeout(() => this.load(), FETCH_AFTER);
    clearTimeout(this.telling);
    this.telling = setTimeout(() => this.tell("view", { key: this.data.view_key, at: this.view.map(Math.round) }), TELL_AFTER);
  }

  async load() {
    const [a, b] = this.view, length = b - a;
    this.abort?.abort();
    this.abort = new AbortController();
    const query = new URLSearchParams({
      ...this.data.query,
      start: Math.floor(a - MARGIN * length), end: Math.ceil(b + MARGIN * length),
      bins: Math.round((this.width - GUTTER) * (1 + 2 * MARGIN)),
    });
    try {
      const answer = await fetch(this.data.url + "?" + query, {
        headers: { "x-whyslow-token": this.data.token }, signal: this.abort.signal,
      });
      const kind = answer.headers.get("content-type") || "";
      if (!answer.ok || !kind.startsWith("application/octet-stream")) {
        const said = kind.includes("json") ? (await answer.json()).error : "HTTP " + answer.status;
        throw new Error(said);
      }
      this.tile = unpack(await answer.arrayBuffer());
      this.stats.loads += 1;
      this.stats.marks = this.tile.count;
      this.stats.error = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      this.stats.error = String(error.message || error);
    }
    this.draw();
  }

  // --- drawing ------------------------------------------------------------------------------

  draw() {
    const g = this.canvas.getContext("2d");
    const style = getComputedStyle(this.root);
    const css = (name) => style.getPropertyValue(name).trim();
    this.font = css("--st-font") || "sans-serif";
    const text = style.color, line = css("--st-border-color") || "#8884";
    const soft = css("--st-secondary-background-color") || "#8881";
    g.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    g.clearRect(0, 0, this.width, this.height);
    g.textBaseline = "middle";
    for (const row of this.rows) {
      if (row.heading) {
        g.font = "600 12px " + this.font;
        g.fillStyle = text;
        g.fillText(fit(g, row.heading, this.width - 8), 0, row.y + row.h / 2 + 2);
        continue;
      }
      g.fillStyle = soft;
      g.fillRect(GUTTER, row.y, this.width - GUTTER, row.h);
      g.font = "12px " + this.font;
      g.fillStyle = text;
      g.globalAlpha = 0.8;
      g.fillText(fit(g, row.lane.label, GUTTER - 14), 6, row.y + row.h / 2);
      g.globalAlpha = 1;
    }
    this.drawAxis(g, text, line);
    g.save();
    g.beginPath();
    g.rect(GUTTER, 0, this.width - GUTTER, this.height);
    g.clip();
    if (this.tile) for (const row of this.rows) if (row.lane) this.drawLane(g, row);
    this.drawBands(g, css("--st-primary-color") || "#37f", text);
    this.drawPicked(g, text, css("--st-background-color") || "#fff");
    g.restore();
    const length = format(this.view[1] - this.view[0]);
    this.status.textContent = this.stats.error
      ? "The timeline could not be loaded: " + this.stats.error
      : this.tile ? length + " in view" : "Preparing the timeline …";
    this.stats.draws += 1;
  }

  drawLane(g, row) {
    const tile = this.tile, lane = tile.lanes[row.index], scale = this.scale();
    if (!lane) return;
    let left = -1, filled = 0;  // of a bin of a ledger: its shares are drawn upon each other
    g.font = "11px " + this.font;
    for (let i = lane.first; i < lane.first + lane.count; i++) {
      const x0 = this.x(tile.start[i]);
      const w = Math.max((tile.end[i] - tile.start[i]) * scale, 0.75);
      if (x0 > this.width || x0 + w < GUTTER) continue;
      let h = row.h, y = row.y;
      if (!lane.exact) {
        h = row.h * tile.fill[i] / 255;
        if (row.lane.stacked) {
          if (tile.start[i] !== left) { left = tile.start[i]; filled = 0; }
          filled += h;
          y = row.y + row.h - filled;
        } else {
          h = Math.max(h, 3);
          y = row.y + row.h - h;
        }
      }
      const color = tile.color[i];
      g.fillStyle = this.data.palette[color];
      g.fillRect(x0, y, lane.exact && w > 3 ? w - 0.5 : w + (lane.exact ? 0 : 0.3), h);
      if (lane.exact && tile.name[i] === this.data.selected && w > 2) {
        g.strokeStyle = getComputedStyle(this.root).color;
        g.lineWidth = 1.5;
        g.strokeRect(x0 + 0.75, y + 0.75, w - 1.5, h - 1.5);
      }
      if (w > 34 && h > 12) {
        const from = Math.max(x0, GUTTER), room = Math.min(x0 + w, this.width) - from - 8;
        if (room > 24) {
          g.fillStyle = this.ink[color];
          g.fillText(fit(g, shorten(tile.names[tile.name[i]]), room), from + 4, y + h / 2 + 0.5);
        }
      }
    }
  }

  drawAxis(g, text, line) {
    const [a, b] = this.view, about = Math.max((this.width - GUTTER) / 110, 2);
    const rough = (b - a) / about, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= rough);
    g.font = "11px " + this.font;
    for (let t = Math.ceil(a / step) * step; t < b; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      g.strokeStyle = line;
      g.beginPath(); g.moveTo(x, AXIS - 6); g.lineTo(x, this.height); g.stroke();
      g.fillStyle = text;
      const label = axisLabel(t, step, this.data.duration), w = g.measureText(label).width;
      if (x + w + 6 < this.width) g.fillText(label, x + 3, AXIS / 2 - 1);
    }
  }

  drawBands(g, accent, text) {
    const [from, to] = this.data.window_span;
    g.fillStyle = text;
    g.globalAlpha = 0.08;  // outside the analysed window
    if (this.x(from) > GUTTER) g.fillRect(GUTTER, AXIS, this.x(from) - GUTTER, this.height);
    if (this.x(to) < this.width) g.fillRect(this.x(to), AXIS, this.width - this.x(to), this.height);
    g.globalAlpha = 1;
    const bands = [[this.data.mark, 0.1], [this.selecting, 0.25]];
    for (const [band, alpha] of bands) {
      if (!band) continue;
      const x0 = this.x(Math.min(...band)), x1 = Math.max(this.x(Math.max(...band)), x0 + 2);
      g.fillStyle = accent;
      g.globalAlpha = alpha;
      g.fillRect(x0, AXIS, x1 - x0, this.height - AXIS);
      g.globalAlpha = 1;
      g.fillRect(x0, AXIS - 4, 1.5, this.height);
      g.fillRect(x1 - 1.5, AXIS - 4, 1.5, this.height);
    }
  }

  drawPicked(g, ink, paper) {
    const row = this.picked && this.rows.find((r) => r.index === this.picked[0]);
    if (!row) return;
    const x0 = this.x(this.picked[1]), w = Math.max(this.x(this.picked[2]) - x0, 2);
    for (const [color, out] of [[paper, 1], [ink, 2.5]]) {  // seen upon every colour
      g.strokeStyle = color;
      g.lineWidth = 1.5;
      g.strokeRect(x0 - out, row.y - out + 1, w + 2 * out, row.h + 2 * out - 2);
    }
  }

  // --- the reader ---------------------------------------------------------------------------

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      if (event.offsetX < GUTTER && !event.ctrlKey) return;  // over the labels the page scrolls
      event.preventDefault();
      const pan = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (pan) return this.pan((event.deltaX || event.deltaY) / this.scale());
      this.zoom(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * 0.003),
        this.time(event.offsetX));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.offsetX, view: this.view.slice(), moved: false, select: event.shiftKey };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return this.hover(event);
      const dx = event.offsetX - this.drag.x;
      if (Math.abs(dx) > 3) this.drag.moved = true;
      if (!this.drag.moved) return;
      if (this.drag.select) {
        this.selecting = [this.time(this.drag.x), this.time(event.offsetX)];
        return this.draw();
      }
      const by = dx / this.scale(), [a, b] = this.drag.view;
      this.show(a - by, b - by);
    });
    canvas.addEventListener("pointerup", (event) => {
      const drag = this.drag, chosen = this.selecting;
      this.drag = this.selecting = null;
      if (drag?.moved && chosen) this.show(Math.min(...chosen), Math.max(...chosen));
      else if (drag && !drag.moved) this.pick(event);
    });
    canvas.addEventListener("pointerleave", () => this.hideTip());
    canvas.addEventListener("dblclick", (event) => {
      const hit = this.at(event.offsetX, event.offsetY);
      if (hit) this.show(...around([this.tile.start[hit.i], this.tile.end[hit.i]]));
    });
    canvas.addEventListener("keydown", (event) => {
      const step = (this.view[1] - this.view[0]) / 5;
      const act = {
        w: () => this.zoom(0.6, this.middle()), s: () => this.zoom(1 / 0.6, this.middle()),
        "+": () => this.zoom(0.6, this.middle()), "-": () => this.zoom(1 / 0.6, this.middle()),
        a: () => this.pan(-step), d: () => this.pan(step),
        ArrowLeft: () => this.pan(-step), ArrowRight: () => this.pan(step),
        0: () => this.show(0, this.data.duration),
      }[event.key];
      if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); event.stopPropagation(); act(); }
    });
  }

  pan(by) { this.show(this.view[0] + by, this.view[1] + by); }

  at(x, y) {
    const row = this.rows.find((r) => r.lane && y >= r.y && y < r.y + r.h);
    if (!row || x < GUTTER || !this.tile) return null;
    const tile = this.tile, lane = tile.lanes[row.index], t = this.time(x), reach = 1.5 / this.scale();
    let best = null, filled = 0;
    for (let i = lane.first; i < lane.first + lane.count; i++) {
      if (tile.start[i] > t + reach) break;
      if (tile.end[i] < t - reach) continue;
      if (row.lane.stacked && !lane.exact) {
        if (tile.start[i] > t || tile.end[i] <= t) continue;
        filled += row.h * tile.fill[i] / 255;
        if (row.y + row.h - filled <= y + 0.5) return { i, row, lane };
        best = { i, row, lane };
      } else if (!best || tile.start[i] <= t) {
        best = { i, row, lane };
      }
    }
    return best;
  }

  hover(event) {
    const hit = this.at(event.offsetX, event.offsetY);
    if (!hit) return this.hideTip();
    const { i, lane, row } = hit, tile = this.tile, length = tile.end[i] - tile.start[i];
    const share = (tile.fill[i] / 255 * 100).toFixed(tile.fill[i] < 25 ? 1 : 0) + " %";
    const name = document.createElement("b"), more = document.createElement("span");
    name.textContent = lane.exact || !row.lane.stacked
      ? tile.names[tile.name[i]] : this.data.colors[tile.color[i]];
    if (lane.exact) more.textContent = `${format(length)}, from ${format(tile.start[i])}`;
    else if (row.lane.stacked) more.textContent = `${share} of ${format(length)}`;
    else more.textContent = `longest here; lane ${share} busy over ${format(length)}. Zoom in for each event`;
    this.tip.replaceChildren(name, more);
    this.tip.style.display = "block";
    const box = this.tip.getBoundingClientRect(), top = this.canvas.offsetTop + event.offsetY;
    this.tip.style.left = Math.min(event.offsetX + 14, this.width - box.width - 4) + "px";
    this.tip.style.top = top + 18 + "px";
  }

  hideTip() { this.tip.style.display = "none"; }

  pick(event) {
    const hit = this.at(event.offsetX, event.offsetY);
    if (hit?.lane.exact) {
      const { i, row } = hit, middle = (this.tile.start[i] + this.tile.end[i]) / 2;
      this.picked = [row.index, this.tile.start[i], this.tile.end[i]];
      this.draw();
      this.trigger("pick", { lane: row.index, time: Math.floor(middle) });
    }
  }
}

function unpack(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const n = head.count;
  let at = 4 + size;
  const take = (Kind) => {
    const values = new Kind(buffer, at, n);
    at += values.byteLength;
    return values;
  };
  head.start = take(Float64Array);
  head.end = take(Float64Array);
  head.name = take(Uint32Array);
  head.color = take(Uint8Array);
  head.fill = take(Uint8Array);
  return head;
}

function around([a, b]) {
  const room = Math.max(b - a, MIN_VIEW) * 0.25;
  return [a - room, b + room];
}

function shorten(name) {  // void a::b<int>(float*) reads as b<int>(float*)
  const plain = name.replace(/^void /, "").replaceAll("(anonymous namespace)::", ""), end = plain.search(/[<(]/);
  const at = plain.slice(0, end > 0 ? end : plain.length).lastIndexOf("::");
  return at < 0 ? plain : plain.slice(at + 2);
}

function fit(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const half = (low + high + 1) >> 1;
    if (g.measureText(text.slice(0, half) + "…").width <= room) low = half; else high = half - 1;
  }
  return low > 1 ? text.slice(0, low) + "…" : "";
}

function unitOf(ns) {
  return ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
}

function format(ns) {
  const [unit, name] = unitOf(Math.abs(ns));
  return (ns / unit).toPrecision(Math.abs(ns) / unit >= 1000 ? 4 : 3).replace(/\.0+$|(\.\d*?)0+$/, "$1") + " " + name;
}

function axisLabel(t, step, duration) {
  const [unit, name] = unitOf(duration);
  const digits = Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9));
  return (t / unit).toFixed(digits) + " " + name;
}

function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.3 ? "#FFFFFF" : "#14181D";
}
