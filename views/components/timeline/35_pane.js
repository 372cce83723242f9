// One recording on the canvas: its layout, its tiles, and which of its rows are on screen.
const TITLE = 25;           // px, above each of two recordings
const ROWS_AHEAD = 0.4;     // of the pane's height, fetched above and below what is on screen
const MOST_IN_FLIGHT = 2;
const RETRIES = 5, FIRST_RETRY = 1500, HITS_RETRY = 400;  // ms; each retry waits twice as long

class Pane {
  constructor(timeline, place) {
    this.timeline = timeline;
    this.place = place;
    this.inFlight = new Set();
    this.top = this.height = this.scroll = this.loads = 0;
    this.shown = [];
    this.gutter = new Gutter(this);
  }

  update(given) {
    const other = this.given?.key !== given.key;
    this.given = given;
    this.gutter.setTitle(given.name);
    if (other) this.open();
    else if (this.error) this.retry();  // what was refused may have come with an old token
  }

  close() {
    this.abort();
    clearTimeout(this.retrying);
    this.gutter.remove();
  }

  abort() {
    for (const request of this.inFlight) request.controller.abort();
    this.inFlight.clear();
  }

  // --- what the server says -----------------------------------------------------------------

  // `purpose`: only requests of the same one replace each other.
  async ask(what, about = {}, signal = undefined, purpose = what) {
    const query = { ...this.given.query, what, ...about };
    return this.timeline.transport.ask(query, purpose + this.place, signal);
  }

  async open() {
    this.abort();
    const key = this.given.key;
    this.opened = key;
    this.layout = this.tiles = this.rows = this.overview = null;
    this.loads = 0;
    this.tried = this.tried ?? 0;
    try {
      const { head } = await this.ask("layout");
      if (this.opened !== key) return;
      this.layout = head;
      this.tiles = new Tiles(head.duration);
      this.arrangement = new Arrangement(head, this.place);
      this.fail("");
      this.arrange();
      this.timeline.opened(this);
      this.loadOverview();
    } catch (error) {
      if (this.opened === key) this.fail(error);
    }
  }

  async loadOverview() {
    const lanes = this.layout.minimap, tiles = this.tiles;
    if (!lanes.length) return;
    const bins = clamp(Math.round(this.timeline.room() / PIXELS_A_BIN), 100, 1500);
    const plan = { start: 0, end: this.tiles.duration, bins, find: "" };
    try {
      const answer = await this.ask("tile", { ...asked(plan), lanes: ranges(lanes) }, undefined, "overview");
      if (this.tiles !== tiles) return;
      this.overview = answer;
      this.timeline.minimap.forget();
      this.timeline.redraw();
    } catch { /* the lanes tell what is wrong */ }
  }

  plan() {
    const { view, find } = this.timeline, offset = this.given.offset || 0;
    return this.tiles.plan(view[0] + offset, view[1] + offset, this.timeline.room(), find);
  }

  // Ask for what is on screen, or nearly so, and neither there nor on its way.
  load() {
    const plan = this.layout && this.height > 0 && this.plan();
    if (!plan) return;
    const coming = (lane) => [...this.inFlight].some(
      (r) => r.lanes.has(lane) && r.plan.find === plan.find && serves(r.plan, plan));
    const lanes = [...this.near()].filter((lane) => !this.tiles.has(lane, plan) && !coming(lane));
    if (!lanes.length) return;
    for (const request of this.inFlight) if (!stillUseful(request.plan, plan)) this.drop(request);
    if (this.inFlight.size < MOST_IN_FLIGHT) this.fetch(plan, lanes);
  }

  drop(request) {
    request.controller.abort();
    this.inFlight.delete(request);
  }

  async fetch(plan, lanes) {
    const request = { plan, lanes: new Set(lanes), controller: new AbortController(), at: performance.now() };
    const tiles = this.tiles, { stats } = this.timeline;
    this.inFlight.add(request);
    try {
      const query = { ...asked(plan), lanes: ranges(lanes) };
      const answer = await this.ask("tile", query, request.controller.signal);
      this.inFlight.delete(request);
      if (this.tiles !== tiles) return;
      answer.at = request.at;
      tiles.add(plan, lanes, answer);
      this.loads += 1;
      stats.loads += 1;
      this.fail("");
      if (plan.find && answer.head.hits_known === false) this.retrySoon(HITS_RETRY);
      this.timeline.redraw();
      this.load();
    } catch (error) {
      this.inFlight.delete(request);
      if (error.name === "AbortError") this.timeline.loadSoon();
      else if (this.tiles === tiles) this.fail(error);
    }
  }

  fail(error) {
    this.error = error ? String(error.message || error) : "";
    this.timeline.words.note(this);
    clearTimeout(this.retrying);
    if (!error) this.tried = 0;
    else if (this.tried < RETRIES) this.retrySoon(FIRST_RETRY * 2 ** this.tried++);
  }

  retrySoon(after) { this.retrying = setTimeout(() => this.retry(), after); }

  retry() {
    if (!this.layout) this.open();
    else {
      this.tiles.forgetUnknownHits();
      this.load();
    }
  }

  // --- rows ---------------------------------------------------------------------------------

  arrange() {
    this.rows = rowsOf(this.layout, this.arrangement);
    this.timeline.measureRoom();
  }

  get titleHeight() { return this.timeline.panes.length > 1 ? TITLE : 0; }
  get headHeight() { return this.titleHeight + (this.rows?.pinnedHeight || 0); }
  get wanted() { return this.titleHeight + (this.rows ? this.rows.pinnedHeight + this.rows.height : 60); }
  get listTop() { return this.top + this.headHeight; }
  get listHeight() { return Math.max(this.height - this.headHeight, 0); }
  get furthest() { return Math.max((this.rows?.height || 0) - this.listHeight, 0); }

  // True when there was further to go.
  scrollBy(dy) {
    const before = this.scroll;
    this.scroll = clamp(this.scroll + dy, 0, this.furthest);
    if (this.scroll === before) return false;
    this.timeline.moved();
    return true;
  }

  // Before each frame: which rows are on screen, and where.
  settle() {
    this.scroll = clamp(this.scroll, 0, this.furthest);
    this.shown = [];
    if (!this.rows) return;
    const pinnedTop = this.top + this.titleHeight;
    for (const row of this.rows.pinned) this.shown.push({ row, y: pinnedTop + row.y, h: row.h, pinned: true });
    const listed = between(this.rows.list, this.scroll, this.scroll + this.listHeight);
    for (const row of listed) this.shown.push({ row, y: this.listTop + row.y - this.scroll, h: row.h });
  }

  near() {
    const ahead = ROWS_AHEAD * this.listHeight, lanes = new Set();
    const listed = between(this.rows.list, this.scroll - ahead, this.scroll + this.listHeight + ahead);
    for (const row of [...this.rows.pinned, ...listed]) {
      const lane = row.heading ? row.summary : row.lane;
      if (lane !== null && lane !== undefined) lanes.add(lane);
    }
    return lanes;
  }

  // Open the group of a lane and scroll to it.
  reveal(lane) {
    const group = this.layout?.groups.find((g) => g.lanes.includes(lane));
    if (!group) return;
    if (!this.arrangement.open.get(group.id)) {
      this.arrangement.toggle(group.id);
      this.arrange();
    }
    const row = this.rows.byLane.get(lane);
    this.scrollTo(row.y, row.h);
  }

  scrollTo(y, h) {
    const room = this.listHeight, air = Math.min(40, room / 4);
    if (y < this.scroll + 2) this.scroll = y - air;
    else if (y + h > this.scroll + room - 2) this.scroll = y + h - room + air;
    else return;
    this.scroll = clamp(this.scroll, 0, this.furthest);
    this.timeline.moved();
  }

  // Where a lane is on the canvas: in its row, else in the heading that hides it, even off screen.
  whereIs(lane) {
    const pinned = this.shown.find((item) => item.pinned && item.row.lane === lane);
    if (pinned) return pinned;
    const row = this.rows?.byLane.get(lane)
      || this.rows?.list.find((r) => r.heading && r.group.lanes.includes(lane));
    return row && { row, y: this.listTop + row.y - this.scroll, h: row.h };
  }
}

function asked({ start, end, bins, find }) {
  const query = { start: Math.floor(start), end: Math.ceil(end), bins };
  return find ? { ...query, find } : query;
}

function stillUseful(plan, wanted) {
  return plan.find === wanted.find && Math.abs(plan.level - wanted.level) <= 1
    && plan.start < wanted.to && plan.end > wanted.from;
}
