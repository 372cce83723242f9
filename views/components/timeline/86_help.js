// Keys and gestures, behind "?".
const KEYS = [
  ["Move", [
    ["W  S", "zoom in and out, at the pointer"], ["A  D", "left and right"], ["wheel", "zoom; with Shift, or sideways: move"],
    ["drag", "move; two fingers zoom"], ["↑ ↓  Page  Home  End", "scroll the lanes"], ["0", "everything that was recorded"],
  ]],
  ["Select", [
    ["click", "details of an event"], ["double-click", "zoom to it"], ["F", "centre the event; again: zoom to it"],
    [",  .", "the event before and after it in its lane"], ["[  ]", "back and forth along its chain: range, call, kernel, wait"],
    ["Escape", "leave the search box; then: drop the measure, the event, the search"],
  ]],
  ["Measure and mark", [
    ["Shift + drag", "measure a stretch (touch: hold, then drag)"], ["M", "measure the event, else the view"],
    ["Shift + M", "keep it as a mark with a note, in the address"], ["click on the axis", "mark a moment"],
  ]],
  ["Find", [
    ["/", "search box; a text, or a query"], ["N  Shift + N", "next and previous match"],
  ]],
  ["Room", [
    ["Q", "details open and closed"], ["Shift + F", "only the timeline"], ["?", "these keys"],
  ]],
];
const HELP_NOTE = "Where there are too many events to draw, the height of a column is the share of time that they cover. "
  + "Times count from the first event.";

class Help {
  constructor(timeline) {
    this.root = timeline.root.querySelector(".help");
    const close = iconButton("close", "close", "Close (Escape)"), head = element("div", "line");
    close.onclick = () => this.root.close();
    head.append(element("b", "", "Keys and gestures"), close);
    const parts = KEYS.map(([title, keys]) => {
      const part = element("section"), list = element("dl");
      for (const [key, words] of keys) list.append(element("dt", "", key), element("dd", "", words));
      part.append(element("h4", "", title), list);
      return part;
    });
    const columns = element("div", "columns");
    columns.append(...parts);
    this.root.append(head, columns, element("p", "", HELP_NOTE));
    this.root.addEventListener("click", (event) => { if (event.target === this.root) this.root.close(); });
    this.root.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "?") this.root.close();
    });
    timeline.root.querySelector(".bar .keys").onclick = () => this.toggle();
  }

  toggle() {
    if (this.root.open) this.root.close();
    else this.root.showModal();
  }
}
