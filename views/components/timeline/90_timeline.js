// The timeline: what is in view, and the order in which everything happens.
const MIN_VIEW = 100;         // ns
const SLACK = 0.05;           // of the recording, beyond its ends
const FETCH_AFTER = 40, FETCH_EVERY = 120, TELL_AFTER = 350;  // ms
const GUTTER = 190, GUTTER_SHARE = 0.27, LEAST_GUTTER = 96;                     // px
const BAR = 11;  // px on the right, for the scrollbars
const HEIGHT_SHARE = 0.62, LEAST_HEIGHT_PX = 320, LEAST_LIST = 160;  // of one that is a part of a page
const LEAST_STAGE = 300, BELOW_STAGE = 8;  // px of one that fills the window

class Timeline {
  constructor(parent) {
    this.root = parent.querySelector(".timeline");
    this.frame = this.root.querySelector(".frame");
    this.stage = this.root.querySelector(".stage");
    this.canvas = this.root.querySelector("canvas");
    this.g = this.canvas.getContext("2d", { alpha: false });
    this.stats = {
      loads: 0, draws: 0, marks: 0, error: "", lastInput: 0, lastPixels: 0, frameTime: 0,
    };
    Object.defineProperty(this.stats, "pending", { enumerable: true, get: () => this.pending });
    Object.defineProperty(this.stats, "transport", { enumerable: true, get: () => this.transport.mode });
    this.life = new AbortController();
    this.transport = new Transport();
    this.panes = [];
    this.palette = this.inks = this.colors = [];
    this.view = [0, 1];
    this.gutter = GUTTER;
    this.width = this.height = this.top = 0;
    this.minimap = new Minimap(this);
    this.painter = new Painter(this);
    this.picking = new Picking(this);
    this.measure = new Measure(this);
    this.notes = new Notes(this);
    this.dock = new Dock(this);
    this.help = new Help(this);
    this.search = new Search(this);
    this.hover = new Hover(this);
    this.words = new Words(this);
    this.input = new Input(this);
    this.buttons();
    this.watch();
  }

  buttons() {
    const on = (name, act) => { this.root.querySelector(".bar ." + name).onclick = act; };
    on("in", () => this.zoom(0.5, this.middle()));
    on("out", () => this.zoom(2, this.middle()));
    on("window", () => this.showWindow());
    on("all", () => this.showAll());
    on("mark", () => this.showMark());
    on("focus", () => this.setFocused(!this.focused));
    on("earlier", () => this.trigger("align", this.given.align.chosen - 1));
    on("later", () => this.trigger("align", this.given.align.chosen + 1));
  }

  watch() {
    const resized = () => this.given && this.measureRoom(), { signal } = this.life;
    const observer = new ResizeObserver(resized);
    observer.observe(this.root);
    signal.addEventListener("abort", () => observer.disconnect());
    window.addEventListener("resize", resized, { signal });  // its height, which the root does not show
    // What was measured or drawn before the page's font came has other widths.
    document.fonts?.addEventListener("loadingdone", () => {
      forgetWidths();
      this.minimap.forget();
      this.redraw();
    }, { signal });
  }

  // The page has gone: nothing outside may hold what was fetched.
  close() {
    this.life.abort();
    for (const pane of this.panes) pane.close();
    cancelAnimationFrame(this.frameAsked);
    for (const timer of [this.loading, this.telling, this.search.typing, this.words.saying]) clearTimeout(timer);
    if (window.__whyslow_timeline === this) delete window.__whyslow_timeline;
  }

  // --- what Python says ---------------------------------------------------------------------

  update(given, answer, { setStateValue, setTriggerValue }) {
    const before = this.given || {}, shown = identities(before), moved = offsets(before);
    this.given = given;
    this.tell = setStateValue;
    this.trigger = setTriggerValue;
    Object.assign(this.transport, { url: given.url, token: given.token });
    this.transport.bring = (asked) => setStateValue("ask", asked);
    if (given.answer_to !== null && given.answer_to !== undefined) this.transport.receive(given.answer_to, answer);
    this.palette = given.palette;
    this.colors = given.colors;
    this.inks = given.palette.map(inkOn);
    this.theme = readTheme(this.root);
    this.minimap.forget();
    this.updatePanes(given.recordings);
    if (shown !== identities(given)) this.forget();
    else if (moved !== offsets(given) && this.measured) this.measure.ask();
    if (given.view_key !== before.view_key) this.jump(given.view);
    if (given.find_key !== before.find_key) this.search.set(given.find || "", false);
    if (given.picked_key !== before.picked_key) {
      this.pickGiven(given.picked);
      this.notes.take(given.notes);
    }
    this.search.formsGiven = given.forms;
    this.words.dress();
    this.measureRoom();
    window.__whyslow_timeline = this;
  }

  updatePanes(recordings) {
    while (this.panes.length > recordings.length) this.panes.pop().close();
    while (this.panes.length < recordings.length) this.panes.push(new Pane(this, this.panes.length));
    recordings.forEach((recording, n) => this.panes[n].update(recording));
    if (!this.panes.includes(this.active)) this.active = null;
  }

  // Other recordings, another window or device: what was asked about those before is no answer now.
  forget() {
    if (this.measured) this.measure.close();
    if (this.picked) this.picking.clear();
    this.search.again();
  }

  pickGiven(picked) {
    const now = this.picking.picked;
    this.toPick = null;
    if (!picked || picked.event < 0) {
      if (now) this.picking.clear();
    } else if (now?.recording !== picked.recording || now?.event !== picked.event) {
      this.toPick = picked;
      this.takeGiven();
    }
  }

  takeGiven() {
    const pane = this.toPick && this.panes[this.toPick.recording];
    if (!pane?.layout) return;  // asked again when it has come
    const then = ({ lane }) => pane.reveal(lane);
    this.picking.take({ ...this.toPick }, { tell: false, then });
    this.toPick = null;
  }

  // A pane's layout has come.
  opened() {
    this.takeGiven();
    this.words.dress();
    this.minimap.forget();
    this.view = this.clamped(...this.view);
    this.moved();
  }

  // --- room ---------------------------------------------------------------------------------

  room() { return Math.max(this.width - this.gutter, 1); }

  measureRoom() {
    this.stageWidth = this.root.clientWidth;
    this.stageHeight = this.roomForStage();
    const ratio = window.devicePixelRatio || 1, [beside] = this.dock.taken(this.stageWidth, this.stageHeight);
    const width = Math.max(this.stageWidth - beside, 240);
    if (width !== this.outer || ratio !== this.ratio) this.minimap.forget();
    this.outer = width;
    this.width = width - BAR;
    this.ratio = ratio;
    this.gutter = Math.round(clamp(width * GUTTER_SHARE, LEAST_GUTTER, GUTTER));
    this.share();
    this.moved();
  }

  get fills() { return this.focused || this.given?.whole_page; }

  // How high the stage is that reaches from where it begins to the window's foot.
  roomForStage() {
    if (!this.fills) return 0;
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]") || document.scrollingElement;
    const scrolled = this.focused ? 0 : scroller?.scrollTop || 0;
    const top = this.stage.getBoundingClientRect().top + scrolled;
    const foot = this.root.querySelector(".foot").offsetHeight + BELOW_STAGE;
    return Math.max(Math.floor(window.innerHeight - top - foot), LEAST_STAGE);
  }

  // Only the timeline, over the whole window.
  setFocused(focused) {
    this.focused = focused;
    this.root.classList.toggle("focused", focused);
    const button = this.root.querySelector(".bar .focus");
    button.setAttribute("aria-pressed", String(focused));
    button.textContent = focused ? "Leave focus" : "Focus";
    this.measureRoom();
    if (!this.root.contains(this.root.getRootNode().activeElement)) this.canvas.focus({ preventScroll: true });
  }

  // How high each recording's pane is: as its content, or its fair part of the height there is.
  share() {
    const pinned = this.panes.reduce((sum, pane) => sum + pane.headHeight, 0), axis = this.minimap.height + AXIS;
    const [, below] = this.dock.taken(this.stageWidth, this.stageHeight);
    const fair = Math.max(HEIGHT_SHARE * window.innerHeight, LEAST_HEIGHT_PX);
    const most = this.fills
      ? Math.max(this.stageHeight - below - axis - 2, LEAST_LIST)
      : Math.max(fair, pinned + LEAST_LIST * this.panes.length);
    let left = Math.round(most), waiting = [...this.panes].sort((one, other) => one.wanted - other.wanted);
    for (; waiting.length; waiting = waiting.slice(1)) {
      waiting[0].height = Math.min(waiting[0].wanted, Math.floor(left / waiting.length));
      left -= waiting[0].height;
    }
    if (this.fills && this.panes.length) this.panes.at(-1).height += left;
    this.top = axis;
    let y = this.top;
    for (const pane of this.panes) {
      pane.top = y;
      y += pane.height;
    }
    this.dock.place(this.stageWidth, this.fills ? this.stageHeight : y);
    if (y !== this.height || this.canvas.width !== Math.round(this.outer * this.ratio)) this.resize(y);
  }

  resize(height) {
    this.height = height;
    this.canvas.width = Math.round(this.outer * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.canvas.style.height = height + "px";
    if (this.given && this.panes.length) this.draw();  // a canvas that was resized is blank
  }

  // --- the view -----------------------------------------------------------------------------

  get find() { return this.search.wrong ? "" : this.search.text; }
  get picked() { return this.picking.picked; }
  get measured() { return this.measure.span && { span: this.measure.span, answers: this.measure.answers }; }
  get found() { return this.search.found; }
  get rows() {
    return this.panes.flatMap((pane) => pane.shown.map(({ row, y, h, pinned }) => ({
      y, h, recording: pane.place, lane: row.heading ? null : row.lane, pinned: !!pinned,
      heading: row.heading ? row.group.title : null, label: row.info?.label ?? null, kind: row.info?.kind ?? null,
    })));
  }

  scale() { return this.room() / (this.view[1] - this.view[0]); }
  x(t) { return this.gutter + (t - this.view[0]) * this.scale(); }
  time(x) { return this.view[0] + (x - this.gutter) / this.scale(); }
  middle() { return (this.view[0] + this.view[1]) / 2; }
  at(x, y) { return markAt(this, x, y); }
  paneAt(y) { return this.panes.find((pane) => y >= pane.top && y < pane.top + pane.height) || null; }

  // From the first moment of any recording to the last, on the axis.
  extent() {
    const ends = this.panes.map((pane) => {
      const offset = pane.given.offset || 0;
      if (pane.layout) return [-offset, pane.layout.duration - offset];
      return [pane.given.window[0] - offset, pane.given.window[1] - offset];
    });
    const first = Math.min(...ends.map(([a]) => a));
    return [first, Math.max(...ends.map(([, b]) => b), first + MIN_VIEW)];
  }

  clamped(a, b) {
    const [first, last] = this.extent(), whole = last - first;
    const length = clamp(b - a, MIN_VIEW, whole * (1 + 2 * SLACK));
    const middle = (a + b) / 2;
    if (b - a !== length) a = middle - length / 2;
    const low = first - SLACK * whole, high = last + SLACK * whole;
    // Near a window that reaches beyond the recording the view may stay where it was asked for.
    a = clamp(a, low, Math.max(high - length, low));
    return [a, a + length];
  }

  jump(view) {
    this.hover.hide();
    this.view = this.panes.every((pane) => pane.layout) ? this.clamped(...view) : view.slice();
    this.moved();
  }

  show(a, b) {
    this.view = this.clamped(a, b);
    this.hover.hide();
    this.moved();
    clearTimeout(this.telling);
    const key = this.given.view_key;
    this.telling = setTimeout(() => this.tell("view", { key, at: this.view.map(Math.round) }), TELL_AFTER);
  }

  zoom(factor, at) {
    const [a, b] = this.view;
    this.show(at - (at - a) * factor, at + (b - at) * factor);
  }

  pan(by) { this.show(this.view[0] + by, this.view[1] + by); }
  showAll() { this.show(...this.extent()); }

  showWindow() {
    const spans = this.panes.map(({ given }) => given.window.map((t) => t - (given.offset || 0)));
    this.show(Math.min(...spans.map(([a]) => a)), Math.max(...spans.map(([, b]) => b)));
  }

  showMark() {
    const { given } = this.panes.find((pane) => pane.given.mark);
    this.show(...around(given.mark.map((t) => t - (given.offset || 0))));
  }

  // As in Perfetto: to the middle at first; when it is there already, so near that it fills the view.
  fit() {
    const { picked } = this;
    if (picked?.start === undefined) return this.showWindow();
    const pane = this.panes[picked.recording], offset = pane.given.offset || 0;
    pane.reveal(picked.lane);
    const [from, to] = [picked.start - offset, picked.end - offset], middle = (from + to) / 2, [a, b] = this.view;
    const isCentred = Math.abs(middle - this.middle()) * this.scale() < 2;
    if (isCentred || to - from > b - a) this.show(...around([from, to]));
    else this.pan(middle - this.middle());
  }

  zoomToPicked() {
    const { picked } = this, offset = this.panes[picked.recording].given.offset || 0;
    this.panes[picked.recording].reveal(picked.lane);
    this.show(...around([picked.start - offset, picked.end - offset]));
  }

  // A click on the axis: a flag is opened, elsewhere a moment is marked.
  markAxis(x, y) {
    const note = this.notes.at(x, y), t = this.time(x);
    if (note) this.notes.edit(note);
    else this.notes.add(t, t);
  }

  pick(x, y) { this.picking.click(x, y); }
  go(found) { this.picking.go(found); }
  reveal(event) { this.picking.reveal(event); }
  neighbour(direction) { this.picking.neighbour(direction); }

  tellFind(text) { this.tell("find", { key: this.given.find_key, text }); }

  // One thing for each press: the measure, the picked event, the search, the focus.
  escape() {
    if (this.help.root.open) this.help.root.close();
    else if (this.measure.span) this.measure.close();
    else if (this.picked) this.picking.drop();
    else if (this.search.text) this.search.clear();
    else if (this.focused) this.setFocused(false);
  }

  // --- drawing and fetching -----------------------------------------------------------------

  // Something else is in view now.
  moved() {
    this.redraw();
    this.loadSoon();
  }

  redraw() { this.frameAsked ||= requestAnimationFrame(() => this.draw()); }

  // After a pause, but not seldom while the view keeps moving.
  loadSoon() {
    if (this.life.signal.aborted) return;
    const now = performance.now();
    clearTimeout(this.loading);
    this.movedAt ||= now;
    const since = now - (this.loadedAt || 0);
    const wait = since > FETCH_EVERY ? 0 : Math.min(FETCH_AFTER, FETCH_EVERY - since);
    this.loading = setTimeout(() => {
      this.loading = null;
      this.loadedAt = performance.now();
      for (const pane of this.panes) pane.load();
    }, wait);
  }

  get pending() {
    return this.transport.active + this.search.pending + (this.loading ? 1 : 0) + (this.frameAsked ? 1 : 0);
  }

  get ready() {
    return this.panes.length > 0 && this.panes.every((pane) => pane.layout && pane.drawn)
      && this.stats.draws > 0;
  }

  draw() {
    cancelAnimationFrame(this.frameAsked);
    this.frameAsked = null;
    if (!this.given || !this.width) return;
    const began = performance.now(), { stats } = this;
    this.share();
    for (const pane of this.panes) {
      pane.settle();
      if (pane.tiles) pane.tiles.frame += 1;
    }
    stats.marks = this.painter.frame(this.g);
    for (const pane of this.panes) {
      pane.gutter.sync();
      pane.drawn = pane.layout && (pane.loads > 0 || !pane.layout.lanes.length);
    }
    this.notes.place();
    stats.draws += 1;
    stats.frameTime = performance.now() - began;
    if (stats.lastPixels < stats.lastInput && this.sharp()) stats.lastPixels = performance.now();
    this.words.say();
  }

  // Whether everything on screen is drawn at the resolution that is right for the view.
  sharp() {
    return this.panes.every((pane) => pane.current && pane.shown.every(({ row }) => {
      const lane = row.heading ? row.summary : row.lane;
      if (lane === null || lane === undefined) return true;
      const { current, tiles } = pane, plan = { ...current, from: current.seenFrom, to: current.seenTo };
      return tiles.has(lane, plan);
    }));
  }
}

function identities({ recordings = [] }) { return recordings.map(({ key }) => key).join("\n"); }

function offsets({ recordings = [] }) { return recordings.map(({ offset }) => offset || 0).join(); }
