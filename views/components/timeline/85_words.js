// What stands around the canvas: legend, notes, alignment, and what is said aloud.
const SAY_AFTER = 250;  // ms of rest
const NOTICE = 4000;    // ms that a notice stands where the length of the view does

class Words {
  constructor(timeline) {
    this.timeline = timeline;
    this.status = timeline.root.querySelector(".status");
  }

  dress() {
    const { timeline } = this, { panes, given: { align } } = timeline;
    const find = (name) => timeline.root.querySelector(name);
    find(".bar .mark").hidden = !panes.some((pane) => pane.given.mark);
    find(".align").hidden = !align;
    if (align) {
      find(".align .chosen").textContent = align.label;
      find(".align .chosen").title = "Both recordings are aligned here";
      find(".align .earlier").disabled = align.chosen <= 0;
      find(".align .later").disabled = align.chosen >= align.choices - 1;
    }
    find(".legend").replaceChildren(...this.legend());
    find(".notes").replaceChildren(...panes.flatMap((pane) => (pane.layout?.notes || [])
      .map((note) => element("p", "", panes.length > 1 ? `${pane.given.name}: ${note}` : note))));
    const lanes = panes.map((pane) => `${pane.given.name}, ${counted(pane.layout?.lanes.length || 0)} lanes`);
    timeline.canvas.setAttribute("aria-label", `Timeline of ${lanes.join(" and ")}. W and S zoom, A and D move, `
      + "arrow up and down scroll, comma and full stop select events, brackets follow a chain, slash searches, "
      + "M measures, 0 shows everything, F zooms to the selected event, question mark lists all keys.");
  }

  legend() {
    const { panes, palette, colors } = this.timeline;
    const used = new Set(panes.flatMap((pane) => pane.layout?.colors_used || []));
    return [...used].sort((one, other) => one - other).map((color) => {
      const entry = element("span"), swatch = element("i");
      swatch.style.background = palette[color];
      entry.append(swatch, colors[color]);
      return entry;
    });
  }

  // Something went wrong, or no longer does.
  note(pane, trouble = pane.error) {
    const { timeline } = this;
    timeline.stats.error = timeline.panes.map((one) => one.error).find(Boolean) || trouble || "";
    pane.gutter.trouble.textContent = pane.error;
    timeline.redraw();
    this.say();
  }

  // For those who do not see the canvas.
  speak(text, visible = false) {
    this.timeline.root.querySelector(".spoken").textContent = text;
    if (!visible) return;
    clearTimeout(this.saying);
    this.status.textContent = text;
    this.saying = setTimeout(() => this.say(), NOTICE);
  }

  picked({ name, start, end, lane }, pane) {
    const { label } = pane.rows?.byLane.get(lane)?.head.info || {};
    this.speak([name, duration(end - start), label, `from ${moment(start, 1)}`].filter(Boolean).join(", "));
  }

  measured(answers) {
    const told = answers.filter((answer) => answer?.devices).map(({ start, end, devices }) => [
      duration(end - start), ...devices.map(({ label, busy }) => `${label} ${percent(busy / (end - start || 1))} busy`),
    ].join(", "));
    if (told.length) this.speak("Measured " + told.join("; "));
  }

  say() {
    const { timeline, status } = this, { error } = timeline.stats, { ready } = timeline;
    status.classList.toggle("wrong", !!error);
    clearTimeout(this.saying);
    const write = (text) => { if (status.textContent !== text) status.textContent = text; };
    if (error) return write("The timeline could not be loaded: " + error);
    if (!ready) return write("Preparing the timeline …");
    const length = () => write(duration(timeline.view[1] - timeline.view[0]) + " in view");
    if (this.wasReady) this.saying = setTimeout(length, SAY_AFTER);  // when it rests; it is read aloud
    else length();
    this.wasReady = ready;
  }
}
