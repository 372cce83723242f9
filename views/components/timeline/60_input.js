// Wheel, pointer and keys on the canvas.
const WHEEL_SPEED = 0.003, PINCH_SPEED = 0.01, LINE = 16;  // a pinch comes as small steps with ctrl
const GESTURE_ENDS = 180;                                  // ms without a step of the wheel
const STEP_IN = 0.6, STEP_ASIDE = 0.2, STEP_DOWN = 42;     // of a key
const CLICK_WITHIN = 4;                                    // px; more is a drag
const LONG_PRESS = 500;                                    // ms; then a finger measures
const SNAP_WITHIN = 6;                                     // px from an event's edge, when measuring

class Input {
  constructor(timeline) {
    this.timeline = timeline;
    this.drag = null;
    this.pointers = new Map();
    this.mouse = null;  // where the pointer is on the canvas
    const { canvas } = timeline;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.cancel(event));
    canvas.addEventListener("pointerleave", () => {
      this.mouse = null;
      timeline.hover.hide();
    });
    // A long press is ours; the menu of the browser would end it.
    canvas.addEventListener("contextmenu", (event) => { if (this.pointers.size) event.preventDefault(); });
    canvas.addEventListener("dblclick", (event) => this.twice(event));
    timeline.root.addEventListener("keydown", (event) => this.key(event));
  }

  wheel(event) {
    const { timeline } = this;
    event.preventDefault();
    timeline.stats.lastInput = performance.now();
    const dx = pixels(event, event.deltaX), dy = pixels(event, event.deltaY);
    if (event.offsetX < timeline.gutter && event.offsetY > timeline.top) return;
    if (!event.ctrlKey && (event.shiftKey || this.sideways(event, dx, dy))) {
      return timeline.pan((event.shiftKey ? dx || dy : dx) / timeline.scale());
    }
    const speed = event.ctrlKey && Math.abs(dy) < 40 ? PINCH_SPEED : WHEEL_SPEED;
    const middle = event.offsetY < timeline.minimap.height ? timeline.middle() : timeline.time(event.offsetX);
    timeline.zoom(Math.exp(Math.sign(dy) * Math.min(Math.abs(dy), 120) * speed), middle);
  }

  // Fingers on a trackpad never move quite straight: a gesture stays what it began as.
  sideways({ timeStamp }, dx, dy) {
    if (timeStamp - (this.wheelAt ?? -Infinity) > GESTURE_ENDS) this.isSideways = Math.abs(dx) > Math.abs(dy);
    this.wheelAt = timeStamp;
    return this.isSideways;
  }

  down(event) {
    const { timeline } = this, { offsetX: x, offsetY: y } = event;
    if (event.button !== 0 && event.button !== 1) return;
    if (event.button === 1) event.preventDefault();
    timeline.canvas.setPointerCapture(event.pointerId);
    timeline.hover.hide();
    this.pointers.set(event.pointerId, { x, y });
    if (this.pointers.size === 2) return this.pinchFrom();
    if (this.pinch) return;
    if (y < timeline.minimap.height) {
      if (x >= timeline.gutter) timeline.minimap.press(x);
      return;
    }
    const pane = timeline.paneAt(y);
    this.drag = { x, y, lastY: y, pane, view: timeline.view.slice(), moved: false };
    if (event.shiftKey) this.measureFrom(this.drag);
    else if (event.pointerType === "touch") this.pressFrom(this.drag);
    if (pane) timeline.active = pane;
  }

  measureFrom(drag) {
    drag.measuring = true;
    drag.from = this.snapped(drag.x, drag.y);
  }

  // A finger has no Shift: one that rests begins to measure, and the band shows it.
  pressFrom(drag) {
    clearTimeout(this.pressing);
    this.pressing = setTimeout(() => {
      if (drag.moved || drag !== this.drag) return;
      this.measureFrom(drag);
      this.timeline.measure.stretch(drag.from, drag.from);
    }, LONG_PRESS);
  }

  // The pointer does something else now, or is gone.
  release() {
    const { drag } = this;
    clearTimeout(this.pressing);
    this.drag = this.timeline.minimap.held = null;
    if (drag?.measuring) this.timeline.measure.end();
  }

  pinchFrom() {
    const [one, other] = [...this.pointers.values()];
    this.release();
    this.pinch = { apart: Math.max(Math.abs(one.x - other.x), 20), middle: (one.x + other.x) / 2, view: this.timeline.view.slice() };
  }

  move(event) {
    const { timeline, drag } = this, { offsetX: x, offsetY: y } = event;
    this.mouse = { x, y };
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, { x, y });
    if (this.pinch && this.pointers.size === 2) return this.pinched();
    if (timeline.minimap.held) return timeline.minimap.drag(x);
    if (!drag) return this.over(event);
    if (Math.hypot(x - drag.x, y - drag.y) > CLICK_WITHIN) drag.moved = true;
    if (!drag.moved) return;
    if (drag.measuring) return timeline.measure.stretch(drag.from, this.snapped(x, y));
    timeline.canvas.style.cursor = "grabbing";
    const by = (x - drag.x) / timeline.scale(), [a, b] = drag.view;
    timeline.show(a - by, b - by);
    drag.pane?.scrollBy(drag.lastY - y);
    drag.lastY = y;
  }

  pinched() {
    const [one, other] = [...this.pointers.values()], { apart, middle, view: [a, b] } = this.pinch;
    const { gutter } = this.timeline, room = this.timeline.room();
    const factor = apart / Math.max(Math.abs(one.x - other.x), 20), length = (b - a) * factor;
    const held = a + (middle - gutter) / room * (b - a);  // stays under the fingers
    const start = held - ((one.x + other.x) / 2 - gutter) / room * length;
    this.timeline.show(start, start + length);
  }

  // An event's edge, if the pointer is near one, so that what is measured is exact.
  snapped(x, y) {
    const { timeline } = this, t = timeline.time(clamp(x, timeline.gutter, timeline.width));
    const hit = timeline.at(x, y);
    if (!hit || !hit.part.exact || hit.part.counter) return t;
    const edges = [hit.start, hit.end].filter((edge) => Math.abs(timeline.x(edge) - x) <= SNAP_WITHIN);
    return edges.sort((one, other) => Math.abs(one - t) - Math.abs(other - t))[0] ?? t;
  }

  over(event) {
    const { timeline } = this, { offsetX: x, offsetY: y } = event, { canvas, minimap } = timeline;
    if (y < minimap.height) {
      timeline.hover.hide();
      const part = x < timeline.gutter ? "" : minimap.part(x);
      canvas.style.cursor = { box: "grab", rest: "pointer", from: "ew-resize", to: "ew-resize" }[part] || "default";
      return;
    }
    const onAxis = y < timeline.top && x >= timeline.gutter && timeline.notes.most[0] > 0;
    canvas.style.cursor = event.shiftKey ? "col-resize" : onAxis ? "pointer" : "default";
    timeline.active = timeline.paneAt(y) || timeline.active;
    timeline.hover.show(x, y);
  }

  up(event) {
    const { timeline, drag } = this;
    this.pointers.delete(event.pointerId);
    if (this.pinch) {
      if (!this.pointers.size) this.pinch = null;
      return;
    }
    this.release();
    timeline.canvas.style.cursor = "default";
    if (!drag || drag.measuring || drag.moved || event.button !== 0) return;
    const { offsetX: x, offsetY: y } = event;
    if (y < timeline.top && x >= timeline.gutter) timeline.markAxis(x, y);
    else timeline.pick(x, y);
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.pinch = null;
    this.release();
  }

  twice(event) {
    const { timeline } = this, hit = timeline.at(event.offsetX, event.offsetY);
    if (!hit || event.offsetY < timeline.top) return;
    if (hit.part.exact || hit.part.counter) timeline.show(...around([hit.start, hit.end]));
    else timeline.picking.zoomTo(hit);
  }

  key(event) {
    const { timeline } = this, { search } = timeline;
    // Composed: the target itself, though the event crosses the component's border.
    const target = event.composedPath()[0];
    if (target === search.box || event.altKey) return;
    const command = event.ctrlKey || event.metaKey;
    const canvas = target === timeline.canvas;
    const act = command ? null : this.acts(event.key)[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    // On buttons only what a button does not need itself.
    if (!act || (!canvas && !/^([a-z/0?,.[\]]|Escape)$/i.test(event.key))) return;
    event.preventDefault();
    event.stopPropagation();
    timeline.stats.lastInput = performance.now();
    if (event.key !== "Shift") timeline.hover.hide();
    act(event);
  }

  acts() {
    const { timeline } = this, { measure, search } = timeline;
    const aside = STEP_ASIDE * (timeline.view[1] - timeline.view[0]), pane = timeline.active || timeline.panes[0];
    const zoom = (factor) => () => timeline.zoom(factor, this.pointed());
    const scroll = (dy) => () => pane?.scrollBy(dy);
    return {
      w: zoom(STEP_IN), s: zoom(1 / STEP_IN), "+": zoom(STEP_IN), "=": zoom(STEP_IN), "-": zoom(1 / STEP_IN),
      a: () => timeline.pan(-aside), d: () => timeline.pan(aside),
      ArrowLeft: () => timeline.pan(-aside), ArrowRight: () => timeline.pan(aside),
      ArrowUp: scroll(-STEP_DOWN), ArrowDown: scroll(STEP_DOWN),
      PageUp: scroll(-0.9 * pane?.listHeight), PageDown: scroll(0.9 * pane?.listHeight),
      Home: scroll(-Infinity), End: scroll(Infinity),
      0: () => timeline.showAll(),
      f: (event) => (event.shiftKey ? timeline.setFocused(!timeline.focused) : timeline.fit()),
      "/": () => search.box.focus(),
      n: (event) => search.go(event.shiftKey ? -1 : 1),
      m: (event) => (event.shiftKey ? timeline.notes.addHere() : measure.selection()),
      "[": () => timeline.picking.follow(-1), "]": () => timeline.picking.follow(1),
      ",": () => timeline.neighbour(-1), ".": () => timeline.neighbour(1),
      q: () => timeline.dock.toggle(),
      "?": () => timeline.help.toggle(),
      Escape: () => timeline.escape(),
    };
  }

  // Keys zoom where the mouse is, if it is on the lanes.
  pointed() {
    const { timeline, mouse } = this;
    const on = mouse && mouse.x >= timeline.gutter && mouse.y >= timeline.minimap.height;
    return on ? timeline.time(mouse.x) : timeline.middle();
  }
}

function pixels(event, delta) {
  return delta * (event.deltaMode === 1 ? LINE : event.deltaMode === 2 ? 400 : 1);
}

function around([a, b]) {
  const room = Math.max(b - a, MIN_VIEW) * 0.25;
  return [a - room, b + room];
}
