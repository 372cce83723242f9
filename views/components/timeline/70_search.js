// Finds events by name: how many, and from one to the next.
const FIND_AFTER = 250;  // ms after the last letter

class Search {
  constructor(timeline) {
    this.timeline = timeline;
    const find = (name) => timeline.root.querySelector(".search ." + name);
    [this.box, this.count, this.back, this.on, this.forms] = ["find", "count", "previous", "next", "forms"].map(find);
    this.wrong = this.hint = "";  // what the server says of a query that it cannot answer, or that finds nothing
    this.text = "";
    this.counts = [];     // matches of each recording
    this.current = null;  // { recording, place, event, start }
    this.round = 0;
    this.box.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.set(this.box.value), FIND_AFTER);
    });
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("focus", () => this.offer());
    this.box.addEventListener("blur", () => this.offer(false));
    // A press on a form must not take the focus from the box, which would close them.
    this.forms.addEventListener("pointerdown", (event) => event.preventDefault());
    this.back.onclick = () => this.go(-1);
    this.on.onclick = () => this.go(1);
  }

  key(event) {
    event.stopPropagation();  // letters are letters here
    if (event.key === "Enter") {
      event.preventDefault();
      this.set(this.box.value);
      this.go(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.set(this.box.value);
      this.timeline.canvas.focus();
    }
  }

  // The accepted forms, below the box: while it is empty, and where a query is wrong.
  offer(focused = this.box.getRootNode().activeElement === this.box) {
    const told = this.wrong || this.hint, open = focused && (told || !this.box.value.trim());
    this.forms.hidden = !open;
    if (!open || !this.formsGiven) return;
    const list = element("ul");
    for (const [form, words] of this.formsGiven) {
      const item = element("li"), use = element("button", "", form);
      use.tabIndex = -1;
      use.onclick = () => {
        this.box.value = form;
        this.set(form);
      };
      item.append(use, element("span", "", words));
      list.append(item);
    }
    const words = element("p", told ? "wrong" : "", told || "A text is looked for in names. Or ask:");
    words.setAttribute("role", told ? "alert" : "note");
    this.forms.replaceChildren(words, list);
  }

  get pending() { return this.typing ? 1 : 0; }

  clear() {
    this.box.value = "";
    this.set("");
  }

  // `tell`: the reader did it, Python does not know yet.
  set(text, tell = true) {
    clearTimeout(this.typing);
    this.typing = null;
    text = text.trim();
    if (text === this.text) return;
    this.text = text;
    this.counts = [];
    this.current = null;
    this.trouble = this.wrong = this.hint = "";
    if (this.box.value.trim() !== text) this.box.value = text;
    this.say();
    this.timeline.moved();
    if (tell) this.timeline.tellFind(text);
    if (text) this.countAll();
  }

  // What is searched has changed, the text has not.
  again() {
    this.counts = [];
    this.current = null;
    this.round += 1;
    this.say();
    if (this.text) this.countAll();
  }

  async countAll() {
    const round = ++this.round, { panes } = this.timeline;
    try {
      const found = await Promise.all(panes.map((pane) => this.ask(pane, 0, 0, -1)));
      if (round !== this.round) return;
      this.counts = found.map((answer) => answer.count);
      this.learn(found);
    } catch (error) {
      if (round !== this.round || error.name === "AbortError") return;
      this.trouble = String(error.message || error);
    }
    this.say();
  }

  // A wrong query shows no match; nothing is dimmed for it.
  learn(answers) {
    const before = this.wrong, none = answers.every((answer) => !answer.count);
    this.wrong = answers.map((answer) => answer.wrong).find(Boolean) || "";
    this.hint = none && answers.map((answer) => answer.hint).find(Boolean) || "";
    if (before !== this.wrong) this.timeline.moved();
    this.offer();
  }

  async ask(pane, from, direction, event) {
    const query = { text: this.text, from: Math.round(from), direction, event };
    return (await pane.ask("find", query)).head;
  }

  // To the next match, or the one before. Of keys that come faster than answers the last is kept:
  // if each replaced the one under way, holding the key would lead nowhere.
  async go(direction) {
    if (!this.text) return this.box.focus();
    this.wanted = direction;
    if (this.going) return;
    this.going = true;
    while (this.wanted && this.text) {
      const by = this.wanted;
      this.wanted = 0;
      await this.step(by);
    }
    this.going = false;
  }

  // Through the first recording, then through the second.
  async step(direction) {
    const text = this.text, round = ++this.round, { panes } = this.timeline;
    let { recording, start, event } = this.from(direction);
    try {
      for (let tries = 0; tries <= panes.length; tries++) {
        const found = await this.ask(panes[recording], start, direction, event);
        if (round !== this.round || text !== this.text) return;
        this.counts[recording] = found.count;
        if (found.wrong) break;
        const place = this.current?.recording === recording ? this.current.place : null;
        const wrapped = event >= 0 && place !== null && (found.place - place) * direction <= 0;
        if (found.count && (!wrapped || panes.length === 1)) return this.arrive(recording, found);
        recording = (recording + direction + panes.length) % panes.length;
        [start, event] = [direction > 0 ? 0 : panes[recording].layout?.duration || 0, -1];
        this.current = null;
      }
    } catch (error) {
      if (round !== this.round || error.name === "AbortError") return;
      this.trouble = String(error.message || error);
    }
    this.say();
  }

  // From the event that was picked since, else the match shown last, else the edge of the view.
  from(direction) {
    const { picked, view, panes } = this.timeline, { current } = this;
    const other = picked && (picked.recording !== current?.recording || picked.event !== current?.event);
    if (current && !other) return current;
    this.current = null;
    if (picked?.start !== undefined) return { recording: picked.recording, start: picked.start, event: picked.event };
    const recording = direction > 0 ? 0 : panes.length - 1, offset = panes[recording].given.offset || 0;
    return { recording, start: (direction > 0 ? view[0] : view[1]) + offset, event: -1 };
  }

  arrive(recording, found) {
    this.current = { recording, place: found.place, event: found.event, start: found.start };
    this.trouble = "";
    this.say();
    this.timeline.go({ recording, ...found });
    if (this.counts.filter((n) => n !== undefined).length < this.timeline.panes.length) this.countAll();
  }

  // What the tests and the reader see: { count, place }.
  get found() {
    if (!this.text || !this.counts.length) return null;
    const count = this.counts.reduce((sum, n) => sum + (n || 0), 0), { current } = this;
    if (!current) return { count, place: 0 };
    const before = this.counts.slice(0, current.recording).reduce((sum, n) => sum + (n || 0), 0);
    return { count, place: before + current.place, recording: current.recording, event: current.event };
  }

  say() {
    const { found } = this;
    this.count.title = this.trouble || "";
    if (!this.text) this.count.textContent = "";
    else if (this.trouble) this.count.textContent = "search failed";
    else if (this.wrong) this.count.textContent = "not a query";
    else if (!found) this.count.textContent = "…";
    else if (!found.count) this.count.textContent = "no match";
    else if (found.place) this.count.textContent = `${counted(found.place)} of ${counted(found.count)}`;
    else this.count.textContent = counted(found.count) + (found.count === 1 ? " match" : " matches");
    this.box.setAttribute("aria-invalid", String(!!this.wrong));
    this.back.disabled = this.on.disabled = !found?.count;
  }
}
