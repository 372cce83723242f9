// The labels left of a recording's lanes: real elements, but only for the rows on screen.
const DRAG_FROM = 4;  // px
const NARROW = 130;   // px, where a name and a scale do not fit beside each other

class Gutter {
  constructor(pane) {
    this.pane = pane;
    this.items = new Map();  // key -> element
    this.title = element("div", "title");
    this.name = element("b");
    this.trouble = element("span", "trouble");
    this.title.append(this.name, this.trouble);
    this.box = element("div", "gutter");
    this.pinned = element("div", "rows pinned");
    this.list = element("div", "rows");
    this.box.append(this.pinned, this.list);
    this.bar = element("div", "scrollbar");
    this.thumb = element("div", "thumb");
    this.bar.append(this.thumb);
    this.line = element("div", "drop");
    this.line.hidden = true;
    this.list.append(this.line);
    pane.timeline.frame.append(this.title, this.box, this.bar);
    this.listen();
  }

  remove() {
    for (const part of [this.title, this.box, this.bar]) part.remove();
  }

  setTitle(name) {
    this.name.textContent = name;
    this.name.title = name;
  }

  // Follow the rows that the pane shows now.
  sync() {
    const { pane } = this, { gutter: width } = pane.timeline;
    this.title.hidden = !pane.titleHeight;
    this.title.style.top = pane.top + "px";
    this.box.style.cssText = `top:${pane.top + pane.titleHeight}px;--gutter:${width}px;`
      + `height:${Math.max(pane.height - pane.titleHeight, 0)}px`;
    this.box.classList.toggle("narrow", width < NARROW);
    const split = pane.headHeight - pane.titleHeight;
    this.pinned.style.height = split + "px";
    this.pinned.hidden = !split;
    this.list.style.top = split + "px";
    const pinned = labelled(pane.shown.filter((item) => item.pinned), pane.top + pane.titleHeight);
    const listed = labelled(pane.shown.filter((item) => !item.pinned), pane.listTop);
    // What left the screen goes first, so that what stays need not move: moving takes the focus.
    for (const [key, item] of this.items) {
      if (pinned.has(key) || listed.has(key)) continue;
      item.remove();
      this.items.delete(key);
    }
    this.follow(this.pinned, pinned);
    this.follow(this.list, listed);
    this.syncScrollbar();
  }

  follow(box, labels) {
    let next = box.firstElementChild;
    for (const [key, { head, y, pinned }] of labels) {
      let item = this.items.get(key);
      if (!item) {
        item = head.heading ? this.heading(head) : this.track(head, pinned);
        this.items.set(key, item);
      }
      item.style.transform = `translateY(${y}px)`;
      item.style.height = (head.heading ? head.h : head.trackHeight) + "px";
      this.mark(item, head);
      if (item === next) next = next.nextElementSibling;
      else box.insertBefore(item, next);
    }
  }

  mark(item, head) {
    if (head.heading) {
      item.firstElementChild.setAttribute("aria-expanded", String(head.open));
      item.classList.toggle("open", head.open);
    } else item.lastElementChild.setAttribute("aria-pressed", String(head.isPinned));
  }

  heading({ group, h }) {
    const item = element("div", "group"), toggle = element("button", "toggle");
    toggle.append(element("i", "fold"), element("span", "", group.title));
    toggle.title = group.title;
    toggle.onclick = () => this.dragged ? null : this.toggle(group.id);
    const up = iconButton("up", "up", `Move ${group.title} up`);
    const down = iconButton("down", "down", `Move ${group.title} down`);
    up.onclick = () => this.shift(group.id, -1);
    down.onclick = () => this.shift(group.id, 2);
    const tools = element("span", "tools");
    tools.append(up, down);
    item.append(toggle, tools);
    item.style.height = h + "px";
    this.dragging(item, group.id);
    return item;
  }

  track(head, pinned) {
    const { info, group } = head, item = element("div", "track " + info.kind);
    const label = element("span", "label");
    if (pinned) label.append(element("small", "", group.title.split(" · ")[0]));
    label.append(info.label);
    label.title = `${info.label} (${group.title})`
      + (info.kind === "events" ? `: ${counted(info.count)} events` : "");
    item.append(label);
    if (info.kind === "counter") item.append(this.scale(info));
    const pin = iconButton("pin", "pin", pinned ? `Unpin ${info.label}` : `Pin ${info.label} on top`);
    pin.onclick = () => {
      this.pane.arrangement.pin(head.track);
      this.pane.arrange();
    };
    item.append(pin);
    return item;
  }

  scale(info) {
    const { low, high } = scaleOf(info), { unit } = info, scale = element("span", "scale");
    scale.append(element("span", "", amount(high, unit)), element("span", "", amount(low, "")));
    return scale;
  }

  toggle(id) {
    this.pane.arrangement.toggle(id);
    this.pane.arrange();
  }

  shift(id, by) {
    const button = this.box.getRootNode().activeElement;
    this.pane.arrangement.move(id, this.pane.arrangement.order.indexOf(id) + by);
    this.pane.arrange();
    const row = this.pane.rows.list.find((r) => r.heading && r.group.id === id);
    this.pane.scrollTo(row.y, row.h);
    this.pane.timeline.draw();
    button?.focus({ preventScroll: true });  // it was lost if the heading itself had to move
  }

  // --- the reader ---------------------------------------------------------------------------

  listen() {
    const { pane } = this;
    this.box.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return;
      // At the end of the lanes the page scrolls on.
      if (pane.scrollBy(pixels(event, event.deltaY))) event.preventDefault();
    }, { passive: false });
    this.box.addEventListener("focusin", (event) => {
      const item = event.target.closest(".rows:not(.pinned) > *");
      const key = [...this.items].find(([, one]) => one === item)?.[0];
      const row = key && pane.rows.list.find((r) => key === (r.track ?? (r.heading && "g " + r.group.id)));
      if (!row || !event.target.matches(":focus-visible")) return;
      pane.scrollTo(row.y, row.trackHeight || row.h);
      pane.timeline.draw();  // now, so that the next row is there for the next Tab
    });
    this.box.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      const buttons = [...this.box.querySelectorAll(".toggle, .pin")];
      buttons[buttons.indexOf(event.target) + by]?.focus();
      event.preventDefault();
    });
    this.thumb.addEventListener("pointerdown", (event) => {
      this.thumb.setPointerCapture(event.pointerId);
      this.held = event.clientY;
      event.preventDefault();
    });
    this.thumb.addEventListener("pointermove", (event) => {
      if (this.held === null || this.held === undefined) return;
      const free = this.bar.clientHeight - this.thumb.clientHeight;
      pane.scrollBy((event.clientY - this.held) / Math.max(free, 1) * pane.furthest);
      this.held = event.clientY;
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.thumb.addEventListener(end, () => { this.held = null; });
    }
    this.bar.addEventListener("pointerdown", (event) => {
      if (event.target === this.thumb) return;
      const below = event.offsetY > this.thumb.offsetTop;
      pane.scrollBy((below ? 1 : -1) * pane.listHeight * 0.9);
    });
  }

  syncScrollbar() {
    const { pane } = this, { listHeight: room, furthest } = pane;
    this.bar.hidden = furthest <= 0 || room <= 0;
    if (this.bar.hidden) return;
    const size = Math.max(room * room / (room + furthest), 28);
    this.bar.style.top = pane.listTop + "px";
    this.bar.style.height = room + "px";
    this.thumb.style.height = size + "px";
    this.thumb.style.transform = `translateY(${(room - size) * pane.scroll / furthest}px)`;
  }

  // A group is dragged by its heading; a line shows where it would go.
  dragging(item, id) {
    item.addEventListener("pointerdown", (down) => {
      if (down.button !== 0) return;
      let place = -1;
      this.dragged = false;
      // Listened for on the window, because a heading that holds the pointer would lose its click.
      const done = new AbortController(), { signal } = done;
      window.addEventListener("pointermove", (event) => {
        this.dragged ||= Math.abs(event.clientY - down.clientY) >= DRAG_FROM;
        if (this.dragged) place = this.dropPlace(event.clientY);
      }, { signal });
      const end = (event) => {
        done.abort();
        this.line.hidden = true;
        if (!this.dragged) return;
        setTimeout(() => { this.dragged = false; });  // the click that ends a drag comes first
        if (event.type === "pointerup") this.drop(id, place);
      };
      for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, end, { signal });
    });
  }

  drop(id, place) {
    this.pane.arrangement.move(id, place);
    this.pane.arrange();
  }

  dropPlace(clientY) {
    const { pane } = this, y = clientY - this.list.getBoundingClientRect().top + pane.scroll;
    const heads = pane.rows.list.filter((row) => row.heading);
    let place = heads.findIndex((row, i) => y < (row.y + (heads[i + 1]?.y ?? pane.rows.height)) / 2);
    if (place < 0) place = heads.length;
    this.line.hidden = false;
    this.line.style.top = (heads[place]?.y ?? pane.rows.height) - pane.scroll - 3 + "px";
    return place;
  }
}

// One label for each heading and track of the rows on screen, with its place below `top`.
function labelled(shown, top) {
  const labels = new Map();
  for (const { row, y, pinned } of shown) {
    const head = row.heading ? row : row.head;
    const key = (pinned ? "p " : "") + (head.track ?? "g " + head.group.id);
    if (!labels.has(key)) labels.set(key, { head, pinned, y: y - top + head.y - row.y });
  }
  return labels;
}
