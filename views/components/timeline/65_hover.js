// What is under the pointer: the event, and the moment.
class Hover {
  constructor(timeline) {
    this.timeline = timeline;
    this.tip = timeline.root.querySelector(".tip");
    this.cursor = timeline.root.querySelector(".cursor");
    this.moment = timeline.root.querySelector(".moment");
  }

  hide() {
    if (!this.shown) return;
    this.shown = false;
    this.tip.hidden = this.cursor.hidden = this.moment.hidden = true;
  }

  show(x, y) {
    const { timeline } = this;
    if (x < timeline.gutter || x > timeline.width) return this.hide();
    this.shown = true;
    this.line(x);
    const hit = timeline.at(x, y);
    this.tip.hidden = !hit;
    if (!hit) return;
    const [title, ...more] = this.words(hit, x);
    this.tip.replaceChildren(element("b", "", title), ...more);
    const box = this.tip.getBoundingClientRect(), frame = timeline.frame;
    const left = clamp(x + 14, 4, Math.max(timeline.width - box.width - 4, 4));
    const below = frame.offsetTop + y + 18, above = frame.offsetTop + y - box.height - 10;
    // Below the pointer, unless that is outside the window.
    const room = window.innerHeight - timeline.canvas.getBoundingClientRect().top - y;
    this.tip.style.transform = `translate(${left}px, ${room < box.height + 30 ? above : below}px)`;
  }

  line(x) {
    const { timeline } = this, top = timeline.minimap.height, t = timeline.time(x);
    this.cursor.hidden = this.moment.hidden = false;
    this.cursor.style.cssText = `transform:translateX(${Math.round(x)}px);top:${top}px;height:${timeline.height - top}px`;
    this.moment.textContent = moment(t, 1 / timeline.scale());
    this.moment.style.top = top + 3 + "px";
    const w = this.moment.offsetWidth;
    this.moment.style.transform = `translateX(${clamp(x - w / 2, timeline.gutter, Math.max(timeline.width - w, 0))}px)`;
  }

  words(hit, x) {
    const { part, i, info } = hit, { columns, head } = part.answer;
    if (part.counter) return this.counterWords(hit, x);
    const length = columns.end[i] - columns.start[i];
    const name = head.names[columns.name[i]] ?? "";
    const where = `${hit.row.group.title} · ${(hit.row.head || hit.row).info?.label || info.label}`;
    const place = element("span", "where", where);
    if (part.exact) return [name, line(`${duration(length)}, from ${moment(hit.start, 1)}`), place];
    if (info.kind === "ledger") return [`${duration(length)} from ${moment(hit.start, length / 10)}`, this.shares(hit), place];
    const busy = percent(columns.fill[i] / 255);
    return [name, line(`longest in this ${duration(length)}; the lane is ${busy} busy here`), place];
  }

  counterWords({ part, i, info, row }) {
    const { low, high, time, until } = part.answer.columns;
    const value = part.exact || low[i] === high[i]
      ? amount(high[i], info.unit) : `${amount(low[i], "")} to ${amount(high[i], info.unit)}`;
    const length = until[i] - time[i];
    return [value, line(part.exact ? `for ${duration(length)}` : `lowest and highest in ${duration(length)}`),
      element("span", "where", `${row.group.title} · ${info.label}`)];
  }

  // The rows of the ledger that share one bin, the one under the pointer in bold.
  shares({ part, i }) {
    const { start, color, fill } = part.answer.columns, { palette, colors } = this.timeline;
    let first = i, last = i;
    while (first > part.first && start[first - 1] === start[i]) first -= 1;
    while (last + 1 < part.last && start[last + 1] === start[i]) last += 1;
    const list = element("span", "shares");
    for (let k = last; k >= first; k--) {  // as they are stacked, from the top
      if (!fill[k]) continue;
      const entry = element("span", k === i ? "this" : ""), swatch = element("i");
      swatch.style.background = palette[color[k]];
      entry.append(swatch, element("span", "", colors[color[k]]), element("em", "", percent(fill[k] / 255)));
      list.append(entry);
    }
    return list;
  }
}

function line(text) { return element("span", "line", text); }
