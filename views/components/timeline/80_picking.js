// What is where on the canvas, and the event that the reader picked.
const REACH = 1.5;           // px beside a mark that still count as on it
const LEAST_SHARE = 0.02;    // of the view, that an event fills after a jump to it
const FURTHER = 8;           // times as far, where there is no neighbour
const MOST_BINS = 4000;      // that the server gives

// The mark at a point of the canvas: { pane, row, info, lane, part, i, start, end } on the axis.
function markAt(timeline, x, y) {
  if (x < timeline.gutter || x > timeline.width) return null;
  for (const pane of timeline.panes) {
    const item = itemAt(pane, y);
    const lane = item && (item.row.heading ? item.row.summary : item.row.lane);
    if (lane === null || lane === undefined || !pane.current) continue;
    const offset = pane.given.offset || 0, t = timeline.time(x) + offset, reach = REACH / timeline.scale();
    const info = pane.layout.lanes[lane], rough = { t, reach, share: (item.y + item.h - y) / item.h };
    for (const { part } of pane.tiles.segments(lane, t - reach, t + reach, pane.current)) {
      const i = part.counter ? sampleAt(part, rough) : eventAt(part, rough, info.kind === "ledger" && !part.exact);
      if (i < 0) continue;
      const { columns } = part.answer;
      const [start, end] = part.counter ? [columns.time[i], columns.until[i]] : [columns.start[i], columns.end[i]];
      return { pane, row: item.row, info, lane, part, i, start: start - offset, end: end - offset };
    }
  }
  return null;
}

function itemAt(pane, y) {
  if (y < pane.top + pane.titleHeight || y >= pane.top + pane.height) return null;
  const pinned = y < pane.listTop;
  return pane.shown.find((item) => !!item.pinned === pinned && y >= item.y && y < item.y + item.h);
}

function sampleAt({ answer, first, last }, { t }) {
  const { time, until } = answer.columns, i = above(until, first, last, t);
  return i < last && time[i] <= t ? i : -1;
}

function eventAt({ answer, first, last }, { t, reach, share }, stacked) {
  const { start, end, fill } = answer.columns;
  let i = above(end, first, last, stacked ? t : t - reach), best = -1, filled = 0;
  for (; i < last && start[i] <= t + (stacked ? 0 : reach); i++) {
    if (stacked) {
      filled += fill[i] / 255;
      best = i;
      if (filled >= share) return i;
    } else if (best < 0 || start[i] <= t) best = i;  // what covers the point, before what is near it
  }
  return best;
}

class Picking {
  constructor(timeline) {
    this.timeline = timeline;
    this.picked = null;
    this.round = 0;
  }

  // The reader clicked.
  click(x, y) {
    const { timeline } = this, hit = markAt(timeline, x, y);
    if (!hit || hit.part.counter) {
      if (this.picked) this.drop();
      return;
    }
    const { columns, head } = hit.part.answer, offset = hit.pane.given.offset || 0;
    if (this.isPicked(hit)) return;  // the second click of two
    this.take({
      recording: hit.pane.place, event: columns.event[hit.i], lane: hit.lane,
      start: hit.start + offset, end: hit.end + offset, name: head.names[columns.name[hit.i]],
    });
  }

  take(picked, { tell = true, then } = {}) {
    this.picked = picked;
    this.timeline.redraw();
    if (tell) this.tell(picked.recording, picked.event);
    this.timeline.dock.show(picked);
    this.learn(picked, then);
  }

  isPicked({ pane, part, i }) {
    const { picked } = this;
    return picked?.recording === pane.place && picked.event === part.answer.columns.event?.[i];
  }

  // A state and no trigger: one that comes while the page is drawn anew is not lost.
  tell(recording, event) {
    const { timeline } = this;
    timeline.tell("pick", { key: timeline.given.view_key, recording, event });
  }

  // The reader no longer wants it picked.
  drop() {
    this.tell(this.picked.recording, -1);
    this.clear();
  }

  clear() {
    this.picked = null;
    this.round += 1;
    this.timeline.dock.changed();
    this.timeline.words.speak("Nothing is selected");
    this.timeline.redraw();
  }

  // All about it: its exact times, the calls and ranges that it belongs to.
  async learn(picked, then) {
    const round = ++this.round, pane = this.timeline.panes[picked.recording];
    if (!pane) return;
    try {
      const { head } = await pane.ask("event", { event: picked.event });
      if (round !== this.round) return;
      this.picked = { ...picked, ...head };
      this.timeline.dock.show(this.picked);
      then?.(this.picked);
      this.timeline.words.picked(this.picked, pane);
      this.timeline.redraw();
    } catch (error) {
      if (round === this.round && error.name !== "AbortError") this.timeline.words.note(pane, String(error.message || error));
    }
  }

  // To the longest event of a bin: its first click picked it, but where it lies may still be asked.
  zoomTo(hit) {
    if (!this.isPicked(hit)) return;
    if (this.picked.chain) this.timeline.zoomToPicked();
    else this.learn(this.picked, () => this.timeline.zoomToPicked());
  }

  // To an event found elsewhere: pick it, show its lane, and its time.
  go(found, options) {
    this.take({ ...found }, options);
    this.reveal(found);
  }

  // To an event of which only the number is known.
  async goTo(recording, event) {
    const { timeline } = this, pane = timeline.panes[recording];
    try {
      const { head } = await pane.ask("event", { event });
      this.go({ recording, ...head });
    } catch (error) {
      if (error.name !== "AbortError") timeline.words.note(pane, String(error.message || error));
    }
  }

  // Along the chain of the picked event: to its cause, or to what it caused.
  follow(direction) {
    const { picked } = this, chain = picked?.chain || [];
    const place = chain.findIndex((link) => link.event === picked.event), next = chain[place + direction];
    if (place >= 0 && next) this.goAlong(next);
  }

  // To another event of the chain: what is known of the chain stays until the server has answered.
  goAlong(link) {
    const { recording, chain, arrows } = this.picked;
    this.go({ recording, chain, arrows, ...link });
  }

  reveal({ recording, lane, start, end }) {
    const { timeline } = this, pane = timeline.panes[recording], offset = pane.given.offset || 0;
    pane.reveal(lane);
    timeline.active = pane;
    const [a, b] = timeline.view, length = Math.max(end - start, 1), middle = (start + end) / 2 - offset;
    let room = b - a;
    if (length < LEAST_SHARE * room) room = Math.max(length / LEAST_SHARE, MIN_VIEW);
    if (length > 0.9 * room) room = length * 1.25;
    timeline.show(middle - room / 2, middle + room / 2);
  }

  // To the event before or after the picked one in its lane, however far away.
  async neighbour(direction) {
    const { timeline, picked } = this, pane = picked && timeline.panes[picked.recording];
    if (!picked) return this.first();
    if (!pane?.tiles || picked.start === undefined) return;
    const [a, b] = timeline.view;
    try {
      for (let reach = b - a; ; reach *= FURTHER) {
        const next = await this.beside(pane, picked, direction, reach);
        if (this.picked?.event !== picked.event) return;
        if (next) return this.go({ recording: picked.recording, lane: picked.lane, ...next });
        if (reach > pane.tiles.duration) return;
      }
    } catch (error) {
      if (error.name !== "AbortError") timeline.words.note(pane, String(error.message || error));
    }
  }

  // Without a mouse: the event nearest the view's middle in the first lane of events on screen.
  first() {
    const { timeline } = this, pane = timeline.active || timeline.panes[0];
    const rows = pane?.shown.filter(({ row }) => row.info?.kind === "events") || [];
    for (const { y, h } of rows) {
      const middle = (timeline.gutter + timeline.width) / 2, half = timeline.room() / 2;
      for (let away = 0; away < half; away += 4) {
        for (const x of [middle + away, middle - away]) {
          const hit = markAt(timeline, x, y + h / 2);
          if (hit && !hit.part.counter) return this.click(x, y + h / 2);
        }
      }
    }
  }

  // What lies next to the picked event within `reach` ns of it, null when nothing does.
  async beside(pane, picked, direction, reach) {
    const { lane, event, start, end } = picked, forward = direction > 0;
    const span = forward ? { start: end, end: end + reach } : { start: start - reach, end: start };
    const query = { ...asked({ ...span, bins: MOST_BINS, find: "" }), lanes: String(lane) };
    const { head, columns } = await pane.ask("tile", query, undefined, "beside");
    const { first, count, exact } = head.lanes[0], last = first + count - 1;
    let i = forward ? first : last;
    while (i >= first && i <= last && columns.event[i] === event) i += direction;
    if (i < first || i > last) return null;
    // Of a bin only its longest event is known: look closer.
    const closer = forward ? columns.end[i] - end : start - columns.start[i];
    if (!exact && closer < reach / 2) return this.beside(pane, picked, direction, closer);
    const name = head.names[columns.name[i]];
    return { event: columns.event[i], start: columns.start[i], end: columns.end[i], name };
  }
}
