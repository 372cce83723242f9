// Marks and notes of the reader: moments and stretches with a word, kept in the page's address.
const FLAG = 9, NOTE_TEXT = 150;  // px: a flag's width, and the room of its text
const NOTE_Y = 15;                // px from the axis' top, where flags begin

class Notes {
  constructor(timeline) {
    this.timeline = timeline;
    this.list = [];       // { start, end, text } on the axis
    this.edited = null;
    this.form = timeline.root.querySelector(".note");
    this.box = this.form.querySelector("input");
    this.flags = timeline.root.querySelector(".flags");
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.keep();
    };
    this.form.querySelector(".drop-note").onclick = () => this.remove(this.edited);
    this.form.addEventListener("keydown", (event) => {
      event.stopPropagation();  // letters are letters here
      if (event.key === "Escape") this.keep();
    });
  }

  get most() { return this.timeline.given?.most_notes || [0, 0]; }

  take(list) {
    this.list = (list || []).map(([start, end, text]) => ({ start, end, text: String(text) }));
    this.close();
    this.dress();
  }

  // Mark a moment, or a stretch; the reader may write what it is.
  add(start, end) {
    const [most, length] = this.most;
    if (!most) return;
    [start, end] = [Math.round(start), Math.round(end)];  // as they come back from the address
    const same = this.list.find((note) => note.start === start && note.end === end);
    if (!same && this.list.length >= most) {
      return this.timeline.words.speak(`${most} marks at most: remove one first.`, true);
    }
    const note = same || { start, end, text: "" };
    if (!same) {
      this.list.push(note);
      this.list.sort((one, other) => one.start - other.start);
      this.tell();
    }
    this.box.maxLength = length;
    this.edit(note);
  }

  // What `m` with Shift marks: the measured stretch, else the picked event, else the view's middle.
  addHere() {
    const { timeline } = this, { picked } = timeline, { span } = timeline.measure;
    if (span) return this.add(span[0], span[1]);
    if (picked?.start !== undefined) {
      const offset = timeline.panes[picked.recording].given.offset || 0;
      return this.add(picked.start - offset, picked.end - offset);
    }
    const at = timeline.input.pointed();
    return this.add(at, at);
  }

  edit(note) {
    this.edited = note;
    this.box.value = note.text;
    this.form.hidden = false;
    this.place();
    this.box.focus({ preventScroll: true });
    this.timeline.redraw();
  }

  keep() {
    const { edited } = this;
    if (!edited) return;
    const text = this.box.value.trim().slice(0, this.most[1]);
    const changed = text !== edited.text;
    edited.text = text;
    this.close();
    if (changed) this.tell();
    this.timeline.canvas.focus({ preventScroll: true });
  }

  remove(note) {
    this.list = this.list.filter((one) => one !== note);
    this.close();
    this.tell();
    this.timeline.canvas.focus({ preventScroll: true });
  }

  close() {
    this.edited = null;
    this.form.hidden = true;
    this.timeline.redraw();
  }

  tell() {
    const { timeline } = this, list = this.list.map(({ start, end, text }) => [start, end, text]);
    timeline.tell("notes", { key: timeline.given.view_key, list });
    this.dress();
    timeline.redraw();
  }

  // The same as buttons: for the keyboard, and for those who do not see the canvas.
  dress() {
    const before = this.flags.hidden;
    this.flags.hidden = !this.list.length;
    this.flags.replaceChildren(...this.list.map((note) => {
      const item = element("span", "flag"), words = note.text || "mark";
      item.setAttribute("role", "listitem");
      const to = element("button", "", `${words} · ${this.where(note)}`);
      to.title = "Show it";
      to.onclick = () => this.go(note);
      const away = iconButton("close", "close", `Remove ${words}`);
      away.onclick = () => this.remove(note);
      item.append(to, away);
      return item;
    }));
    if (before !== this.flags.hidden && this.timeline.given) this.timeline.measureRoom();
  }

  where({ start, end }) { return end > start ? duration(end - start) : moment(start, 1000); }

  go({ start, end }) {
    const { timeline } = this, [a, b] = timeline.view;
    if (end > start) return timeline.show(...around([start, end]));
    const half = (b - a) / 2;
    timeline.show(start - half, start + half);
  }

  // The note whose flag is at a point of the axis.
  at(x, y) {
    const top = this.timeline.minimap.height;
    if (y < top + NOTE_Y - 4 || y >= top + AXIS) return null;
    return [...this.list].reverse().find((note) => {
      const left = this.timeline.x(note.start);
      return x >= left - 3 && x <= left + FLAG + this.textWidth(note);
    }) || null;
  }

  // Whether a flag lies between two places of the axis, where times would stand under it.
  covers(from, to) {
    return this.list.some((note) => {
      const x = this.timeline.x(note.start);
      return x < to && x + FLAG + this.textWidth(note) > from;
    });
  }

  textWidth({ text }) {
    const { g, theme } = this.timeline;
    g.font = "11px " + theme.font;
    return text ? Math.min(g.measureText(text).width + 6, NOTE_TEXT) : 0;
  }

  // Flags within the axis, and lines through the lanes.
  draw(g) {
    const { timeline } = this, { theme, gutter, width, height } = timeline, top = timeline.minimap.height;
    if (!this.list.length) return;
    g.save();
    clip(g, gutter - 1, top, width - gutter + 1, height - top);
    for (const note of this.list) {
      const x = Math.round(timeline.x(note.start)), to = timeline.x(note.end), strong = note === this.edited;
      if (to < gutter - NOTE_TEXT || x > width) continue;
      g.fillStyle = theme.flag;
      if (note.end > note.start) {
        g.globalAlpha = strong ? 0.14 : 0.06;
        g.fillRect(x, top + AXIS, to - x, height - top - AXIS);
        g.globalAlpha = 0.8;
        g.fillRect(Math.round(to) - 1, top + NOTE_Y, 1, height - top - NOTE_Y);
        g.fillRect(x, top + AXIS - 2, to - x, 2);
      }
      g.globalAlpha = 0.8;
      g.fillRect(x, top + NOTE_Y - 2, 1, height - top - NOTE_Y + 2);
      g.globalAlpha = 1;
      const room = this.textWidth(note);
      g.beginPath();
      g.moveTo(x, top + NOTE_Y - 2);
      g.lineTo(x + FLAG + room, top + NOTE_Y - 2);
      g.lineTo(x + FLAG + room - 4, top + NOTE_Y + 4);
      g.lineTo(x + FLAG + room, top + AXIS - 2);
      g.lineTo(x, top + AXIS - 2);
      g.fill();
      if (!room) continue;
      g.font = "11px " + theme.font;
      g.fillStyle = theme.onFlag;
      g.fillText(fit(g, note.text, room - 4), x + 4, top + NOTE_Y + 4.5);
    }
    g.restore();
  }

  // Where they are in the whole recording.
  drawSmall(g, minimap) {
    const { theme } = this.timeline;
    g.fillStyle = theme.flag;
    for (const { start } of this.list) g.fillRect(Math.round(minimap.x(start)), 1, 2, minimap.height - 3);
  }

  place() {
    if (!this.edited) return;
    const { timeline, form } = this, { gutter, width } = timeline;
    const x = clamp(timeline.x(this.edited.start), gutter, width - 20);
    form.style.left = clamp(x, 4, Math.max(width - form.offsetWidth - 6, 4)) + "px";
    form.style.top = timeline.top + 4 + "px";
  }
}
