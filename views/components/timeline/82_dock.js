// Details beside or below the lanes: they cover nothing and push nothing.
const DOCK = { below: [244, 110], beside: [380, 260] };  // px: at first, and at least
const DOCK_SHARE = 0.6;      // of the stage, at most
const BESIDE_FROM = 900;     // px of the stage's width; below it there is only below
const PART_OF_PAGE = 420;    // px, the height of a stage that does not fill the window
const DOCK_STORE = "whyslow timeline details";

class Dock {
  constructor(timeline) {
    this.timeline = timeline;
    const find = (name) => timeline.root.querySelector(name);
    this.root = find(".dock");
    this.event = find(".dock .event");
    this.names = find(".dock .names");
    this.nothing = find(".dock .nothing");
    this.edge = find(".dock .edge");
    this.toggler = find(".bar .details");
    this.table = new NameTable(timeline, this.names);
    const kept = this.read();
    this.side = kept.side === "beside" ? "beside" : "below";
    this.sizes = { below: DOCK.below[0], beside: DOCK.beside[0], ...kept.sizes };
    this.open = false;
    fillIcon(find(".dock .side"), "sides");
    fillIcon(find(".dock .close"), "close");
    find(".dock .close").onclick = () => this.toggle();
    find(".dock .side").onclick = () => this.turn();
    this.toggler.onclick = () => this.toggle();
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      event.preventDefault();
      if (timeline.measure.span && timeline.measure.panel.contains(this.focused())) timeline.measure.close();
      timeline.canvas.focus({ preventScroll: true });
    });
    this.listen();
  }

  focused() { return this.root.getRootNode().activeElement; }

  read() {
    try { return JSON.parse(localStorage.getItem(DOCK_STORE)) || {}; } catch { return {}; }
  }

  save() {
    try { localStorage.setItem(DOCK_STORE, JSON.stringify({ side: this.side, sizes: this.sizes })); } catch { /* a private window */ }
  }

  // --- room ---------------------------------------------------------------------------------

  isBeside(width) { return this.side === "beside" && width >= BESIDE_FROM; }

  // What it takes of a stage: [width, height].
  taken(width, height) {
    if (!this.open) return [0, 0];
    const beside = this.isBeside(width), whole = beside ? width : height || PART_OF_PAGE;
    const least = DOCK[beside ? "beside" : "below"][1];
    const size = Math.round(clamp(this.sizes[beside ? "beside" : "below"], least, Math.max(DOCK_SHARE * whole, least)));
    return beside ? [size, 0] : [0, size];
  }

  place(width, height) {
    const [w, h] = this.taken(width, height), beside = this.isBeside(width);
    this.root.hidden = !this.open;
    this.toggler.setAttribute("aria-pressed", String(this.open));
    if (!this.open) return;
    this.root.classList.toggle("beside", beside);
    this.root.style.width = beside ? w + "px" : "";
    this.root.style.height = (beside ? height : h) + "px";
    this.edge.setAttribute("aria-orientation", beside ? "vertical" : "horizontal");
    const values = { min: DOCK[beside ? "beside" : "below"][1], now: beside ? w : h, max: beside ? width : height };
    for (const [name, value] of Object.entries(values)) this.edge.setAttribute("aria-value" + name, String(value));
    const side = this.root.querySelector(".side");
    side.hidden = width < BESIDE_FROM;
    side.title = beside ? "Below the lanes" : "Beside the lanes";
    side.setAttribute("aria-label", side.title);
  }

  toggle(open = !this.open) {
    if (open === this.open) return;
    const held = this.root.contains(this.focused());  // asked before it is hidden
    this.open = open;
    this.say();
    this.timeline.measureRoom();
    if (!open && held) this.timeline.canvas.focus({ preventScroll: true });
  }

  turn() {
    this.side = this.side === "beside" ? "below" : "beside";
    this.save();
    this.timeline.measureRoom();
  }

  resize(by) {
    const beside = this.root.classList.contains("beside"), key = beside ? "beside" : "below";
    const [w, h] = this.taken(this.timeline.stageWidth, this.timeline.stageHeight);
    this.sizes[key] = (beside ? w : h) + by;
    const [w2, h2] = this.taken(this.timeline.stageWidth, this.timeline.stageHeight);
    this.sizes[key] = beside ? w2 : h2;
    this.save();
    this.timeline.measureRoom();
  }

  listen() {
    const along = (event) => (this.root.classList.contains("beside") ? event.clientX : event.clientY);
    this.edge.addEventListener("pointerdown", (event) => {
      this.edge.setPointerCapture(event.pointerId);
      this.held = along(event);
      event.preventDefault();
    });
    this.edge.addEventListener("pointermove", (event) => {
      if (this.held === null || this.held === undefined) return;
      this.resize(this.held - along(event));
      this.held = along(event);
    });
    for (const end of ["pointerup", "pointercancel"]) this.edge.addEventListener(end, () => { this.held = null; });
    this.edge.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 24, ArrowLeft: 24, ArrowDown: -24, ArrowRight: -24 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.resize(by);
    });
  }

  // --- content ------------------------------------------------------------------------------

  say() {
    const { timeline } = this;
    this.event.hidden = !timeline.picked;
    this.nothing.hidden = !!(timeline.picked || timeline.measure.span);
  }

  // Something else is selected, or nothing.
  changed() {
    const something = this.timeline.picked || this.timeline.measure.span;
    if (something && !this.open) this.toggle(true);
    else if (!something && this.open) this.toggle(false);
    this.say();
  }

  // The picked event; what is not known yet comes with the server's answer.
  show(picked) {
    const focus = [...this.event.querySelectorAll("button")].indexOf(this.focused());
    const title = element("div", "event-title"), name = element("b", "", picked.title || picked.name || "…");
    const copy = element("button", "copy", "Copy name");
    copy.onclick = () => this.copy(picked.title || picked.name || "", copy);
    title.append(name, copy);
    const facts = element("dl", "facts");
    for (const [word, text] of picked.facts || []) facts.append(element("dt", "", word), element("dd", "", text));
    this.event.replaceChildren(title, ...this.chain(picked), facts);
    if (focus >= 0) this.event.querySelectorAll("button")[focus]?.focus({ preventScroll: true });
    this.changed();
  }

  chain(picked) {
    const links = picked.chain || [];
    if (links.length < 2) return [];
    const list = element("ol", "chain");
    list.setAttribute("aria-label", "What led to it, and what it ended");
    for (const link of links) {
      const item = element("li"), to = element("button");
      to.append(element("small", "", link.role), element("span", "", shorten(link.name)),
        element("em", "", duration(link.end - link.start)));
      to.title = `${link.name} · ${link.where} · from ${moment(link.start, 1)}`;
      if (link.event === picked.event) to.setAttribute("aria-current", "true");
      to.onclick = () => this.timeline.picking.goAlong(link);
      item.append(to);
      list.append(item);
    }
    return [list];
  }

  async copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { button.textContent = "Copying is not allowed here"; }
    setTimeout(() => { button.textContent = "Copy name"; }, 1500);
  }
}
